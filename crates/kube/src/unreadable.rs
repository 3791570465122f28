//! The stored objects that cannot be read, by watch. Their content counts as unknown.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::item::{Identity, Unreadable};
use crate::store::Store;
use parking_lot::RwLock;
use tagpin_objects::kinds::Kinds;

/// Maximum number of objects of one watch that are named; all are counted.
const NAMED: usize = 20;

/// One watch, of a store's kind or of objects of the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watched {
    /// The watch that fills a store.
    Store(Store),
    /// The pods of tagpin's Deployment.
    Replicas,
    /// The Secret with the webhook's certificate.
    Certificate,
    /// The Secret with the keys for marks.
    PinKeys,
    /// The Secret with the tokens in the webhook's paths.
    Door,
    /// tagpin's Deployment.
    Deployment,
    /// The Namespace of the release.
    Namespace,
    /// The configuration `zz-tagpin`.
    Mutating,
    /// The configuration `tagpin`.
    Validating,
}

impl Watched {
    /// Returns everything that is watched, with a store for each of these kinds.
    pub fn all(kinds: &Kinds) -> impl Iterator<Item = Self> + use<'_> {
        let release = [
            Self::Replicas,
            Self::Certificate,
            Self::PinKeys,
            Self::Door,
            Self::Deployment,
            Self::Namespace,
            Self::Mutating,
            Self::Validating,
        ];
        Store::all(kinds).map(Self::Store).chain(release)
    }

    /// Returns the word in metrics and in the rows of `tagpin doctor`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Store(store) => store.name(),
            Self::Replicas => "replicas",
            Self::Certificate => "certificate",
            Self::PinKeys => "pin_keys",
            Self::Door => "door",
            Self::Deployment => "deployment",
            Self::Namespace => "namespace",
            Self::Mutating => "mutatingwebhookconfiguration",
            Self::Validating => "validatingwebhookconfiguration",
        }
    }
}

/// The objects that cannot be read, by watch. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Unreadables(Arc<RwLock<BTreeMap<Watched, Faults>>>);

/// The faults, by object.
type Faults = BTreeMap<Identity, String>;

/// One row of `GET /unreadable`: the objects of one watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The name of the watch.
    pub watch: String,
    /// Number of objects that cannot be read.
    pub count: usize,
    /// The first of these objects.
    pub named: Vec<Named>,
}

/// One object that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The namespace; none for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The fault of the object, without its values.
    pub fault: String,
}

impl Unreadables {
    /// Returns the number of objects for each watch, even if it is 0.
    #[must_use]
    pub fn counts(&self, kinds: &Kinds) -> Vec<(&'static str, usize)> {
        let held = self.0.read();
        let count = |watched| held.get(&watched).map_or(0, BTreeMap::len);
        Watched::all(kinds).map(|watched| (watched.name(), count(watched))).collect()
    }

    /// Returns a row for each watch with objects that cannot be read.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let held = self.0.read();
        let row = |(watched, faults): (&Watched, &Faults)| Row {
            watch: watched.name().to_owned(),
            count: faults.len(),
            named: faults.iter().take(NAMED).map(|(object, fault)| Named::new(object, fault)).collect(),
        };
        held.iter().filter(|(_, faults)| !faults.is_empty()).map(row).collect()
    }

    /// Adds an object that cannot be read.
    pub(crate) fn put(&self, watched: Watched, object: Unreadable) {
        let mut held = self.0.write();
        let faults = held.entry(watched).or_default();
        let known = faults.get(&object.identity).is_some_and(|fault| *fault == object.fault);
        let named = faults.len() < NAMED;
        if !known && named {
            warn_of(watched, &object);
        }
        faults.insert(object.identity, object.fault);
    }

    /// Removes an object that can be read again or was deleted.
    pub(crate) fn take(&self, watched: Watched, object: &Identity) {
        // Nearly always there is nothing to remove, and the read lock is enough.
        if self.0.read().get(&watched).is_none_or(BTreeMap::is_empty) {
            return;
        }
        if let Some(faults) = self.0.write().get_mut(&watched) {
            faults.remove(object);
        }
    }

    /// Replaces the objects of the watch with these.
    pub(crate) fn replace(&self, watched: Watched, all: Vec<Unreadable>) {
        let before = self.0.write().remove(&watched).unwrap_or_default();
        let new = |object: &&Unreadable| before.get(&object.identity) != Some(&object.fault);
        all.iter().filter(new).take(NAMED).for_each(|object| warn_of(watched, object));
        let faults = all.into_iter().map(|object| (object.identity, object.fault)).collect();
        self.0.write().insert(watched, faults);
    }
}

impl Named {
    fn new(object: &Identity, fault: &str) -> Self {
        Self { namespace: object.namespace.clone(), name: object.name.clone(), fault: fault.to_owned() }
    }
}

fn warn_of(watched: Watched, object: &Unreadable) {
    let (watch, fault) = (watched.name(), object.fault.as_str());
    let Identity { namespace, name, .. } = &object.identity;
    warn!(watch, namespace, name, fault, "cannot read a stored object: its content counts as unknown");
}
