//! The stored objects that cannot be read, by watch. Their content counts as unknown.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::item::{Identity, Unreadable};
use crate::store::Store;
use parking_lot::RwLock;
use tagpin_objects::kinds::Kinds;

/// Maximum number of objects of one watch that are named; all are counted.
const NAMED: usize = 20;

/// Maximum number of objects of one watch whose identity and fault are kept.
const KEPT: usize = 256;
/// Maximum number of further objects of one watch that are counted.
const COUNTED: usize = 64 * 1024;

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

/// The objects of one watch that cannot be read. Only the first ones are named, because anybody can create many.
#[derive(Debug, Default)]
struct Faults {
    /// The faults of the named objects.
    named: BTreeMap<Identity, String>,
    /// Hashes of the other objects.
    others: HashSet<u64>,
}

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
        let count = |watched| held.get(&watched).map_or(0, Faults::len);
        Watched::all(kinds).map(|watched| (watched.name(), count(watched))).collect()
    }

    /// Returns a row for each watch with objects that cannot be read.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let held = self.0.read();
        let row = |(watched, faults): (&Watched, &Faults)| Row {
            watch: watched.name().to_owned(),
            count: faults.len(),
            named: faults.named.iter().take(NAMED).map(|(object, fault)| Named::new(object, fault)).collect(),
        };
        held.iter().filter(|(_, faults)| faults.len() > 0).map(row).collect()
    }

    /// Adds an object that cannot be read.
    pub(crate) fn put(&self, watched: Watched, object: Unreadable) {
        let mut held = self.0.write();
        let faults = held.entry(watched).or_default();
        let known = faults.named.get(&object.identity).is_some_and(|fault| *fault == object.fault);
        if !known && faults.len() < NAMED {
            warn_of(watched, &object);
        }
        faults.put(object);
    }

    /// Removes an object that can be read again or was deleted.
    pub(crate) fn take(&self, watched: Watched, object: &Identity) {
        // Nearly always there is nothing to remove, and the read lock is enough.
        if self.0.read().get(&watched).is_none_or(|faults| faults.len() == 0) {
            return;
        }
        if let Some(faults) = self.0.write().get_mut(&watched) {
            faults.take(object);
        }
    }

    /// Replaces the objects of the watch with these.
    pub(crate) fn replace(&self, watched: Watched, all: Vec<Unreadable>) {
        let before = self.0.write().remove(&watched).unwrap_or_default();
        let new = |object: &&Unreadable| before.named.get(&object.identity) != Some(&object.fault);
        all.iter().filter(new).take(NAMED).for_each(|object| warn_of(watched, object));
        let mut faults = Faults::default();
        all.into_iter().for_each(|object| faults.put(object));
        self.0.write().insert(watched, faults);
    }
}

impl Faults {
    fn len(&self) -> usize {
        self.named.len() + self.others.len()
    }

    fn put(&mut self, object: Unreadable) {
        let hash = hash_of(&object.identity);
        if self.named.len() < KEPT || self.named.contains_key(&object.identity) {
            self.others.remove(&hash);
            self.named.insert(object.identity, object.fault);
        } else if self.others.len() < COUNTED {
            self.others.insert(hash);
        }
    }

    fn take(&mut self, object: &Identity) {
        if self.named.remove(object).is_none() {
            self.others.remove(&hash_of(object));
        }
    }
}

/// Returns a hash of an object's identity. It only counts objects, so an object that hits the hash of another on purpose
/// hides no other thing than itself in the count.
fn hash_of(identity: &Identity) -> u64 {
    let mut hasher = DefaultHasher::new();
    identity.hash(&mut hasher);
    hasher.finish()
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
