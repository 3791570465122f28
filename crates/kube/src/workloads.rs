//! The objects that hold pod templates, and the revisions that some of them keep. They tell who owns an
//! object, and to which images a workload could go back.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::changes::Changes;
use crate::follow::Sink;
use crate::item::{Identity, Unreadable};
use crate::shelf::Shelf;
use crate::slim::Slim;
use crate::stored::{OldRevision, Stored};
use parking_lot::RwLock;
use tagpin_domain::kind::Kind;
use tagpin_domain::slot::{Slot, SlotKey};
use tagpin_objects::kinds::{DAEMON_SET, DEPLOYMENT, Kinds, REPLICA_SET, Row, STATEFUL_SET};

/// The workloads of every kind in the table of kinds except pods, and the ControllerRevisions.
#[derive(Debug, Default)]
pub struct Workloads {
    objects: RwLock<BTreeMap<Kind, Shelf<Stored>>>,
    revisions: RwLock<Shelf<OldRevision>>,
    kinds: Kinds,
    changes: Changes,
}

impl Workloads {
    pub(crate) fn new(kinds: Kinds, changes: Changes) -> Self {
        Self { kinds, changes, ..Self::default() }
    }

    /// Records a workload that was reported.
    pub fn apply(&self, object: Stored) {
        let changed = self.objects.write().entry(object.workload.kind).or_default().put(Arc::new(object));
        if changed {
            self.changes.announce();
        }
    }

    /// Removes the workload of this kind with this UID.
    pub fn delete(&self, kind: Kind, uid: &str) {
        let gone = self.objects.write().get_mut(&kind).and_then(|shelf| shelf.take(uid));
        if gone.is_some() {
            self.changes.announce();
        }
    }

    /// Replaces all workloads of this kind with these.
    pub fn replace(&self, kind: Kind, objects: Vec<Stored>) {
        let new = Shelf::from_list(objects.into_iter().filter(|object| object.workload.kind == kind));
        let same = self.objects.read().get(&kind).is_some_and(|held| held.same_as(&new));
        if !same {
            self.objects.write().insert(kind, new);
            self.changes.announce();
        }
    }

    /// Records a ControllerRevision that was reported.
    pub fn apply_revision(&self, revision: OldRevision) {
        let changed = self.revisions.write().put(Arc::new(revision));
        if changed {
            self.changes.announce();
        }
    }

    /// Removes the ControllerRevision with this UID.
    pub(crate) fn delete_revision(&self, uid: &str) {
        let gone = self.revisions.write().take(uid);
        if gone.is_some() {
            self.changes.announce();
        }
    }

    /// Replaces all ControllerRevisions with these.
    pub fn replace_revisions(&self, revisions: Vec<OldRevision>) {
        let new = Shelf::from_list(revisions);
        let same = self.revisions.read().same_as(&new);
        if !same {
            *self.revisions.write() = new;
            self.changes.announce();
        }
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

    /// Returns true if a revision of this workload carries this reference in this slot.
    #[must_use]
    pub(crate) fn carries(
        &self,
        kind: Kind,
        namespace: &str,
        uid: &str,
        slot: &SlotKey,
        reference: &str,
    ) -> bool {
        let has =
            |slots: &[Slot]| slots.iter().any(|held| held.key() == slot && &*held.reference == reference);
        match kind {
            DEPLOYMENT => self.objects.read().get(&REPLICA_SET).is_some_and(|shelf| {
                shelf.controlled_by(uid).iter().any(|object| {
                    let workload = &object.workload;
                    workload.controller_kind() == Some(kind)
                        && workload.namespace == namespace
                        && has(&workload.slots)
                })
            }),
            STATEFUL_SET | DAEMON_SET => self.revisions.read().controlled_by(uid).iter().any(|revision| {
                let controller = revision.controller.as_ref().and_then(|controller| controller.kind);
                controller == Some(kind) && revision.namespace == namespace && has(&revision.slots)
            }),
            // Other kinds keep no revisions.
            _ => false,
        }
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
        Stored::new(&self.workloads.kinds, self.row, &object)
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
        Ok(OldRevision::new(&self.0.kinds, &object))
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
