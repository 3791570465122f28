//! The policies of the cluster: the generation of each that this replica has in force, and the reason why a
//! newer one is not.
//!
//! If a generation does not compile, the last good one stays in force: the one in memory, or after a restart
//! the one that the leader wrote into the status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use kube::core::ObjectMeta;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::changes::Changes;
use crate::follow::Sink;
use crate::image_policy::PolicyObject;
use crate::item::{Identity, Unreadable};
use crate::slim::Unparsed;
use tagpin_domain::policy::{Policy, PolicyId, PolicyKind, PolicySet};
use tagpin_objects::image_policy::{PolicyError, PolicySpec, PolicyStatus};

/// One policy object as the API holds it, parsed and compiled.
#[derive(Debug, Clone)]
pub struct Reported {
    /// The policy's identity.
    pub id: PolicyId,
    /// The object's UID: a policy that was deleted and created again has no last good generation.
    pub uid: String,
    /// The time when the object was created.
    pub created: Option<Timestamp>,
    /// The generation of the spec.
    pub generation: i64,
    /// The object's version, if it is a number, as with etcd and kine. Later versions are greater.
    pub version: Option<u64>,
    /// The compiled policy, or the reason why it does not compile.
    pub compiled: Result<Good, InvalidPolicy>,
    /// The status in the API.
    pub status: PolicyStatus,
    /// The compiled `status.lastGood`, when there is one and it still compiles.
    pub last_good: Option<Good>,
}

/// The reason why a generation does not compile.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InvalidPolicy {
    /// The spec is not a JSON object.
    #[error("spec: is not an object")]
    NotAnObject,
    /// The spec cannot be read: a field has a value of another type.
    #[error("spec: {0}")]
    Unreadable(#[source] Arc<serde_json::Error>),
    /// A field has a value that does not compile.
    #[error(transparent)]
    Field(#[from] PolicyError),
}

/// A generation that compiles.
#[derive(Debug, Clone)]
pub struct Good {
    /// The generation.
    pub generation: i64,
    /// The compiled policy.
    pub policy: Arc<Policy>,
    /// The spec as written.
    pub spec: Arc<Map<String, Value>>,
}

/// One row of `GET /policies`: the generation of one policy that this replica has in force.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InForce {
    /// The kind of the policy.
    pub kind: PolicyKind,
    /// The namespace of an `ImagePolicy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// The object's UID.
    pub uid: String,
    /// The generation in force; none while no generation compiles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The reason why the newest generation is not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One policy as the store holds it, for the leader, which writes the status.
#[derive(Debug, Clone)]
pub struct Held {
    /// The policy's identity.
    pub id: PolicyId,
    /// The object's UID.
    pub uid: String,
    /// The time when the object was created.
    pub created: Option<Timestamp>,
    /// The newest generation that was reported.
    pub generation: i64,
    /// The resource version of that report.
    pub version: Option<u64>,
    /// The reason why that generation does not compile.
    pub error: Option<InvalidPolicy>,
    /// The generation in force.
    pub good: Option<Good>,
    /// The status in the API.
    pub status: PolicyStatus,
    /// True if a read by name found the policy, and no list or watch did.
    pub by_name: bool,
}

/// The policies of the cluster.
#[derive(Debug, Default)]
pub struct Policies {
    held: RwLock<BTreeMap<PolicyId, Held>>,
    published: ArcSwap<PolicySet>,
    changes: Changes,
}

impl Reported {
    /// Compiles a policy object. Spec and status are parsed separately, so that a fault in one does not hide the other.
    /// An object that this version cannot read is an error of that object alone.
    #[must_use]
    pub fn parse<K: PolicyObject>(metadata: &ObjectMeta, spec: Value, status: Value) -> Self {
        let name = metadata.name.clone().unwrap_or_default();
        let id = PolicyId { namespace: metadata.namespace.clone(), name };
        let generation = metadata.generation.unwrap_or_default();
        let status = serde_json::from_value::<PolicyStatus>(status).unwrap_or_default();
        let last_good = status
            .last_good
            .as_ref()
            .and_then(|good| Good::compile::<K::Spec>(&id, good.generation, good.spec.clone()).ok());
        let compiled = match spec {
            Value::Null => Good::compile::<K::Spec>(&id, generation, Map::new()),
            Value::Object(spec) => Good::compile::<K::Spec>(&id, generation, spec),
            _ => Err(InvalidPolicy::NotAnObject),
        };
        Self {
            id,
            uid: metadata.uid.clone().unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|created| created.0),
            generation,
            version: metadata.resource_version.as_ref().and_then(|version| version.parse().ok()),
            compiled,
            status,
            last_good,
        }
    }
}

impl Good {
    fn compile<S: PolicySpec>(
        id: &PolicyId,
        generation: i64,
        spec: Map<String, Value>,
    ) -> Result<Self, InvalidPolicy> {
        let typed = serde_json::from_value::<S>(Value::Object(spec.clone()))
            .map_err(|cause| InvalidPolicy::Unreadable(Arc::new(cause)))?;
        let policy = typed.compile(id.clone())?;
        Ok(Self { generation, policy: Arc::new(policy), spec: Arc::new(spec) })
    }
}

impl Policies {
    pub(crate) fn new(changes: Changes) -> Self {
        Self { changes, ..Self::default() }
    }

    /// Takes in a report of a policy. A report that is older than the policy held changes nothing.
    pub fn apply(&self, reported: Reported) {
        self.change(|held| put(held, reported, false));
    }

    /// Removes a policy. A late report about an older object of that name changes nothing.
    pub fn delete(&self, id: &PolicyId, uid: &str) {
        self.change(|held| match held.get(id) {
            Some(policy) if policy.uid == uid => held.remove(id).is_some(),
            _ => false,
        });
    }

    /// Takes in the list of all policies of one kind. A policy that only a read by name found stays.
    pub fn replace(&self, kind: PolicyKind, all: Vec<Reported>) {
        self.replace_readable(kind, all, &BTreeSet::new());
    }

    /// Takes in the list of all policies of one kind that can be read. Policies that cannot be read stay as
    /// they are held.
    pub(crate) fn replace_readable(
        &self,
        kind: PolicyKind,
        all: Vec<Reported>,
        unreadable: &BTreeSet<PolicyId>,
    ) {
        self.change(|held| {
            let before = held.len();
            held.retain(|id, policy| {
                id.kind() != kind
                    || policy.by_name
                    || unreadable.contains(id)
                    || all.iter().any(|reported| reported.id == *id)
            });
            let mut changed = held.len() != before;
            for reported in all {
                changed |= put(held, reported, false);
            }
            changed
        });
    }

    /// Takes in a policy that was read by name. Returns true if the read found something that list and watch have not
    /// reported; it is used then, because a datastore behind the API server can leave a new object out of its lists.
    pub fn read_by_name(&self, id: &PolicyId, found: Option<Reported>) -> bool {
        let mut differs = false;
        self.change(|held| match found {
            Some(found) => {
                let known = held.get(id).is_some_and(|policy| {
                    policy.uid == found.uid && policy.generation >= found.generation && !policy.by_name
                });
                differs = !known;
                differs && put(held, found, true)
            }
            // A policy that lists and watches have reported is removed when they report it gone.
            None => held.get(id).is_some_and(|policy| policy.by_name) && held.remove(id).is_some(),
        });
        differs
    }

    /// Returns the policies in force, as one snapshot.
    #[must_use]
    pub fn in_force(&self) -> Arc<PolicySet> {
        self.published.load_full()
    }

    /// Returns the rows of `GET /policies`, by kind and name.
    #[must_use]
    pub fn rows(&self) -> Vec<InForce> {
        let held = self.held.read();
        held.values().map(InForce::from).collect()
    }

    /// Returns one policy, in force or not.
    #[must_use]
    pub fn get(&self, id: &PolicyId) -> Option<Held> {
        self.held.read().get(id).cloned()
    }

    /// Returns every policy, in force or not, by kind and name.
    #[must_use]
    pub fn all(&self) -> Vec<Held> {
        self.held.read().values().cloned().collect()
    }

    /// Changes the policies that are held, and publishes a snapshot if anything changed.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<PolicyId, Held>) -> bool) {
        let mut held = self.held.write();
        if change(&mut held) {
            self.published.store(Arc::new(snapshot(&held)));
            drop(held);
            self.changes.announce();
        }
    }
}

fn put(held: &mut BTreeMap<PolicyId, Held>, reported: Reported, by_name: bool) -> bool {
    let Reported { id, uid, created, generation, version, compiled, status, last_good } = reported;
    let before = held.get(&id).filter(|before| before.uid == uid);
    let late = before.is_some_and(|before| {
        let older = before.version.zip(version).is_some_and(|(before, now)| before > now);
        older || before.generation > generation
    });
    if late {
        return false;
    }
    let (good, error) = match compiled {
        Ok(good) => (Some(good), None),
        Err(error) => (before.and_then(|before| before.good.clone()).or(last_good), Some(error)),
    };
    let policy = Held { id: id.clone(), uid, created, generation, version, error, good, status, by_name };
    let same = before.is_some_and(|before| before.same_as(&policy));
    held.insert(id, policy);
    !same
}

impl Held {
    fn same_as(&self, other: &Self) -> bool {
        let good = |held: &Self| held.good.as_ref().map(|good| good.generation);
        let error = |held: &Self| held.error.as_ref().map(ToString::to_string);
        self.generation == other.generation
            && error(self) == error(other)
            && good(self) == good(other)
            && self.status == other.status
            && self.by_name == other.by_name
    }
}

impl From<&Held> for InForce {
    fn from(held: &Held) -> Self {
        Self {
            kind: held.id.kind(),
            namespace: held.id.namespace.clone(),
            name: held.id.name.clone(),
            uid: held.uid.clone(),
            generation: held.good.as_ref().map(|good| good.generation),
            error: held.error.as_ref().map(ToString::to_string),
        }
    }
}

/// Returns the policies in force, sorted by namespace and name as the map is.
fn snapshot(held: &BTreeMap<PolicyId, Held>) -> PolicySet {
    let mut set = PolicySet::default();
    for (id, held) in held {
        let Some(good) = &held.good else { continue };
        let policy = Arc::clone(&good.policy);
        match &id.namespace {
            None => set.cluster.push(policy),
            Some(namespace) => set.namespaced.entry(namespace.clone()).or_default().push(policy),
        }
    }
    set
}

impl<K: PolicyObject> Sink<Unparsed<K>> for Policies {
    type Item = Reported;

    fn parse(&self, object: Unparsed<K>) -> Result<Option<Reported>, Box<Unreadable>> {
        let has_uid = object.metadata.uid.is_some();
        Ok(has_uid.then(|| Reported::parse::<K>(&object.metadata, object.spec, object.status)))
    }

    fn apply(&self, reported: Reported) {
        self.apply(reported);
    }

    fn delete(&self, gone: &Identity) {
        self.delete(&id(gone), &gone.uid);
    }

    fn replace(&self, all: Vec<Reported>, unreadable: &[Unreadable]) {
        let unreadable = unreadable.iter().map(|object| id(&object.identity)).collect();
        self.replace_readable(K::Spec::KIND, all, &unreadable);
    }

    /// Keeps the last good generation in force, as when a newer one does not compile. Nobody can turn a
    /// policy off by making it unreadable.
    fn lose(&self, _: &Identity) {}
}

fn id(object: &Identity) -> PolicyId {
    PolicyId { namespace: object.namespace.clone(), name: object.name.clone() }
}
