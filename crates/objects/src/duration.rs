//! Durations as Kubernetes writes them (`metav1.Duration`): `168h`, `1h30m`, `0s`.

use std::time::Duration;

/// The reason why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text does not follow the grammar.
    #[error("is not a duration; write hours, minutes and seconds as 168h, 1h30m or 0s")]
    Syntax,
    /// The duration is too long.
    #[error("is longer than a duration can be")]
    Overflow,
}

/// Parses numbers with units (`h`, `m`, `s`, `ms`, fractions allowed) and adds them up. A bare `0` needs no
/// unit.
///
/// # Errors
/// Fails if the text is anything else (signs included), or longer than 2⁶⁴ nanoseconds.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(DurationError::Syntax);
    }
    let mut rest = text;
    let mut nanoseconds = 0_u64;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            None => ("", after),
            Some(after) => digits(after),
        };
        if whole.is_empty() {
            return Err(DurationError::Syntax);
        }
        let end = after.bytes().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            _ => return Err(DurationError::Syntax),
        };
        let whole: u64 = whole.parse().map_err(|_| DurationError::Overflow)?;
        let part = whole
            .checked_mul(unit)
            .and_then(|part| part.checked_add(fraction_of(fraction, unit)))
            .ok_or(DurationError::Overflow)?;
        nanoseconds = nanoseconds.checked_add(part).ok_or(DurationError::Overflow)?;
        rest = after;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Splits a text after its leading digits.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len()))
}

/// Returns a decimal fraction of a unit. Digits below a nanosecond are dropped.
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let mut scale = unit;
    digits.bytes().fold(0, |sum, digit| {
        scale /= 10;
        sum + u64::from(digit.saturating_sub(b'0')) * scale
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up() {
        for (text, expected) in [
            ("168h", Duration::from_hours(168)),
            ("1h30m", Duration::from_mins(90)),
            ("0s", Duration::ZERO),
            ("0", Duration::ZERO),
            ("1.5s", Duration::from_millis(1500)),
            ("1.s", Duration::from_secs(1)),
            ("250ms", Duration::from_millis(250)),
            ("1h1m1s1ms", Duration::from_millis(3_661_001)),
            ("0.25h", Duration::from_mins(15)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "7d", "1", "h", "-1h", "+1h", "1 h", " 1h", "1h-3m", "1e3s", "1hh", ".", "1,5s", "１h"]
        {
            assert_eq!(parse(text), Err(DurationError::Syntax), "{text}");
        }
        for text in ["9999999h", "99999999999999999999s", "5000000h5000000h"] {
            assert_eq!(parse(text), Err(DurationError::Overflow), "{text}");
        }
    }
}
