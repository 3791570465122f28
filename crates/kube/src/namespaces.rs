//! The labels of namespaces, for the namespace selectors of policies.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::changes::Changes;
use crate::follow::Sink;
use crate::item::{Identity, Unreadable};
use crate::slim::SlimNamespace;
use parking_lot::RwLock;
use tagpin_domain::workload::Labels;

/// The labels of the namespaces, by name.
#[derive(Debug, Default)]
pub struct Namespaces {
    labels: RwLock<HashMap<String, Arc<Labels>>>,
    changes: Changes,
}

impl Namespaces {
    pub(crate) fn new(changes: Changes) -> Self {
        Self { changes, ..Self::default() }
    }

    /// Records the labels of a namespace that was reported.
    pub fn apply(&self, name: String, labels: Labels) {
        let mut held = self.labels.write();
        if held.get(&name).is_none_or(|held| **held != labels) {
            held.insert(name, Arc::new(labels));
            drop(held);
            self.changes.announce();
        }
    }

    /// Removes a namespace that was deleted.
    pub fn delete(&self, name: &str) {
        let gone = self.labels.write().remove(name).is_some();
        if gone {
            self.changes.announce();
        }
    }

    /// Replaces all namespaces with these.
    pub fn replace(&self, all: impl IntoIterator<Item = (String, Labels)>) {
        let new = all.into_iter().map(|(name, labels)| (name, Arc::new(labels))).collect();
        *self.labels.write() = new;
        self.changes.announce();
    }

    /// Returns the labels of a namespace; none if no watch has reported it.
    #[must_use]
    pub fn labels(&self, name: &str) -> Option<Arc<Labels>> {
        self.labels.read().get(name).map(Arc::clone)
    }

    /// Returns the names of the namespaces with all of these labels, in order.
    #[must_use]
    pub fn with(&self, labels: &[(&str, &str)]) -> BTreeSet<String> {
        let has =
            |held: &Labels| labels.iter().all(|(key, value)| held.get(*key).is_some_and(|it| it == value));
        self.labels.read().iter().filter(|(_, held)| has(held)).map(|(name, _)| name.clone()).collect()
    }

    /// Returns the number of namespaces.
    #[must_use]
    pub fn count(&self) -> usize {
        self.labels.read().len()
    }
}

impl Sink<SlimNamespace> for Namespaces {
    type Item = (String, Labels);

    fn parse(&self, object: SlimNamespace) -> Result<Option<Self::Item>, Box<Unreadable>> {
        let labels = object.metadata.labels.unwrap_or_default();
        Ok(object.metadata.name.map(|name| (name, labels)))
    }

    fn apply(&self, (name, labels): Self::Item) {
        self.apply(name, labels);
    }

    fn delete(&self, gone: &Identity) {
        self.delete(&gone.name);
    }

    fn replace(&self, items: Vec<Self::Item>, _: &[Unreadable]) {
        self.replace(items);
    }

    fn lose(&self, object: &Identity) {
        self.delete(&object.name);
    }
}
