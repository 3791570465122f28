//! The memory of every replica, filled by watches: policies, namespaces, workloads and their revisions, pods
//! and their pins, and service accounts. This crate decides nothing and writes nothing.
//!
//! Every store is memory behind a short lock. A review may read at the API server a namespace, an owner or a service
//! account that no watch has reported yet, and the kinds that the API server serves, at most twice a minute. It reads
//! nothing once its deadline has passed.
//! Before an image is refused because no registry has it, the
//! nodes are listed, at most once a minute.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use tagpin_domain::mark::Keys;
use tagpin_domain::policy::PolicySet;
use tagpin_domain::slot::Slot;
use tagpin_domain::subject::TopOwner;
use tagpin_domain::workload::{ControllerRef, ForeignKind, Known, Labels, Served, Workload};
use tagpin_objects::kinds::{Kinds, STATEFUL_SET};
use tagpin_review::Surroundings;

pub mod crds;
pub mod image_policy;
pub mod item;
pub mod slim;
pub mod stored;

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
pub mod discovery;
pub mod door;
pub mod metrics;
pub mod node_images;
pub mod pin_keys;
pub mod pinning;
pub mod secret;
pub mod watch;

pub mod budget;
mod changes;
pub mod follow;
pub mod metadata;
mod shelf;
mod sightings;

pub use changes::{Changes, Watcher};
pub use follow::Observed;

use accounts::Accounts;
use budget::Budget;
use discovery::Discovery;
use metrics::Watches;
use namespaces::Namespaces;
use owners::Stores;
use pinning::Pinning;
use pods::Pods;
use policies::Policies;
use reader::{Reader, held_or_read};
use store::{Store, Synced};
use stored::Stored;
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
    /// The mutating webhook configuration that was last reported.
    pub pinning: Pinning,
    /// The stores that have been filled.
    pub synced: Synced,
    /// The objects that cannot be read.
    pub unreadable: Unreadables,
    /// Counters of failed watches.
    pub watches: Watches,
    /// The memory that the stored objects may take.
    pub budget: Budget,
    kinds: Kinds,
    discovery: Discovery,
    reader: Box<dyn Reader>,
    changes: Changes,
}

impl Cluster {
    /// Returns empty stores for objects of these kinds. The reader reads what no watch has reported.
    #[must_use]
    pub fn new(kinds: Kinds, reader: impl Reader + 'static) -> Self {
        Self::with_budget(kinds, reader, Budget::default())
    }

    /// Returns empty stores whose objects take at most this budget.
    #[must_use]
    pub fn with_budget(kinds: Kinds, reader: impl Reader + 'static, budget: Budget) -> Self {
        let changes = Changes::default();
        let workloads = Arc::new(Workloads::new(kinds.clone(), budget.clone(), changes.clone()));
        Self {
            policies: Policies::new(budget.clone(), changes.clone()),
            namespaces: Namespaces::new(budget.clone(), changes.clone()),
            pods: Arc::new(Pods::new(Arc::clone(&workloads), kinds.clone(), budget.clone(), changes.clone())),
            workloads,
            accounts: Accounts::new(budget.clone(), changes.clone()),
            pinning: Pinning::default(),
            synced: Synced::new(kinds.clone(), changes.clone()),
            unreadable: Unreadables::default(),
            watches: Watches::new(Store::all(&kinds).map(Store::name)),
            budget,
            kinds,
            discovery: Discovery::default(),
            reader: Box::new(reader),
            changes,
        }
    }

    /// Returns the labels of a namespace; none if no watch has reported it.
    #[must_use]
    pub fn namespace_labels(&self, namespace: &str) -> Option<Arc<Labels>> {
        self.namespaces.labels(namespace)
    }

    /// Climbs from a stored object to the topmost validated object that controls it, as far as the stores
    /// know it.
    #[must_use]
    pub fn climb(&self, from: &Arc<Stored>) -> (Arc<Stored>, TopOwner) {
        self.owners().climb(from)
    }

    /// Returns true if a custom resource controls a stored pod, or the StatefulSet of the pod, as far as that is known.
    #[must_use]
    pub fn is_foreign(&self, pod: &Stored) -> bool {
        let is_custom = |controller: &ControllerRef| {
            let kind = controller.foreign.as_ref().filter(|kind| kind.may_be_custom());
            kind.is_some_and(|kind| self.discovery.known(kind, Instant::now()).may_be())
        };
        match &pod.workload.controller {
            Some(set) if set.kind == Some(STATEFUL_SET) => {
                let set = self.workloads.get(STATEFUL_SET, &set.uid);
                set.is_some_and(|set| set.workload.controller.as_ref().is_some_and(is_custom))
            }
            controller => controller.as_ref().is_some_and(is_custom),
        }
    }

    fn owners(&self) -> Stores<'_> {
        Stores { workloads: &self.workloads, pods: &self.pods }
    }

    /// Returns the table of the kinds that are validated.
    #[must_use]
    pub const fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// Returns a watcher of the changes of all stores.
    #[must_use]
    pub fn changes(&self) -> Watcher {
        self.changes.watch()
    }
}

#[async_trait]
impl Surroundings for Cluster {
    fn policies(&self) -> Arc<PolicySet> {
        self.policies.in_force()
    }

    fn keys(&self) -> Option<Arc<Keys>> {
        self.pods.keys()
    }

    /// Looks for the slots in the workload's revisions: the ReplicaSets of a Deployment, and the
    /// ControllerRevisions of a StatefulSet or a DaemonSet.
    fn carries(&self, workload: &Workload, slots: &[&Slot], keys: &BTreeSet<&str>) -> Vec<Vec<Labels>> {
        let Workload { kind, namespace, uid, .. } = workload;
        self.workloads.carries(*kind, namespace, uid, slots, keys)
    }

    fn needs_no_mark(&self, uid: &str) -> bool {
        let keys = self.pods.keys();
        self.pods.get(uid).is_some_and(|pod| pod.needs_no_mark(keys.as_deref()))
    }

    /// Waits for a namespace that no watch has reported yet. An object created in a new namespace must not be
    /// judged as if the namespace had no labels.
    async fn namespace_labels(&self, namespace: &str, deadline: Instant) -> Option<Arc<Labels>> {
        let held = || self.namespaces.labels(namespace);
        let read = async { self.reader.namespace_labels(namespace, deadline).await.map(Arc::new) };
        held_or_read(&mut self.changes.watch(), deadline, held, read).await
    }

    async fn pull_secrets(
        &self,
        namespace: &str,
        service_account: &str,
        deadline: Instant,
    ) -> Known<Vec<String>> {
        self.accounts.held_or_read(namespace, service_account, &*self.reader, deadline).await
    }

    async fn top_owner(&self, workload: &Workload, deadline: Instant) -> TopOwner {
        owners::top(self.owners(), &*self.reader, self.changes.watch(), workload, deadline).await
    }

    async fn controller_of(
        &self,
        owner: &ControllerRef,
        namespace: &str,
        deadline: Instant,
    ) -> Known<Option<ControllerRef>> {
        let Some(kind) = owner.kind else { return Known::Unknown };
        let (stores, mut changes) = (self.owners(), self.changes.watch());
        owners::controller_of(stores, &*self.reader, &mut changes, (kind, owner, namespace), deadline).await
    }

    async fn serves(&self, kind: &ForeignKind, deadline: Instant) -> Served {
        self.discovery.serves(kind, &*self.reader, deadline).await
    }

    async fn pinning_is_off(&self, deadline: Instant) -> bool {
        self.pinning.is_off(deadline).await
    }
}
