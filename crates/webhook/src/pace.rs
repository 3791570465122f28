//! The work that the policies of each namespace make over all reviews, so that no namespace takes the processor from
//! others.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use tagpin_domain::work::{Budget, STEPS};

/// Number of steps that the policies of a namespace may take for any object, whatever they took before. An object with
/// three images takes about 8,000 under four policies.
const FREE: u32 = 10_000;
/// Time for which a step beyond [`FREE`] counts: 10 million are free again each second, which is at most 100 ms of one
/// processor.
const STEP: Duration = Duration::from_nanos(100);
/// Time for which the steps of a namespace may count together before objects get fewer. They count for twice as long at
/// most.
const MOST: Duration = Duration::from_secs(1);

/// The namespaces whose policies took many steps lately.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The time when no step of the namespace counts any more.
    until: Mutex<HashMap<Box<str>, Instant>>,
}

impl Pace {
    /// Returns the budget for an object in this namespace.
    pub(crate) fn budget(&self, namespace: &str, now: Instant) -> Budget {
        let until = self.until.lock().get(namespace).copied();
        let Some(until) = until else { return Budget::default() };
        let free = MOST.saturating_sub(until.saturating_duration_since(now));
        let steps = free.as_nanos() / STEP.as_nanos();
        Budget::for_namespace(u32::try_from(steps).unwrap_or(STEPS).max(FREE))
    }

    /// Counts the steps that the policies of this namespace took for an object.
    pub(crate) fn count(&self, namespace: &str, steps: u32, now: Instant) {
        if steps < FREE {
            return;
        }
        let mut all = self.until.lock();
        all.retain(|_, until| *until > now);
        let until = all.entry(namespace.into()).or_insert(now);
        *until = (*until + STEP * steps).min(now + 2 * MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_took_all_gets_little_until_time_has_passed() {
        let (pace, start) = (Pace::default(), Instant::now());
        let left = |namespace, after: u64| {
            pace.budget(namespace, start + Duration::from_millis(after)).namespaced_steps()
        };
        assert_eq!(left("loud", 0), STEPS);
        for _ in 0..10 {
            pace.count("loud", STEPS, start);
        }
        assert_eq!((left("loud", 0), left("shop", 0)), (FREE, STEPS));
        assert_eq!((left("loud", 10), left("loud", 100)), (100_000, STEPS));
        // Ordinary objects never count.
        (0..10_000).for_each(|_| pace.count("shop", FREE - 1, start));
        assert_eq!(left("shop", 0), STEPS);
        pace.count("shop", STEPS, start + Duration::from_secs(2));
        assert_eq!(pace.until.lock().len(), 1, "what counts no more is kept");
    }

    #[test]
    fn a_flood_never_leaves_a_namespace_without_steps() {
        let (pace, start) = (Pace::default(), Instant::now());
        for _ in 0..10_000 {
            let steps = pace.budget("loud", start).namespaced_steps();
            assert!(steps >= FREE);
            pace.count("loud", steps, start);
        }
        // What was taken while nothing was left counts too, but not for long.
        assert_eq!(pace.budget("loud", start + MOST).namespaced_steps(), FREE);
        assert_eq!(pace.budget("loud", start + 2 * MOST).namespaced_steps(), STEPS);
    }
}
