//! The memory of every replica, which watches fill: policies, namespaces, workloads and their revisions, pods and their
//! pins, service accounts. It decides nothing and writes nothing.
//!
//! Every store is memory behind a short lock. A review causes at most one call to the API server: it reads an owner or a
//! namespace that no watch has reported yet.

use std::sync::Arc;

use tokio::time::Instant;

use crate::metrics::Watches;
use tagpin_domain::policy::{Labels, PolicySet};
use tagpin_domain::slot::{Kind, SlotKey};
use tagpin_domain::subject::TopOwner;

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

pub use changes::{Changes, Watcher};
pub use follow::Observed;

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

/// Everything that a replica knows of its cluster.
pub struct Cluster {
    /// The policies, in force or not.
    pub policies: Policies,
    /// The labels of namespaces.
    pub namespaces: Namespaces,
    /// The objects with pod templates, and their revisions.
    pub workloads: Arc<Workloads>,
    /// The pods and their pins, also those of pods that were deleted within the last hour.
    pub pods: Arc<Pods>,
    /// The names of the pull secrets of service accounts.
    pub accounts: Accounts,
    /// The mutating webhook configuration, as it was last reported.
    pub pinning: Pinning,
    /// The stores that have been filled.
    pub synced: Synced,
    /// The objects that cannot be read.
    pub unreadable: Unreadables,
    /// Counters of failed watches.
    pub watches: Watches,
    reader: Box<dyn Reader>,
    changes: Changes,
}

impl Cluster {
    /// Returns empty stores. The reader reads what no watch has reported.
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

    /// Returns a snapshot of the policies in force.
    #[must_use]
    pub fn policies(&self) -> Arc<PolicySet> {
        self.policies.in_force()
    }

    /// Returns the labels of a namespace; none if no watch has reported it.
    #[must_use]
    pub fn namespace_labels(&self, namespace: &str) -> Option<Arc<Labels>> {
        self.namespaces.labels(namespace)
    }

    /// Returns the labels of a namespace before the deadline. If no watch has reported it, this waits a moment and then
    /// reads it once, because an object in a new namespace must not be judged as if the namespace had no labels.
    pub async fn awaited_namespace_labels(&self, namespace: &str, deadline: Instant) -> Option<Arc<Labels>> {
        let held = || self.namespaces.labels(namespace);
        let read = async { self.reader.namespace_labels(namespace, deadline).await.map(Arc::new) };
        held_or_read(&mut self.changes.watch(), deadline, held, read).await
    }

    /// Returns the names of the service account's pull secrets in its order. An empty name means `default`.
    #[must_use]
    pub fn pull_secrets(&self, namespace: &str, service_account: &str) -> Vec<String> {
        self.accounts.pull_secrets(namespace, service_account)
    }

    /// Returns true if a revision of this workload has this reference in this slot: a ReplicaSet of a Deployment, or a
    /// ControllerRevision of a StatefulSet or a DaemonSet. Other kinds have no revisions.
    #[must_use]
    pub fn carries(&self, kind: Kind, namespace: &str, uid: &str, slot: &SlotKey, reference: &str) -> bool {
        self.workloads.carries(kind, namespace, uid, slot, reference)
    }

    /// Returns the topmost owner of an object of this kind with this controller, before the deadline. If an owner is not
    /// in a store yet, this waits a moment and then reads it once.
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

    /// Returns a watcher of the changes of all stores.
    #[must_use]
    pub fn changes(&self) -> Watcher {
        self.changes.watch()
    }
}
