//! Controller references, followed upwards to the object that `match.kinds` refers to.

use std::sync::Arc;

use tokio::time::Instant;

use crate::changes::Watcher;

use crate::pods::Pods;
use crate::reader::{Reader, held_or_read};
use crate::stored::Stored;
use crate::workloads::Workloads;
use tagpin_domain::kind::Kind;
use tagpin_domain::subject::TopOwner;
use tagpin_domain::workload::{Ascent, ControllerRef, Known, Workload};
use tagpin_objects::kinds::{CONTROLLER_REVISIONS, POD};

/// The stores that hold owners.
#[derive(Clone, Copy)]
pub(crate) struct Stores<'a> {
    pub(crate) workloads: &'a Workloads,
    pub(crate) pods: &'a Pods,
}

impl Stores<'_> {
    /// Returns a controller that a store holds. An owner in another namespace is no owner: Kubernetes deletes
    /// its children.
    fn get(self, kind: Kind, owner: &ControllerRef, namespace: &str) -> Option<Arc<Stored>> {
        let held = match kind {
            POD => self.pods.get(&owner.uid),
            kind => self.workloads.get(kind, &owner.uid),
        };
        held.filter(|object| is_owner(object, owner, namespace))
    }

    /// Climbs to the topmost validated object, as far as the stores know it.
    pub(crate) fn climb(self, from: &Arc<Stored>) -> (Arc<Stored>, TopOwner) {
        let mut top = Arc::clone(from);
        let mut ascent = Ascent::new(&from.workload);
        while let Some((kind, owner)) = ascent.next() {
            match self.get(kind, owner, &from.workload.namespace) {
                Some(object) => {
                    ascent.found(object.workload.controller.clone());
                    top = object;
                }
                None => ascent.lost(),
            }
        }
        (top, ascent.top())
    }
}

/// Climbs to the topmost validated object. An owner that is not in a store yet is awaited for a moment and
/// then read once. All of this happens before the deadline.
pub(crate) async fn top(
    stores: Stores<'_>,
    reader: &dyn Reader,
    mut changes: Watcher,
    workload: &Workload,
    deadline: Instant,
) -> TopOwner {
    // A controller may still adopt a revision that has none.
    if workload.kind == CONTROLLER_REVISIONS.kind && workload.controller.is_none() {
        return TopOwner::Unknown;
    }
    let mut ascent = Ascent::new(workload);
    while let Some((kind, owner)) = ascent.next() {
        let of = (kind, owner, workload.namespace.as_str());
        match controller_of(stores, reader, &mut changes, of, deadline).await {
            Known::Yes(controller) => ascent.found(controller),
            Known::Unknown => ascent.lost(),
        }
    }
    ascent.top()
}

/// Returns the controller of an owner of this kind and namespace, from a store or by one read.
pub(crate) async fn controller_of(
    stores: Stores<'_>,
    reader: &dyn Reader,
    changes: &mut Watcher,
    (kind, owner, namespace): (Kind, &ControllerRef, &str),
    deadline: Instant,
) -> Known<Option<ControllerRef>> {
    let held = || Some(stores.get(kind, owner, namespace)?.workload.controller.clone());
    let read = async {
        let object = reader.object(kind, namespace, &owner.name, deadline).await?;
        is_owner(&object, owner, namespace).then_some(object.workload.controller)
    };
    held_or_read(changes, deadline, held, read).await.map_or(Known::Unknown, Known::Yes)
}

fn is_owner(object: &Stored, owner: &ControllerRef, namespace: &str) -> bool {
    object.workload.uid == owner.uid && object.workload.namespace == namespace
}
