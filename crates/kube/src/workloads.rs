//! The objects that hold pod templates, and the revisions that some of them keep: who owns whom, and which images a
//! workload could go back to.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::changes::Changes;
use crate::follow::Sink;
use crate::object::{Object, OldRevision, Slot};
use crate::shelf::Shelf;
use parking_lot::RwLock;
use tagpin_domain::slot::{Kind, SlotKey};
use tagpin_objects::item::{Identity, Unreadable};
use tagpin_objects::slim::Slim;

/// Workloads of every kind of the slot table but pods, and ControllerRevisions.
#[derive(Debug, Default)]
pub struct Workloads {
    objects: RwLock<BTreeMap<Kind, Shelf<Object>>>,
    revisions: RwLock<Shelf<OldRevision>>,
    changes: Changes,
}

impl Workloads {
    pub(crate) fn new(changes: Changes) -> Self {
        Self { changes, ..Self::default() }
    }

    /// A workload was reported.
    pub fn apply(&self, object: Object) {
        let changed = self.objects.write().entry(object.kind).or_default().put(Arc::new(object));
        if changed {
            self.changes.announce();
        }
    }

    /// The workload of this kind with this UID is gone.
    pub fn delete(&self, kind: Kind, uid: &str) {
        let gone = self.objects.write().get_mut(&kind).and_then(|shelf| shelf.take(uid));
        if gone.is_some() {
            self.changes.announce();
        }
    }

    /// These are all workloads of this kind.
    pub fn replace(&self, kind: Kind, objects: Vec<Object>) {
        let new = Shelf::from_list(objects.into_iter().filter(|object| object.kind == kind));
        let same = self.objects.read().get(&kind).is_some_and(|held| held.same_as(&new));
        if !same {
            self.objects.write().insert(kind, new);
            self.changes.announce();
        }
    }

    /// A ControllerRevision was reported.
    pub fn apply_revision(&self, revision: OldRevision) {
        let changed = self.revisions.write().put(Arc::new(revision));
        if changed {
            self.changes.announce();
        }
    }

    /// The ControllerRevision with this UID is gone.
    pub fn delete_revision(&self, uid: &str) {
        let gone = self.revisions.write().take(uid);
        if gone.is_some() {
            self.changes.announce();
        }
    }

    /// These are all ControllerRevisions.
    pub fn replace_revisions(&self, revisions: Vec<OldRevision>) {
        let new = Shelf::from_list(revisions);
        let same = self.revisions.read().same_as(&new);
        if !same {
            *self.revisions.write() = new;
            self.changes.announce();
        }
    }

    /// The workload of this kind with this UID.
    #[must_use]
    pub fn get(&self, kind: Kind, uid: &str) -> Option<Arc<Object>> {
        self.objects.read().get(&kind)?.get(uid).map(Arc::clone)
    }

    /// Every workload, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Object>> {
        self.objects.read().values().flat_map(Shelf::all).map(Arc::clone).collect()
    }

    /// Whether another revision of this workload carries this reference in this slot.
    #[must_use]
    pub fn carries(&self, kind: Kind, namespace: &str, uid: &str, slot: &SlotKey, reference: &str) -> bool {
        let has = |slots: &[Slot]| slots.iter().any(|held| held.key == *slot && held.reference == reference);
        match kind {
            Kind::Deployment => self.objects.read().get(&Kind::ReplicaSet).is_some_and(|shelf| {
                let mut revisions = shelf.controlled_by(uid).iter();
                revisions.any(|object| {
                    object.controller_kind() == Some(kind)
                        && object.namespace == namespace
                        && has(&object.slots)
                })
            }),
            Kind::StatefulSet | Kind::DaemonSet => {
                self.revisions.read().controlled_by(uid).iter().any(|revision| {
                    let controller = revision.controller.as_ref().and_then(|controller| controller.kind);
                    controller == Some(kind) && revision.namespace == namespace && has(&revision.slots)
                })
            }
            Kind::Pod
            | Kind::ReplicaSet
            | Kind::ReplicationController
            | Kind::Job
            | Kind::CronJob
            | Kind::PodTemplate => false,
        }
    }
}

/// The workloads of one kind, as its watch fills them.
pub(crate) struct OfKind<'a> {
    workloads: &'a Workloads,
    kind: Kind,
}

/// The ControllerRevisions, as their watch fills them.
pub(crate) struct Revisions<'a>(&'a Workloads);

impl Workloads {
    pub(crate) const fn of_kind(&self, kind: Kind) -> OfKind<'_> {
        OfKind { workloads: self, kind }
    }

    pub(crate) const fn revisions(&self) -> Revisions<'_> {
        Revisions(self)
    }
}

impl Sink<Slim> for OfKind<'_> {
    type Item = Object;

    fn parse(&self, object: Slim) -> Option<Object> {
        Object::new(self.kind, &object)
    }

    fn apply(&self, object: Object) {
        self.workloads.apply(object);
    }

    fn delete(&self, gone: &Identity) {
        self.workloads.delete(self.kind, &gone.uid);
    }

    fn replace(&self, objects: Vec<Object>, _: &[Unreadable]) {
        self.workloads.replace(self.kind, objects);
    }

    fn lose(&self, object: &Identity) {
        self.delete(object);
    }
}

impl Sink<Slim> for Revisions<'_> {
    type Item = OldRevision;

    fn parse(&self, object: Slim) -> Option<OldRevision> {
        OldRevision::new(&object)
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
