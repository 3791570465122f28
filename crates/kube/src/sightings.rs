//! The times at which this replica first saw the revisions of workloads. The first pod of a revision gets no answer of
//! a registry that was asked for before that time.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use parking_lot::RwLock;
use tokio::time::Instant;

/// Maximum number of revisions, of 24 bytes each. Beyond it the oldest are forgotten; a pod of theirs without a sibling
/// costs another look-up.
const LIMIT: usize = 64 * 1024;
/// Part of the revisions that is forgotten at the limit, as a divisor.
const FORGOTTEN: usize = 8;

/// One revision in its parts, as in [`Revision`](tagpin_domain::pin::Revision).
#[derive(Debug, Clone, Copy, Hash)]
pub(crate) struct Sighted<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) controller: &'a str,
    pub(crate) hash: &'a str,
}

/// The times of the first sightings. A revision is kept as a keyed hash, because its names take ten times the memory.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    first: RwLock<HashMap<u64, Instant>>,
    hasher: RandomState,
}

impl Sightings {
    /// Returns the time at which the revision was first seen: `now` if this is the first time.
    pub(crate) fn first_seen(&self, revision: Sighted<'_>, now: Instant) -> Instant {
        let key = self.hasher.hash_one(revision);
        if let Some(first) = self.first.read().get(&key) {
            return *first;
        }
        let mut first = self.first.write();
        if first.len() >= LIMIT && !first.contains_key(&key) {
            forget_oldest(&mut first);
        }
        *first.entry(key).or_insert(now)
    }

    /// Forgets a revision that is gone.
    pub(crate) fn forget(&self, revision: Sighted<'_>) {
        self.first.write().remove(&self.hasher.hash_one(revision));
    }
}

fn forget_oldest(first: &mut HashMap<u64, Instant>) {
    let mut times: Vec<Instant> = first.values().copied().collect();
    let forgotten = times.len() / FORGOTTEN;
    if forgotten < times.len() {
        let (_, newest_forgotten, _) = times.select_nth_unstable(forgotten);
        let newest_forgotten = *newest_forgotten;
        first.retain(|_, time| *time > newest_forgotten);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sighted(controller: &str) -> Sighted<'_> {
        Sighted { namespace: "shop", controller, hash: "5d4f" }
    }

    #[test]
    fn a_revision_is_its_namespace_its_controller_and_its_hash() {
        let (sightings, start) = (Sightings::default(), Instant::now());
        let later = start + Duration::from_secs(1);
        assert_eq!(sightings.first_seen(sighted("a"), start), start);
        assert_eq!(sightings.first_seen(sighted("a"), later), start);
        for other in [
            sighted("b"),
            Sighted { namespace: "other", ..sighted("a") },
            Sighted { hash: "", ..sighted("a") },
            Sighted { namespace: "sho", controller: "pa", hash: "5d4f" },
        ] {
            assert_eq!(sightings.first_seen(other, later), later, "{other:?}");
        }
        sightings.forget(sighted("a"));
        assert_eq!(sightings.first_seen(sighted("a"), later), later);
    }

    #[test]
    fn the_oldest_revisions_are_forgotten_at_the_limit() {
        let (sightings, start) = (Sightings::default(), Instant::now());
        let at = |number: usize| start + Duration::from_millis(number as u64);
        for number in 0..=LIMIT {
            sightings.first_seen(sighted(&number.to_string()), at(number));
        }
        let held = sightings.first.read().len();
        assert!(held < LIMIT && held > LIMIT / 2, "{held}");
        let now = at(2 * LIMIT);
        assert_eq!(sightings.first_seen(sighted("0"), now), now);
        for kept in [LIMIT / 2, LIMIT] {
            assert_eq!(sightings.first_seen(sighted(&kept.to_string()), now), at(kept));
        }
    }
}
