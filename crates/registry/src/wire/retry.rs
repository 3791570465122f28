//! Decides whether a response is worth a retry, and after which pause. The session decides how often; the retry of
//! a connection is part of following a request.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

use crate::wire::message::HttpResponse;

/// Maximum wait that a registry may ask for; longer waits are cut to this.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Maximum wait that fits into a review.
const BEARABLE: Duration = Duration::from_secs(2);
/// Minimum pause before a retry after "too many requests" without a time.
const LIMITED: Duration = Duration::from_secs(1);
/// Minimum pause before a retry of a failed request; the maximum is three times as long.
const PAUSE: Duration = Duration::from_millis(100);

/// Minimum time before the deadline for which a retry is worth it.
pub(crate) const WORTH: Duration = Duration::from_millis(200);

/// Returns the pause before the request is sent again because of this response; none if that would not help.
pub(crate) fn pause_before_retry(answer: &HttpResponse) -> Option<Duration> {
    let asked = retry_after(answer);
    match answer.status {
        429 => Some(asked.unwrap_or_else(|| LIMITED + jitter())).filter(|wait| *wait <= BEARABLE),
        408 | 500 | 502 | 503 | 504 => match asked {
            None => Some(jitter()),
            Some(wait) => (wait <= BEARABLE).then_some(wait),
        },
        _ => None,
    }
}

/// Parses `Retry-After`, in seconds or as a date (RFC 9110 section 10.2.3), cut to 15 minutes.
pub(crate) fn retry_after(answer: &HttpResponse) -> Option<Duration> {
    parse(answer.header("retry-after")?, Timestamp::now())
}

fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // A number that overflows is a long time.
        return Some(value.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let then = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    let wait = then.duration_since(now);
    Some(Duration::try_from(wait).unwrap_or(Duration::ZERO).min(LONGEST))
}

/// Returns the pause before a connection is tried again. It is random, because replicas that fail together must not retry together.
pub(super) fn jitter() -> Duration {
    PAUSE.mul_f64(1.0 + 2.0 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_from_seconds_and_from_a_date_and_never_beyond_a_quarter_of_an_hour() {
        let now: Timestamp = "2026-11-06T08:49:37Z".parse().unwrap();
        for (value, seconds) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("86400", Some(900)),
            ("99999999999999999999999999", Some(900)),
            ("Fri, 06 Nov 2026 08:49:39 GMT", Some(2)),
            ("Fri, 06 Nov 2026 20:49:39 GMT", Some(900)),
            ("Fri, 06 Nov 2026 08:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 9999 08:49:37 GMT", None),
            ("", None),
            ("-1", None),
            ("soon", None),
            ("1.5", None),
        ] {
            assert_eq!(parse(value, now).map(|wait| wait.as_secs()), seconds, "{value}");
        }
    }

    #[test]
    fn a_limit_without_a_time_is_waited_for_a_second() {
        let pause = |headers: &[(&str, &str)]| pause_before_retry(&HttpResponse::of(429, headers, b""));
        assert!((1100..1300).contains(&pause(&[]).unwrap().as_millis()));
        assert!((1100..1300).contains(&pause(&[("retry-after", "tomorrow")]).unwrap().as_millis()));
        assert_eq!(pause(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
        assert_eq!(pause(&[("retry-after", "3")]), None);
    }

    #[test]
    fn the_pause_is_between_a_tenth_and_three_tenths_of_a_second() {
        for _ in 0..100 {
            assert!((100..300).contains(&jitter().as_millis()));
        }
    }
}
