//! The labels of namespaces, for the namespace selectors of policies.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::budget::{Budget, Charge, OBJECT};
use crate::changes::Changes;
use crate::follow::Sink;
use crate::item::{Identity, Unreadable};
use crate::slim::SlimNamespace;
use crate::stored::label_bytes;
use parking_lot::RwLock;
use tagpin_domain::workload::{LabelSet, Labels};

/// The labels of the namespaces, by name.
#[derive(Debug, Default)]
pub struct Namespaces {
    labels: RwLock<HashMap<String, Held>>,
    budget: Budget,
    changes: Changes,
}

/// The labels of one namespace, and the room that they take.
#[derive(Debug, Clone)]
pub struct Held {
    labels: Arc<Labels>,
    charge: Charge,
}

impl Namespaces {
    pub(crate) fn new(budget: Budget, changes: Changes) -> Self {
        Self { budget, changes, ..Self::default() }
    }

    /// Records the labels of a namespace that was reported.
    pub fn apply(&self, name: String, labels: Labels) {
        self.put(name, Held { labels: Arc::new(labels), charge: Charge::default() });
    }

    fn put(&self, name: String, namespace: Held) {
        let mut held = self.labels.write();
        if held.get(&name).is_none_or(|held| held.labels != namespace.labels) {
            held.insert(name, namespace);
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

    /// Returns the labels of a namespace; none if no watch has reported it.
    #[must_use]
    pub fn labels(&self, name: &str) -> Option<Arc<Labels>> {
        self.labels.read().get(name).map(|held| Arc::clone(&held.labels))
    }

    /// Returns the names of the namespaces with all of these labels, in order.
    #[must_use]
    pub fn with(&self, labels: &[(&str, &str)]) -> BTreeSet<String> {
        let has =
            |held: &Labels| labels.iter().all(|(key, value)| held.get(*key).is_some_and(|it| it == value));
        self.labels
            .read()
            .iter()
            .filter(|(_, held)| has(&held.labels))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Returns the number of namespaces.
    #[must_use]
    pub fn count(&self) -> usize {
        self.labels.read().len()
    }
}

impl Sink<SlimNamespace> for Namespaces {
    type Item = (String, Held);

    fn parse(&self, object: SlimNamespace) -> Result<Option<Self::Item>, Box<Unreadable>> {
        let metadata = &object.metadata;
        let Some(name) = metadata.name.clone() else { return Ok(None) };
        let LabelSet { known: labels, whole } = metadata.label_set();
        let bytes = if whole { name.len() + label_bytes(&labels) } else { OBJECT + 1 };
        let before = self.labels.read().get(&name).map(|held| held.charge.clone());
        let charge = self.budget.take(&name, bytes, before.as_ref());
        let charge = charge.map_err(|refused| Box::new(Unreadable::without_room(metadata, refused)))?;
        Ok(Some((name, Held { labels: Arc::new(labels), charge })))
    }

    fn apply(&self, (name, held): Self::Item) {
        self.put(name, held);
    }

    fn delete(&self, gone: &Identity) {
        self.delete(&gone.name);
    }

    fn replace(&self, items: Vec<Self::Item>, _: &[Unreadable]) {
        *self.labels.write() = items.into_iter().collect();
        self.changes.announce();
    }

    fn lose(&self, object: &Identity) {
        self.delete(&object.name);
    }
}
