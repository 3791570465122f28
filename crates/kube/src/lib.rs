//! What every replica knows of its cluster, from watches: policies, namespaces, workloads and their revisions, pods
//! and their pins, service accounts. It decides nothing and writes nothing.
//!
//! Every store is memory behind a short lock; the only call to the API server on behalf of a review is one read of an
//! owner that no watch has reported yet.

use std::sync::Arc;

use tokio::time::Instant;

use crate::metrics::Watches;
use tagpin_domain::policy::{Labels, PolicySet};
use tagpin_domain::slot::{Kind, SlotKey};
use tagpin_domain::subject::TopOwner;

pub mod crds;
pub mod image_policy;
pub mod object;

pub mod accounts;
pub mod namespaces;
pub mod pods;
pub mod policies;
pub mod workloads;

pub mod owners;
pub mod reader;
pub mod store;
pub mod unreadable;

pub mod by_name;
pub mod certificate;
pub mod client;
pub mod metrics;
pub mod pin_keys;
pub mod pinning;
pub mod watch;

mod changes;
pub mod follow;
mod shelf;
mod sinks;

pub use changes::{Changes, Watcher};
pub use follow::Seen;

use accounts::Accounts;
use namespaces::Namespaces;
use object::ControllerRef;
use pinning::Pinning;
use pods::Pods;
use policies::Policies;
use reader::{Reader, held_or_read};
use store::{Store, Synced};
use unreadable::Unreadables;
use workloads::Workloads;

/// What a replica knows. Cheap to share: every method takes `&self`.
pub struct Cluster {
    /// The policies in force, and those that do not compile.
    pub policies: Policies,
    /// The namespaces' labels.
    pub namespaces: Namespaces,
    /// The objects with pod templates, and the revisions of some.
    pub workloads: Arc<Workloads>,
    /// The pods, their pins, and the pins of those that went a moment ago.
    pub pods: Arc<Pods>,
    /// The service accounts' pull secrets.
    pub accounts: Accounts,
    /// Whether pods are sent to be pinned.
    pub pinning: Pinning,
    /// Which stores have been filled.
    pub synced: Synced,
    /// The objects that cannot be read.
    pub unreadable: Unreadables,
    /// How often the watches failed.
    pub watches: Watches,
    reader: Box<dyn Reader>,
    changes: Changes,
}

impl Cluster {
    /// An empty memory. The reader is asked for what no watch has reported.
    #[must_use]
    pub fn new(reader: impl Reader + 'static) -> Self {
        let changes = Changes::default();
        let workloads = Arc::new(Workloads::new(changes.clone()));
        Self {
            policies: Policies::new(changes.clone()),
            namespaces: Namespaces::new(changes.clone()),
            pods: Arc::new(Pods::new(Arc::clone(&workloads), changes.clone())),
            workloads,
            accounts: Accounts::new(changes.clone()),
            pinning: Pinning::default(),
            synced: Synced::new(changes.clone()),
            unreadable: Unreadables::default(),
            watches: Watches::new(Store::all().map(Store::name)),
            reader: Box::new(reader),
            changes,
        }
    }

    /// The policies in force, as one snapshot.
    #[must_use]
    pub fn policies(&self) -> Arc<PolicySet> {
        self.policies.in_force()
    }

    /// The labels of a namespace; none when no watch has reported it.
    #[must_use]
    pub fn namespace_labels(&self, namespace: &str) -> Option<Arc<Labels>> {
        self.namespaces.labels(namespace)
    }

    /// The labels of a namespace, waited for a moment when no watch has reported it yet and then read once, all before
    /// the deadline: what is created in a new namespace at once must not be judged as if the namespace had no labels.
    pub async fn awaited_namespace_labels(&self, namespace: &str, deadline: Instant) -> Option<Arc<Labels>> {
        let held = || self.namespaces.labels(namespace);
        let read = async { self.reader.namespace_labels(namespace, deadline).await.map(Arc::new) };
        held_or_read(&mut self.changes.watch(), deadline, held, read).await
    }

    /// The names of the service account's pull secrets, in its order. An omitted service account is `default`.
    #[must_use]
    pub fn pull_secrets(&self, namespace: &str, service_account: &str) -> Vec<String> {
        self.accounts.pull_secrets(namespace, service_account)
    }

    /// Whether another revision of this workload carries this reference in this slot: a ReplicaSet of a Deployment, a
    /// ControllerRevision of a StatefulSet or a DaemonSet. Other kinds have no revisions.
    #[must_use]
    pub fn carries(&self, kind: Kind, namespace: &str, uid: &str, slot: &SlotKey, reference: &str) -> bool {
        self.workloads.carries(kind, namespace, uid, slot, reference)
    }

    /// The last validated object on the way up from an object of this kind with this controller. An owner that is not
    /// in a store yet is waited for a moment and then read once, all before the deadline.
    pub async fn top_owner(
        &self,
        namespace: &str,
        kind: Kind,
        controller: Option<&ControllerRef>,
        deadline: Instant,
    ) -> TopOwner {
        let stores = owners::Stores { workloads: &self.workloads, pods: &self.pods };
        owners::top(stores, &*self.reader, self.changes.watch(), namespace, kind, controller, deadline).await
    }

    /// Sees every change of every store that a reader could notice.
    #[must_use]
    pub fn changes(&self) -> Watcher {
        self.changes.watch()
    }
}
