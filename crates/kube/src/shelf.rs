//! Objects by their UID and by the UID of their controller. Names are reused and UIDs are not, so a late
//! event about a deleted object cannot change its successor.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// An object with a UID and perhaps a controller.
pub(crate) trait Shelved: PartialEq {
    fn uid(&self) -> &str;
    fn controller_uid(&self) -> Option<&str>;
}

#[derive(Debug)]
pub(crate) struct Shelf<T> {
    by_uid: HashMap<Box<str>, Place<T>>,
    /// The objects of each controller, in no particular order.
    by_controller: HashMap<Box<str>, Vec<Arc<T>>>,
}

/// An object and its place, so that it is removed without a search: one controller may have very many objects.
#[derive(Debug)]
struct Place<T> {
    object: Arc<T>,
    /// Position among the objects of its controller.
    position: usize,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { by_uid: HashMap::new(), by_controller: HashMap::new() }
    }
}

impl<T: Shelved> Shelf<T> {
    pub(crate) fn from_list(objects: impl IntoIterator<Item = T>) -> Self {
        let mut shelf = Self::default();
        for object in objects {
            shelf.put(Arc::new(object));
        }
        shelf
    }

    /// Adds or replaces an object. Returns true if anything changed.
    pub(crate) fn put(&mut self, object: Arc<T>) -> bool {
        if self.get(object.uid()).is_some_and(|held| *held == object) {
            return false;
        }
        self.take(object.uid());
        let mut position = 0;
        if let Some(controller) = object.controller_uid() {
            match self.by_controller.get_mut(controller) {
                Some(siblings) => {
                    position = siblings.len();
                    siblings.push(Arc::clone(&object));
                }
                None => {
                    self.by_controller.insert(controller.into(), vec![Arc::clone(&object)]);
                }
            }
        }
        self.by_uid.insert(object.uid().into(), Place { object, position });
        true
    }

    /// Removes an object and returns it.
    pub(crate) fn take(&mut self, uid: &str) -> Option<Arc<T>> {
        let Place { object, position } = self.by_uid.remove(uid)?;
        if let Some(controller) = object.controller_uid()
            && let Entry::Occupied(mut siblings) = self.by_controller.entry(controller.into())
        {
            let held = siblings.get_mut();
            if position < held.len() {
                held.swap_remove(position);
            }
            // The last one has come to this position.
            if let Some(moved) = held.get(position)
                && let Some(place) = self.by_uid.get_mut(moved.uid())
            {
                place.position = position;
            }
            if held.is_empty() {
                siblings.remove();
            }
        }
        Some(object)
    }

    pub(crate) fn get(&self, uid: &str) -> Option<&Arc<T>> {
        self.by_uid.get(uid).map(|place| &place.object)
    }

    /// Returns the objects with this controller, in no particular order.
    pub(crate) fn controlled_by(&self, uid: &str) -> &[Arc<T>] {
        self.by_controller.get(uid).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.by_uid.values().map(|place| &place.object)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_uid.len()
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.len() == other.len() && self.all().all(|object| other.get(object.uid()) == Some(object))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;

    use super::*;

    thread_local! {
        /// Number of times that an object was asked for its UID.
        static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    /// An object with a number as its UID, and perhaps a controller.
    #[derive(Debug, PartialEq)]
    struct Thing(String, Option<String>);

    impl Shelved for Thing {
        fn uid(&self) -> &str {
            LOOKS.set(LOOKS.get() + 1);
            &self.0
        }

        fn controller_uid(&self) -> Option<&str> {
            self.1.as_deref()
        }
    }

    fn thing(number: usize, controller: usize) -> Arc<Thing> {
        Arc::new(Thing(number.to_string(), (controller > 0).then(|| controller.to_string())))
    }

    #[test]
    fn an_object_of_a_controller_with_many_is_removed_without_a_search() {
        const MANY: usize = 10_000;
        let mut shelf = Shelf::default();
        for number in 0..MANY {
            shelf.put(thing(number, 1));
        }
        LOOKS.set(0);
        for number in 0..MANY {
            assert!(shelf.take(&number.to_string()).is_some());
        }
        assert!(shelf.controlled_by("1").is_empty() && LOOKS.get() <= 2 * MANY, "{}", LOOKS.get());
        assert!(shelf.by_controller.is_empty());
    }

    #[test]
    fn each_object_is_found_under_its_present_controller_alone() {
        let mut shelf = Shelf::<Thing>::default();
        let mut held = std::collections::BTreeMap::new();
        for step in 0..3000_usize {
            let number = step * 7919 % 40;
            let controller = step * 31 / 7 % 4;
            if step % 3 == 0 {
                let taken = shelf.take(&number.to_string()).map(|thing| thing.0.clone());
                assert_eq!(taken, held.remove(&number).map(|_: usize| number.to_string()));
            } else {
                shelf.put(thing(number, controller));
                held.insert(number, controller);
            }
            for controller in 1..4 {
                let found = shelf.controlled_by(&controller.to_string());
                let expected = held.iter().filter(|(_, of)| **of == controller);
                let expected: BTreeSet<_> = expected.map(|(number, _)| number.to_string()).collect();
                assert_eq!(found.len(), expected.len(), "step {step}");
                assert_eq!(found.iter().map(|thing| thing.0.clone()).collect::<BTreeSet<_>>(), expected);
            }
        }
    }
}
