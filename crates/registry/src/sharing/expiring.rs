//! A small bounded map whose entries expire: tokens, challenges, suggestions. The cache of answers is another one.

use std::borrow::Borrow;
use std::hash::{Hash, RandomState};

use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use tokio::time::Instant;

/// A map from `K` to `V` of bounded size, in which each entry has its own time of expiry. An entry that has expired
/// stays in memory until another one takes its place.
#[derive(Debug)]
pub(crate) struct Expiring<K, V>(Cache<K, (V, Instant), UnitWeighter, RandomState>);

impl<K: Eq + Hash, V: Clone> Expiring<K, V> {
    /// Returns an empty map of at most `limit` entries.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Cache::with(limit, limit as u64, UnitWeighter, RandomState::new(), DefaultLifecycle::default()))
    }

    /// Returns the value of a key that has not expired.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q, now: Instant) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (value, until) = self.0.get(key)?;
        (until > now).then_some(value)
    }

    /// Keeps the value until that time.
    pub(crate) fn put(&self, key: K, value: V, until: Instant) {
        self.0.insert(key, (value, until));
    }

    /// Drops the value of a key.
    pub(crate) fn remove(&self, key: &K) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_entry_lives_its_own_time() {
        let map = Expiring::new(10);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        map.put("short", 1, at(1));
        map.put("long", 2, at(60));
        assert_eq!((map.get(&"short", at(0)), map.get(&"long", at(0))), (Some(1), Some(2)));
        assert_eq!((map.get(&"short", at(2)), map.get(&"long", at(2))), (None, Some(2)));
        map.remove(&"long");
        assert_eq!(map.get(&"long", at(2)), None);
    }

    #[test]
    fn the_map_never_grows_beyond_its_limit() {
        let map = Expiring::new(8);
        let start = Instant::now();
        for key in 0..1000_u64 {
            map.put(key, key, start + Duration::from_secs(60));
            map.put(key, key, start + Duration::from_secs(1 + key));
        }
        assert!(map.0.len() <= 8);
        assert_eq!(map.get(&999, start), Some(999));
    }
}
