//! The pull secrets that were read a moment ago, bounded in bytes and in time.

use std::hash::RandomState;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use tokio::time::Instant;

use crate::credentials::keyring::Keyring;
use crate::credentials::operator::SecretRef;
use crate::observe::Skipped;

/// Maximum bytes of all secrets in memory.
const CAPACITY: u64 = 4 * 1024 * 1024;
/// Estimated number of secrets. It is small enough for a single shard, which holds large secrets too: no entry may
/// weigh more than its shard.
const ESTIMATE: usize = 32;

/// The content of a secret when it was read.
pub(super) struct Reading {
    pub(super) content: Result<Keyring, Skipped>,
    pub(super) until: Instant,
    pub(super) bytes: usize,
}

impl Reading {
    /// Returns the credentials of the secret.
    ///
    /// # Errors
    /// Returns the reason why there are none.
    pub(super) fn keyring(&self) -> Result<&Keyring, Skipped> {
        self.content.as_ref().map_err(|why| *why)
    }
}

/// Readings by the name of their secret. The hash cannot be foreseen by those who choose the names.
pub(super) struct Memory(Cache<SecretRef, Arc<Reading>, Weight, RandomState>);

impl Default for Memory {
    fn default() -> Self {
        Self(Cache::with(ESTIMATE, CAPACITY, Weight, RandomState::new(), DefaultLifecycle::default()))
    }
}

impl Memory {
    /// Returns what was read of a secret, while it counts.
    pub(super) fn get(&self, secret: &SecretRef, now: Instant) -> Option<Arc<Reading>> {
        self.0.get(secret).filter(|reading| reading.until > now)
    }

    /// Keeps a reading, and drops those that no longer count, so that no password stays in memory.
    pub(super) fn put(&self, secret: SecretRef, reading: Arc<Reading>, now: Instant) {
        self.0.retain(|_, reading| reading.until > now);
        self.0.insert(secret, reading);
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<SecretRef, Arc<Reading>> for Weight {
    fn weight(&self, secret: &SecretRef, reading: &Arc<Reading>) -> u64 {
        // Parsed, a configuration takes a few times the room of its text.
        (1024 + secret.namespace.len() + secret.name.len() + 4 * reading.bytes) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn secret(name: usize) -> SecretRef {
        SecretRef { namespace: "shop".to_owned(), name: name.to_string() }
    }

    fn reading(bytes: usize, until: Instant) -> Arc<Reading> {
        Arc::new(Reading { content: Ok(Keyring::default()), until, bytes })
    }

    #[test]
    fn a_reading_that_no_longer_counts_is_dropped_at_the_next_one() {
        let (memory, now) = (Memory::default(), Instant::now());
        let (short, long) = (now + Duration::from_secs(10), now + Duration::from_secs(30));
        let password = reading(1, short);
        memory.put(secret(1), Arc::clone(&password), now);
        memory.put(secret(2), reading(1, long), now);
        assert!(memory.get(&secret(1), now).is_some() && memory.get(&secret(1), short).is_none());
        memory.put(secret(3), reading(1, long), short);
        assert_eq!(Arc::strong_count(&password), 1);
        assert!(memory.get(&secret(2), short).is_some());
    }

    #[test]
    fn all_readings_stay_within_the_capacity_and_a_large_secret_is_kept() {
        let (memory, now) = (Memory::default(), Instant::now());
        let until = now + Duration::from_secs(30);
        memory.put(secret(0), reading(900 * 1024, until), now);
        assert!(memory.get(&secret(0), now).is_some());
        for name in 1..10_000 {
            memory.put(secret(name), reading(64 * 1024, until), now);
        }
        assert!(memory.0.weight() <= CAPACITY);
        assert!(memory.get(&secret(9_999), now).is_some());
    }
}
