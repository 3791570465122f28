//! Following controller references upwards, to the object that `match.kinds` is about.

use std::sync::Arc;

use tokio::time::Instant;

use crate::changes::Watcher;
use crate::object::{ControllerRef, Object};
use crate::pods::Pods;
use crate::reader::{Reader, held_or_read};
use crate::workloads::Workloads;
use tagpin_domain::slot::Kind;
use tagpin_domain::subject::TopOwner;

/// Controllers are two deep in a cluster (a Job of a CronJob); a longer chain is somebody's game.
const DEPTH: usize = 8;

/// Where owners are held.
#[derive(Clone, Copy)]
pub(crate) struct Stores<'a> {
    pub(crate) workloads: &'a Workloads,
    pub(crate) pods: &'a Pods,
}

impl Stores<'_> {
    fn get(self, kind: Kind, uid: &str) -> Option<Arc<Object>> {
        match kind {
            Kind::Pod => self.pods.get(uid),
            kind => self.workloads.get(kind, uid),
        }
    }
}

/// The last validated object on the way up.
pub(crate) async fn top(
    stores: Stores<'_>,
    reader: &dyn Reader,
    mut changes: Watcher,
    namespace: &str,
    kind: Kind,
    controller: Option<&ControllerRef>,
    deadline: Instant,
) -> TopOwner {
    let mut top = kind;
    let mut controller = controller.cloned();
    for _ in 0..DEPTH {
        let Some((owner, kind)) = controller.as_ref().and_then(|owner| Some((owner, owner.kind?))) else {
            return TopOwner::Known(top);
        };
        let Some(next) = find(stores, reader, &mut changes, namespace, kind, owner, deadline).await else {
            return TopOwner::Unknown;
        };
        top = kind;
        controller = next;
    }
    TopOwner::Unknown
}

/// The controller of one owner; nothing when the owner can not be found in time.
async fn find(
    stores: Stores<'_>,
    reader: &dyn Reader,
    changes: &mut Watcher,
    namespace: &str,
    kind: Kind,
    owner: &ControllerRef,
    deadline: Instant,
) -> Option<Option<ControllerRef>> {
    // Owners are of the same namespace: one of another namespace is no owner (Kubernetes deletes such children).
    let is_it = |object: &Object| object.uid == owner.uid && object.namespace == namespace;
    let held = || {
        let object = stores.get(kind, &owner.uid).filter(|object| is_it(object))?;
        Some(object.controller.clone())
    };
    let read = async {
        let object = reader.object(kind, namespace, &owner.name, deadline).await?;
        is_it(&object).then_some(object.controller)
    };
    held_or_read(changes, deadline, held, read).await
}
