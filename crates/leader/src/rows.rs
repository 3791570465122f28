//! The rows of a status, shared fairly among namespaces.

use std::collections::{BTreeMap, HashMap};

/// Maximum number of rows of one list of a status.
const TOP: usize = 20;
/// Maximum number of those from one namespace while others have rows too.
const SHARE: usize = 5;

/// The first rows of a list in the order of their keys, whatever the order in which they are added. The first
/// [`SHARE`] rows of each namespace come before all others. Memory is bounded whatever the number of rows and namespaces.
#[derive(Debug)]
pub(crate) struct Rows<K, V> {
    /// The first [`TOP`] rows of each of the [`TOP`] namespaces whose first rows come first. No other row can be
    /// returned: a namespace left out has as many rows of others before its own.
    namespaces: HashMap<String, BTreeMap<K, V>>,
}

impl<K, V> Default for Rows<K, V> {
    fn default() -> Self {
        Self { namespaces: HashMap::new() }
    }
}

impl<K: Ord, V> Rows<K, V> {
    /// Adds a row of this namespace. A row that is there already stays.
    pub(crate) fn add(&mut self, namespace: &str, key: K, value: impl FnOnce() -> V) {
        if let Some(rows) = self.namespaces.get_mut(namespace) {
            if rows.len() >= TOP && rows.last_key_value().is_some_and(|(last, _)| *last < key) {
                return;
            }
            rows.entry(key).or_insert_with(value);
            if rows.len() > TOP {
                rows.pop_last();
            }
            return;
        }
        if self.namespaces.len() >= TOP {
            let first = |rows: &BTreeMap<K, V>| rows.first_key_value().is_some_and(|(first, _)| *first < key);
            if self.namespaces.values().all(first) {
                return;
            }
            let firsts = self.namespaces.iter().filter_map(|(name, rows)| Some((rows.keys().next()?, name)));
            if let Some(name) = firsts.max().map(|(_, name)| name.clone()) {
                self.namespaces.remove(&name);
            }
        }
        self.namespaces.insert(namespace.to_owned(), BTreeMap::from([(key, value())]));
    }

    /// Returns the rows in the order of their keys.
    pub(crate) fn into_rows(self) -> Vec<(K, V)> {
        let ranked = |rows: BTreeMap<K, V>| rows.into_iter().enumerate();
        let mut rows: Vec<_> = self.namespaces.into_values().flat_map(ranked).collect();
        rows.sort_by(|(rank, (key, _)), (other_rank, (other, _))| {
            (*rank >= SHARE, key).cmp(&(*other_rank >= SHARE, other))
        });
        rows.truncate(TOP);
        let mut rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        rows.sort_by(|(key, _), (other, _)| key.cmp(other));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<K, V> Rows<K, V> {
        /// Returns the number of rows in memory.
        pub(crate) fn held(&self) -> usize {
            self.namespaces.values().map(BTreeMap::len).sum()
        }
    }

    /// Returns the keys of the rows when all of these are added.
    fn kept(all: &[(u32, u32)]) -> Vec<u32> {
        let mut rows = Rows::default();
        for (namespace, key) in all {
            rows.add(&namespace.to_string(), (*key, *namespace), || ());
        }
        rows.into_rows().into_iter().map(|((key, _), ())| key).collect()
    }

    #[test]
    fn a_namespace_has_its_share_while_others_have_rows() {
        let of = |namespace: u32, keys: std::ops::Range<u32>| keys.map(move |key| (namespace, key));
        let few: Vec<_> = of(0, 0..100).chain(of(1, 100..103)).collect();
        assert_eq!(kept(&few), (0..17).chain(100..103).collect::<Vec<_>>());
        let many: Vec<_> = of(0, 0..100).chain((1..40).flat_map(|n| of(n, 100 * n..100 * n + 2))).collect();
        let others = (1..9).flat_map(|n| 100 * n..100 * n + 2).take(15);
        assert_eq!(kept(&many), (0..5).chain(others).collect::<Vec<_>>());
        let alone: Vec<_> = of(0, 0..100).collect();
        assert_eq!(kept(&alone), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn memory_is_bounded() {
        let mut rows = Rows::default();
        for key in (0..100_000_u32).rev().chain(0..100_000) {
            rows.add(&(key % 1000).to_string(), key, || ());
        }
        assert_eq!((rows.namespaces.len(), rows.held()), (TOP, TOP * TOP));
    }

    /// Rows are the same as when all of them are ranked together, in whatever order they arrive.
    #[test]
    fn rows_are_those_of_a_full_ranking() {
        let mut state = 1_u64;
        let mut random = |below: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(state >> 33).unwrap() % below
        };
        for round in 0..500 {
            let (number, namespaces, keys) = (random(400), 1 + random(40), 1 + random(300));
            let all: Vec<_> = (0..number).map(|_| (random(namespaces), random(keys))).collect();
            let mut ranked: Vec<_> = all.iter().map(|(namespace, key)| (*key, *namespace)).collect();
            ranked.sort_unstable();
            ranked.dedup();
            let mut counts = HashMap::new();
            ranked.sort_by_cached_key(|(_, namespace)| {
                let count = counts.entry(*namespace).or_insert(0);
                *count += 1;
                *count > SHARE
            });
            ranked.truncate(TOP);
            ranked.sort_unstable();
            let expected: Vec<_> = ranked.into_iter().map(|(key, _)| key).collect();
            assert_eq!(kept(&all), expected, "round {round}: {all:?}");
        }
    }
}
