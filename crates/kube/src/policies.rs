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

use crate::budget::{Budget, Charge, OverBudget};
use crate::changes::Changes;
use crate::follow::Sink;
use crate::image_policy::PolicyObject;
use crate::item::{Identity, Unreadable};
use crate::slim::Unparsed;
use tagpin_domain::policy::{PolicyId, PolicyKind, PolicySet};
use tagpin_objects::image_policy::{PolicySpec as _, PolicyStatus};

use good::read_status;
pub use good::{Good, InvalidPolicy};

mod good;

/// Maximum number of policies of one namespace that are in force: the oldest ones.
const IN_FORCE: usize = 64;
/// Maximum number of bytes that an `ImagePolicy` takes: the largest one that its schema allows.
const POLICY: usize = 2 * 1024 * 1024;
/// Number of bytes of a status without a last good generation.
const STATUS: usize = 2048;

/// One policy object as the API holds it, parsed and compiled.
#[derive(Debug, Clone)]
pub struct Reported {
    /// The policy's identity.
    pub id: PolicyId,
    /// The object's UID: a policy that was deleted and created again has no last good generation.
    pub uid: String,
    /// The time when the object was created, by the API server's clock.
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
    charge: Charge,
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
    /// The time when the object was created, by the API server's clock.
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
    /// True if the namespace has so many older policies that this one is not in force.
    pub surplus: bool,
    charge: Charge,
}

/// The policies of the cluster.
#[derive(Debug, Default)]
pub struct Policies {
    held: RwLock<BTreeMap<PolicyId, Held>>,
    published: ArcSwap<PolicySet>,
    budget: Budget,
    changes: Changes,
}

impl Reported {
    /// Compiles a policy object. Spec and status are parsed separately, so that a fault in one does not hide the other.
    /// An object that this version cannot read is an error of that object alone.
    #[must_use]
    pub fn parse<K: PolicyObject>(metadata: &ObjectMeta, spec: Value, status: Value) -> Self {
        Self::parse_with::<K>(metadata, spec, status, None)
    }

    /// Does the same, and compiles no spec that is the one of the generation in force.
    fn parse_with<K: PolicyObject>(
        metadata: &ObjectMeta,
        spec: Value,
        status: Value,
        in_force: Option<&Good>,
    ) -> Self {
        let id = id_of(metadata);
        let generation = metadata.generation.unwrap_or_default();
        let status = read_status(status);
        let compiled = match spec {
            Value::Null => Good::compile::<K::Spec>(&id, generation, Map::new(), &[in_force]),
            Value::Object(spec) => Good::compile::<K::Spec>(&id, generation, spec, &[in_force]),
            _ => Err(InvalidPolicy::NotAnObject),
        };
        let known = [compiled.as_ref().ok(), in_force];
        let last_good = status
            .last_good
            .as_ref()
            .and_then(|good| Good::compile::<K::Spec>(&id, good.generation, good.spec.clone(), &known).ok());
        Self {
            id,
            uid: metadata.uid.clone().unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|created| created.0),
            generation,
            version: metadata.resource_version.as_ref().and_then(|version| version.parse().ok()),
            compiled,
            status,
            last_good,
            charge: Charge::default(),
        }
    }

    /// Returns the policy with room for it in the budget of its namespace. A policy that is too large is invalid, and
    /// its last good generation stays in force if it is held.
    fn charged(mut self, budget: &Budget, before: Option<&Held>) -> Result<Self, OverBudget> {
        let Some(namespace) = &self.id.namespace else { return Ok(self) };
        let before = before.filter(|before| before.uid == self.uid);
        let kept = before.and_then(|before| before.good.as_ref()).filter(|_| self.compiled.is_err());
        let bytes = self.bytes() + kept.map_or(0, Good::bytes);
        self.charge = match budget.take_up_to(POLICY, namespace, bytes, before.map(|before| &before.charge)) {
            Ok(charge) => charge,
            Err(refused @ (OverBudget::Object { .. } | OverBudget::Large { .. })) => {
                self.compiled = Err(InvalidPolicy::NoRoom(refused.to_string()));
                self.last_good = None;
                self.status.last_good = None;
                budget.take(namespace, self.bytes(), None)?
            }
            Err(refused) => return Err(refused),
        };
        Ok(self)
    }

    /// Returns about the number of bytes that the policy takes.
    fn bytes(&self) -> usize {
        let compiled = self.compiled.as_ref().map_or(0, Good::bytes);
        // The status holds the same spec once more.
        let last_good = self.last_good.as_ref().map_or(0, |good| 2 * good.bytes());
        size_of::<Held>() + compiled + last_good + STATUS
    }
}

impl Policies {
    pub(crate) fn new(budget: Budget, changes: Changes) -> Self {
        Self { budget, changes, ..Self::default() }
    }

    /// Parses a policy object. Its spec is not compiled anew if it is in force already, because a policy is reported
    /// again whenever its status is written.
    #[must_use]
    pub fn parse<K: PolicyObject>(&self, metadata: &ObjectMeta, spec: Value, status: Value) -> Reported {
        let in_force = self.held.read().get(&id_of(metadata)).and_then(|held| held.good.clone());
        Reported::parse_with::<K>(metadata, spec, status, in_force.as_ref())
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
        let listed = all.iter().map(|reported| reported.id.clone()).collect::<BTreeSet<_>>();
        self.change(|held| {
            let before = held.len();
            held.retain(|id, policy| {
                id.kind() != kind || policy.by_name || unreadable.contains(id) || listed.contains(id)
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
            mark_surplus(&mut held);
            self.published.store(Arc::new(snapshot(&held)));
            drop(held);
            self.changes.announce();
        }
    }
}

fn put(held: &mut BTreeMap<PolicyId, Held>, reported: Reported, by_name: bool) -> bool {
    let Reported { id, uid, generation, version, compiled, status, last_good, created, charge } = reported;
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
    // A last good generation from memory keeps its own room until a newer one replaces it.
    let charge = match (&error, before) {
        (Some(InvalidPolicy::NoRoom(_)), Some(before)) if good.is_some() => before.charge.clone(),
        _ => charge,
    };
    let surplus = before.is_some_and(|before| before.surplus);
    let policy = Held {
        id: id.clone(),
        uid,
        generation,
        version,
        error,
        good,
        status,
        by_name,
        surplus,
        created,
        charge,
    };
    let same = before.is_some_and(|before| before.same_as(&policy));
    held.insert(id, policy);
    !same
}

impl Held {
    /// Returns the reason why a surplus policy is not in force.
    #[must_use]
    pub fn too_many(&self) -> String {
        let namespace = self.id.namespace.as_deref().unwrap_or_default();
        format!("namespace {namespace} has {IN_FORCE} older policies, and no more than that are in force")
    }

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
            generation: held.good.as_ref().filter(|_| !held.surplus).map(|good| good.generation),
            error: match &held.error {
                Some(error) => Some(error.to_string()),
                None => held.surplus.then(|| held.too_many()),
            },
        }
    }
}

/// Marks the policies beyond the oldest [`IN_FORCE`] of each namespace. Of policies of the same age the names decide, so
/// that every replica has the same ones in force.
fn mark_surplus(held: &mut BTreeMap<PolicyId, Held>) {
    let mut namespaces: BTreeMap<&str, Vec<(Timestamp, &PolicyId)>> = BTreeMap::new();
    for (id, policy) in &*held {
        if let Some(namespace) = &id.namespace {
            // An object without a creation time counts as the youngest.
            let created = policy.created.unwrap_or(Timestamp::MAX);
            namespaces.entry(namespace).or_default().push((created, id));
        }
    }
    let beyond = |mut policies: Vec<(Timestamp, &PolicyId)>| {
        policies.sort_unstable();
        policies.into_iter().skip(IN_FORCE).map(|(_, id)| id.clone()).collect::<Vec<_>>()
    };
    let surplus = namespaces.into_values().flat_map(beyond).collect::<BTreeSet<_>>();
    for (id, policy) in held {
        policy.surplus = surplus.contains(id);
    }
}

/// Returns the policies in force, sorted by namespace and name as the map is.
fn snapshot(held: &BTreeMap<PolicyId, Held>) -> PolicySet {
    let mut set = PolicySet::default();
    for (id, held) in held {
        let Some(good) = held.good.as_ref().filter(|_| !held.surplus) else { continue };
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
        if object.metadata.uid.is_none() {
            return Ok(None);
        }
        let reported = Self::parse::<K>(self, &object.metadata, object.spec, object.status);
        let charged = {
            let held = self.held.read();
            let before = held.get(&reported.id);
            reported.charged(&self.budget, before)
        };
        let no_room = |refused| Box::new(Unreadable::without_room(&object.metadata, refused));
        charged.map(Some).map_err(no_room)
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

fn id_of(metadata: &ObjectMeta) -> PolicyId {
    PolicyId { namespace: metadata.namespace.clone(), name: metadata.name.clone().unwrap_or_default() }
}

fn id(object: &Identity) -> PolicyId {
    PolicyId { namespace: object.namespace.clone(), name: object.name.clone() }
}

#[cfg(test)]
mod tests {
    use allocation_counter::measure;
    use serde_json::json;

    use super::*;
    use crate::image_policy::ImagePolicy;

    #[test]
    fn a_policy_is_counted_with_about_the_memory_that_it_takes() {
        let metadata = json!({ "name": "a", "namespace": "shop", "uid": "u", "generation": 2 });
        let metadata = serde_json::from_value(metadata).unwrap();
        let globs =
            |number: usize| (0..number).map(|at| format!("ghcr.io/team-{at}/service-*")).collect::<Vec<_>>();
        let exception = |at: usize| json!({ "name": format!("e{at}"), "reason": "known", "expires": "2030-01-01T00:00:00Z", "images": globs(16), "rules": ["tags"] });
        let exceptions = |number: usize| (0..number).map(exception).collect::<Vec<_>>();
        let mut wrong = Vec::new();
        for (name, spec) in [
            ("empty", json!({})),
            (
                "small",
                json!({ "match": { "images": globs(4) }, "rules": { "tags": { "requireExplicit": true, "forbidden": ["latest"] } } }),
            ),
            ("large", json!({ "match": { "images": globs(64) }, "exceptions": exceptions(64) })),
        ] {
            for status in [json!({}), json!({ "lastGood": { "generation": 1, "spec": spec } })] {
                let mut counted = 0;
                let mut kept = None;
                let allocated = measure(|| {
                    let reported = Reported::parse::<ImagePolicy>(&metadata, spec.clone(), status.clone());
                    counted = reported.bytes();
                    kept = Some(reported);
                });
                let taken = usize::try_from(allocated.bytes_current).unwrap();
                let reported = kept.unwrap();
                println!("{name}: counted {counted}, taken {taken}, {:?}", reported.compiled.is_ok());
                if counted * 10 < taken * 9 || counted > taken * 4 + 8192 {
                    wrong.push((name, counted, taken));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
