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
    by_uid: HashMap<Box<str>, Arc<T>>,
    by_controller: HashMap<Box<str>, Vec<Arc<T>>>,
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
        if self.by_uid.get(object.uid()).is_some_and(|held| *held == object) {
            return false;
        }
        self.take(object.uid());
        if let Some(controller) = object.controller_uid() {
            match self.by_controller.get_mut(controller) {
                Some(siblings) => siblings.push(Arc::clone(&object)),
                None => {
                    self.by_controller.insert(controller.into(), vec![Arc::clone(&object)]);
                }
            }
        }
        self.by_uid.insert(object.uid().into(), object);
        true
    }

    /// Removes an object and returns it.
    pub(crate) fn take(&mut self, uid: &str) -> Option<Arc<T>> {
        let object = self.by_uid.remove(uid)?;
        if let Some(controller) = object.controller_uid()
            && let Entry::Occupied(mut siblings) = self.by_controller.entry(controller.into())
        {
            siblings.get_mut().retain(|sibling| sibling.uid() != uid);
            if siblings.get().is_empty() {
                siblings.remove();
            }
        }
        Some(object)
    }

    pub(crate) fn get(&self, uid: &str) -> Option<&Arc<T>> {
        self.by_uid.get(uid)
    }

    /// Returns the objects with this controller.
    pub(crate) fn controlled_by(&self, uid: &str) -> &[Arc<T>] {
        self.by_controller.get(uid).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.by_uid.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_uid.len()
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.len() == other.len() && self.all().all(|object| other.get(object.uid()) == Some(object))
    }
}
