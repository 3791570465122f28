//! The objects that hold pod templates, and the revisions that some of them keep. They tell who owns an
//! object, to which images a workload could go back, and since when a revision is known.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::budget::Budget;
use crate::changes::Changes;
use crate::follow::Sink;
use crate::item::{Identity, Unreadable};
use crate::shelf::Shelf;
use crate::sightings::{Sighted, Sightings};
use crate::slim::Slim;
use crate::stored::{OldRevision, Stored};
use parking_lot::RwLock;
use tagpin_domain::kind::Kind;
use tagpin_domain::pin::{REVISION_LABELS, Revision};
use tagpin_domain::slot::{Slot, SlotKey};
use tagpin_domain::workload::{LabelSet, Labels, Workload};
use tagpin_objects::kinds::{CRON_JOB, DAEMON_SET, DEPLOYMENT, JOB, Kinds, REPLICA_SET, Row, STATEFUL_SET};
use tokio::time::Instant;

/// Maximum number of different labels of revisions that carry one slot. What others have excuses nothing.
const CARRIED: usize = 16;

/// The workloads of every kind in the table of kinds except pods, and the ControllerRevisions.
#[derive(Debug, Default)]
pub struct Workloads {
    objects: RwLock<BTreeMap<Kind, Shelf<Stored>>>,
    revisions: RwLock<Shelf<OldRevision>>,
    sightings: Sightings,
    kinds: Kinds,
    budget: Budget,
    changes: Changes,
}

impl Workloads {
    pub(crate) fn new(kinds: Kinds, budget: Budget, changes: Changes) -> Self {
        Self { kinds, budget, changes, ..Self::default() }
    }

    /// Records a workload that was reported.
    pub fn apply(&self, object: Stored) {
        let object = Arc::new(object);
        self.see(&*object);
        let changed = self.objects.write().entry(object.workload.kind).or_default().put(object);
        if changed {
            self.changes.announce();
        }
    }

    /// Removes the workload of this kind with this UID.
    pub fn delete(&self, kind: Kind, uid: &str) {
        let gone = self.objects.write().get_mut(&kind).and_then(|shelf| shelf.take(uid));
        if let Some(gone) = gone {
            self.forget(&*gone);
            self.changes.announce();
        }
    }

    /// Replaces all workloads of this kind with these.
    pub fn replace(&self, kind: Kind, objects: Vec<Stored>) {
        let new = Shelf::from_list(objects.into_iter().filter(|object| object.workload.kind == kind));
        let same = self.objects.read().get(&kind).is_some_and(|held| held.same_as(&new));
        if !same {
            new.all().for_each(|object| self.see(&**object));
            let old = self.objects.write().insert(kind, new);
            let objects = self.objects.read();
            let left = |object: &&Arc<Stored>| {
                objects.get(&kind).is_none_or(|new| new.get(&object.workload.uid).is_none())
            };
            old.iter().flat_map(Shelf::all).filter(left).for_each(|object| self.forget(&**object));
            drop(objects);
            self.changes.announce();
        }
    }

    /// Records a ControllerRevision that was reported.
    pub fn apply_revision(&self, revision: OldRevision) {
        self.see(&revision);
        let changed = self.revisions.write().put(Arc::new(revision));
        if changed {
            self.changes.announce();
        }
    }

    /// Removes the ControllerRevision with this UID.
    pub(crate) fn delete_revision(&self, uid: &str) {
        let gone = self.revisions.write().take(uid);
        if let Some(gone) = gone {
            self.forget(&*gone);
            self.changes.announce();
        }
    }

    /// Replaces all ControllerRevisions with these.
    pub fn replace_revisions(&self, revisions: Vec<OldRevision>) {
        let new = Shelf::from_list(revisions);
        let same = self.revisions.read().same_as(&new);
        if !same {
            new.all().for_each(|revision| self.see(&**revision));
            let old = std::mem::replace(&mut *self.revisions.write(), new);
            let revisions = self.revisions.read();
            let left = |revision: &&Arc<OldRevision>| revisions.get(&revision.uid).is_none();
            old.all().filter(left).for_each(|revision| self.forget(&**revision));
            drop(revisions);
            self.changes.announce();
        }
    }

    /// Records that a revision is there, if the object is one.
    fn see(&self, object: &impl AsRevision) {
        if let Some(revision) = object.revision() {
            self.sightings.first_seen(revision, Instant::now());
        }
    }

    fn forget(&self, object: &impl AsRevision) {
        if let Some(revision) = object.revision() {
            self.sightings.forget(revision);
        }
    }

    /// Returns the time at which a watch or a review first showed the revision; none for a Job that a CronJob made.
    #[must_use]
    pub(crate) fn first_seen(&self, revision: &Revision, now: Instant) -> Option<Instant> {
        let Revision { namespace, controller, hash } = revision;
        let job = self.get(JOB, controller).filter(|job| job.workload.namespace == *namespace);
        if job.is_some_and(|job| job.workload.controller_kind() == Some(CRON_JOB)) {
            return None;
        }
        Some(self.sightings.first_seen(Sighted { namespace, controller, hash }, now))
    }

    /// Returns the workload of this kind with this UID.
    #[must_use]
    pub fn get(&self, kind: Kind, uid: &str) -> Option<Arc<Stored>> {
        self.objects.read().get(&kind)?.get(uid).map(Arc::clone)
    }

    /// Returns all workloads, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Stored>> {
        self.objects.read().values().flat_map(Shelf::all).map(Arc::clone).collect()
    }

    /// Returns for each of these slots the labels of the revisions of this workload whose slot it repeats, as far as they
    /// have these keys. Equal labels are returned once, and at most [`CARRIED`] for one slot. A revision with more labels
    /// than are kept is left out, because nobody can tell which policies it passed.
    #[must_use]
    pub(crate) fn carries(
        &self,
        kind: Kind,
        namespace: &str,
        uid: &str,
        slots: &[&Slot],
        keys: &BTreeSet<&str>,
    ) -> Vec<Vec<Labels>> {
        let mut carried = Carried::new(slots, keys);
        let is_owner =
            |controller: Option<Kind>, within: &str| controller == Some(kind) && within == namespace;
        match kind {
            DEPLOYMENT => {
                let objects = self.objects.read();
                for object in objects.get(&REPLICA_SET).map_or(&[][..], |shelf| shelf.controlled_by(uid)) {
                    let workload = &object.workload;
                    if is_owner(workload.controller_kind(), &workload.namespace) {
                        carried.see(&workload.slots, &workload.labels);
                    }
                }
            }
            STATEFUL_SET | DAEMON_SET => {
                for revision in self.revisions.read().controlled_by(uid) {
                    let controller = revision.controller.as_ref().and_then(|controller| controller.kind);
                    if is_owner(controller, &revision.namespace) {
                        carried.see(&revision.slots, &revision.labels);
                    }
                }
            }
            // Other kinds keep no revisions.
            _ => {}
        }
        carried.labels
    }
}

/// The labels of the revisions that carry some slots already. Whoever may create revisions decides how many there are, so
/// each of their slots is looked up once.
struct Carried<'a> {
    slots: &'a [&'a Slot],
    keys: &'a BTreeSet<&'a str>,
    /// The positions of the slots. Names may not be unique in an object that is not validated yet.
    positions: HashMap<&'a SlotKey, Vec<usize>>,
    labels: Vec<Vec<Labels>>,
}

impl<'a> Carried<'a> {
    fn new(slots: &'a [&'a Slot], keys: &'a BTreeSet<&'a str>) -> Self {
        let mut positions: HashMap<_, Vec<_>> = HashMap::new();
        for (position, slot) in slots.iter().enumerate() {
            positions.entry(slot.key()).or_default().push(position);
        }
        Self { slots, keys, positions, labels: vec![Vec::new(); slots.len()] }
    }

    /// Takes in the slots and labels of one revision. A revision whose labels were cut excuses nothing.
    fn see(&mut self, revision: &[Slot], labels: &LabelSet) {
        if !labels.whole {
            return;
        }
        let mut wanted = None;
        for held in revision {
            for position in self.positions.get(held.key()).into_iter().flatten() {
                let repeats = self.slots.get(*position).is_some_and(|slot| slot.repeats(held));
                let Some(carried) = self.labels.get_mut(*position).filter(|_| repeats) else { continue };
                let wanted = wanted.get_or_insert_with(|| wanted_of(&labels.known, self.keys));
                if carried.len() < CARRIED && !carried.contains(wanted) {
                    carried.push(wanted.clone());
                }
            }
        }
    }
}

/// Returns the labels with these keys.
fn wanted_of(labels: &Labels, keys: &BTreeSet<&str>) -> Labels {
    let wanted = keys.iter().filter_map(|key| labels.get_key_value(*key));
    wanted.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// An object that may be the revision of a workload.
trait AsRevision {
    /// Returns the revision that the pods of this object have; none if the object is no revision.
    fn revision(&self) -> Option<Sighted<'_>>;
}

impl AsRevision for Stored {
    /// Only ReplicaSets and Jobs are revisions themselves.
    fn revision(&self) -> Option<Sighted<'_>> {
        let Workload { kind, namespace, uid, labels, .. } = &self.workload;
        let hash =
            REVISION_LABELS.into_iter().find_map(|label| labels.known.get(label)).map_or("", String::as_str);
        matches!(*kind, REPLICA_SET | JOB).then_some(Sighted { namespace, controller: uid, hash })
    }
}

impl AsRevision for OldRevision {
    fn revision(&self) -> Option<Sighted<'_>> {
        let controller = &self.controller.as_ref()?.uid;
        Some(Sighted { namespace: &self.namespace, controller, hash: self.hash.as_deref()? })
    }
}

/// The sink of the watch of one kind of workloads.
pub(crate) struct OfKind<'a> {
    workloads: &'a Workloads,
    row: &'static Row,
}

/// The sink of the watch of ControllerRevisions.
pub(crate) struct Revisions<'a>(&'a Workloads);

impl Workloads {
    pub(crate) const fn of_kind(&self, row: &'static Row) -> OfKind<'_> {
        OfKind { workloads: self, row }
    }

    pub(crate) const fn revisions(&self) -> Revisions<'_> {
        Revisions(self)
    }
}

impl Sink<Slim> for OfKind<'_> {
    type Item = Stored;

    fn parse(&self, object: Slim) -> Result<Option<Stored>, Box<Unreadable>> {
        let Self { workloads, row } = self;
        let Some(stored) = Stored::new(&workloads.kinds, row, &object)? else { return Ok(None) };
        let before = workloads.get(row.kind, &stored.workload.uid);
        stored.charged(&workloads.budget, before.as_deref(), &object.metadata).map(Some)
    }

    fn apply(&self, object: Stored) {
        self.workloads.apply(object);
    }

    fn delete(&self, gone: &Identity) {
        self.workloads.delete(self.row.kind, &gone.uid);
    }

    fn replace(&self, objects: Vec<Stored>, _: &[Unreadable]) {
        self.workloads.replace(self.row.kind, objects);
    }

    fn lose(&self, object: &Identity) {
        self.delete(object);
    }
}

impl Sink<Slim> for Revisions<'_> {
    type Item = OldRevision;

    fn parse(&self, object: Slim) -> Result<Option<OldRevision>, Box<Unreadable>> {
        let Some(revision) = OldRevision::new(&self.0.kinds, &object) else { return Ok(None) };
        let before = self.0.revisions.read().get(&revision.uid).map(Arc::clone);
        revision.charged(&self.0.budget, before.as_deref(), &object.metadata).map(Some)
    }

    fn apply(&self, revision: OldRevision) {
        self.0.apply_revision(revision);
    }

    fn delete(&self, gone: &Identity) {
        self.0.delete_revision(&gone.uid);
    }

    fn replace(&self, revisions: Vec<OldRevision>, _: &[Unreadable]) {
        self.0.replace_revisions(revisions);
    }

    fn lose(&self, object: &Identity) {
        self.delete(object);
    }
}
