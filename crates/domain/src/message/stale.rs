//! The warnings about pins that no answer of a registry confirms.

use std::time::Duration;

use crate::denial::{Violation, shown};
use crate::fact::Unavailable;
use crate::message::{NAME_SHOWN, REFERENCE_SHOWN, WARNING_BYTES, about, limited};
use crate::verdict::{PinSource, Verdict};
use crate::wording::Wording;

/// Returns the warnings about slots that are pinned to the last known digest, as many and as long as those of
/// [`warnings`](super::warnings).
#[must_use]
pub fn stale_warnings(verdicts: &[Verdict]) -> Vec<String> {
    let stale = verdicts.iter().filter_map(|verdict| match verdict.pinned.as_ref()?.source {
        PinSource::LastKnown { age, cause } => Some(Stale { verdict, age, cause }),
        PinSource::Sibling | PinSource::Registry => None,
    });
    limited(&stale.collect::<Vec<_>>(), warning)
}

/// A slot that is pinned to the last known digest.
struct Stale<'a> {
    verdict: &'a Verdict,
    age: Duration,
    cause: Option<Unavailable>,
}

/// Returns one warning of one line that fits, with a shorter reference and without the host if need be.
fn warning(stale: &Stale<'_>) -> String {
    let Stale { verdict, age, cause } = *stale;
    let slot = &verdict.place.key;
    let (noun, name, age) = (slot.role.noun(), shown(&slot.name, NAME_SHOWN), ago(age));
    let violation = cause.map_or(Violation::RateLimited, Violation::RegistryUnavailable);
    let named = Wording::new(&violation, &about(verdict)).problem();
    let line = |limit: usize, problem: &str| {
        let reference = shown(&verdict.reference, limit);
        format!(
            "image \"{reference}\" ({noun} {name}): {problem}; pinned to the digest that the tag named {age} ago"
        )
    };
    let full = [REFERENCE_SHOWN, 60, 20].map(|limit| line(limit, &named));
    full.into_iter()
        .find(|line| line.len() <= WARNING_BYTES)
        .unwrap_or_else(|| line(20, if cause.is_some() { "no answer" } else { "the rate limit is reached" }))
}

/// Returns a time as people say it, rounded down: `45 s`, `3 min`, `5 h`, `6 d`.
fn ago(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::image::ImageRef;
    use crate::slot::tests::container;
    use crate::verdict::Pinned;

    fn pinned(reference: &str, source: PinSource) -> Verdict {
        let slot = container("web", 0, reference);
        let digest = Digest::parse(&format!("sha256:{}", "0f".repeat(32))).unwrap();
        let verdict = Verdict::new(slot.place, reference.into(), ImageRef::parse(reference));
        Verdict { pinned: Some(Pinned { digest, source }), ..verdict }
    }

    fn stale(reference: &str, seconds: u64, cause: Option<Unavailable>) -> Verdict {
        pinned(reference, PinSource::LastKnown { age: Duration::from_secs(seconds), cause })
    }

    #[test]
    fn only_a_pin_to_a_last_known_digest_is_warned_of_with_the_reason() {
        let verdicts = [
            pinned("nginx:1", PinSource::Registry),
            stale("nginx:1", 200, Some(Unavailable::Timeout)),
            pinned("nginx:1", PinSource::Sibling),
            stale("ghcr.io/acme/api:2", 10, None),
        ];
        assert_eq!(
            stale_warnings(&verdicts),
            [
                "image \"nginx:1\" (container web): docker.io did not answer in time; pinned to the digest that the tag \
                 named 3 min ago",
                "image \"ghcr.io/acme/api:2\" (container web): the rate limit of ghcr.io is reached; pinned to the digest \
                 that the tag named 10 s ago",
            ]
        );
    }

    #[test]
    fn a_warning_fits_whatever_the_reference_is() {
        let hosts = ["a.".repeat(100), "b.".repeat(20), "c.".repeat(5)].map(|host| host + "example");
        for (host, path) in hosts.iter().flat_map(|host| [1, 60, 200].map(|path| (host, "p".repeat(path)))) {
            for cause in
                [None, Some(Unavailable::Timeout), Some(Unavailable::Tls), Some(Unavailable::NotInCache)]
            {
                let mut verdict = stale(&format!("{host}/{path}:1"), 9, cause);
                verdict.place.key.name = "n".repeat(63).into();
                let [warning] = &stale_warnings(&[verdict])[..] else { panic!("one warning") };
                assert!(warning.len() <= WARNING_BYTES && warning.ends_with(" 9 s ago"), "{warning}");
            }
        }
        let many = vec![stale("nginx:1", 9, None); 7];
        assert_eq!(stale_warnings(&many).len(), 6);
        assert_eq!(stale_warnings(&many)[5], "... and 2 more warnings of tagpin");
    }

    #[test]
    fn an_age_has_one_unit() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_599, "59 min"),
            (3_600, "1 h"),
            (172_799, "47 h"),
            (604_800, "7 d"),
        ] {
            assert_eq!(ago(Duration::from_secs(seconds)), text);
        }
    }
}
