//! A bounded map whose entries expire: tokens, challenges, suggestions. The cache of answers is another one.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A map from `K` to `V` of bounded size. Each entry expires at its own time.
#[derive(Debug)]
pub(crate) struct Expiring<K, V> {
    limit: usize,
    entries: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K: Eq + Hash + Clone, V: Clone> Expiring<K, V> {
    /// Creates an empty map of at most `limit` entries.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, entries: Mutex::default() }
    }

    /// Returns the value, unless it has expired.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q, now: Instant) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let entries = self.entries.lock();
        let (value, until) = entries.get(key)?;
        (*until > now).then(|| value.clone())
    }

    /// Keeps the value until it expires.
    pub(crate) fn put(&self, key: K, value: V, now: Instant, until: Instant) {
        let mut entries = self.entries.lock();
        Self::make_room(&mut entries, self.limit, now);
        entries.insert(key, (value, until));
    }

    /// Removes the value.
    pub(crate) fn remove(&self, key: &K) {
        self.entries.lock().remove(key);
    }

    /// Removes the entries that have expired and, if that is not enough, the half that would expire first.
    fn make_room(entries: &mut HashMap<K, (V, Instant)>, limit: usize, now: Instant) {
        if entries.len() < limit {
            return;
        }
        entries.retain(|_, (_, until)| *until > now);
        if entries.len() < limit {
            return;
        }
        let mut ends: Vec<Instant> = entries.values().map(|(_, until)| *until).collect();
        let middle = ends.len() / 2;
        let (_, median, _) = ends.select_nth_unstable(middle);
        let median = *median;
        entries.retain(|_, (_, until)| *until > median);
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
        map.put("short", 1, start, at(1));
        map.put("long", 2, start, at(60));
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
            map.put(key, key, start, start + Duration::from_secs(60));
            map.put(key, key, start, start + Duration::from_secs(1 + key));
        }
        assert!(map.entries.lock().len() <= 8);
        assert_eq!(map.get(&999, start), Some(999));
    }
}
