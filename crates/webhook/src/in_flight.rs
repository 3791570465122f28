//! The places of reviews in flight. Namespaces with many reviews leave some to the others, however many they are.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Maximum number of places that a namespace may have for each one that is free. One namespace alone takes up to seven
/// eighths.
const FOR_EACH_FREE: usize = 7;

/// The places.
#[derive(Debug)]
pub(crate) struct Places {
    all: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    /// The number of places that each namespace has taken.
    namespaces: HashMap<Box<str>, usize>,
}

/// A place of a review of this namespace, which is free again once this is dropped.
#[derive(Debug)]
#[must_use = "it is taken while this lives"]
pub(crate) struct Place<'a> {
    places: &'a Places,
    namespace: &'a str,
}

impl Places {
    /// Returns this number of places.
    pub(crate) fn new(all: usize) -> Self {
        Self { all, taken: Mutex::default() }
    }

    /// Returns a place for a review of this namespace; none if too few are free.
    pub(crate) fn take<'a>(&'a self, namespace: &'a str) -> Option<Place<'a>> {
        let mut taken = self.taken.lock();
        let may_have = FOR_EACH_FREE * self.all.saturating_sub(taken.count);
        match taken.namespaces.get_mut(namespace) {
            Some(count) if *count < may_have => *count += 1,
            None if may_have > 0 => drop(taken.namespaces.insert(namespace.into(), 1)),
            Some(_) | None => return None,
        }
        taken.count += 1;
        Some(Place { places: self, namespace })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.count -= 1;
        if let Some(count) = taken.namespaces.get_mut(self.namespace) {
            *count -= 1;
            if *count == 0 {
                taken.namespaces.remove(self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loud_namespaces_leave_places_to_others() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        for loud in 1..=names.len() {
            let places = Places::new(256);
            let tries = (0..256).flat_map(|_| names.iter().take(loud));
            let taken: Vec<_> = tries.filter_map(|name| places.take(name)).collect();
            assert!(taken.len() >= 224 && taken.len() < 256, "{loud} take {}", taken.len());
            let quiet = places.take("quiet");
            assert!(quiet.is_some(), "{loud} leave none");
            drop((taken, quiet));
            assert!(places.taken.lock().namespaces.is_empty() && places.taken.lock().count == 0);
        }
    }

    #[test]
    fn there_are_no_more_places_than_all() {
        let places = Places::new(4);
        let names: Vec<String> = (0..9).map(|number| number.to_string()).collect();
        let taken: Vec<_> = names.iter().filter_map(|name| places.take(name)).collect();
        assert_eq!(taken.len(), 4);
        assert!(Places::new(1).take("a").is_some());
    }
}
