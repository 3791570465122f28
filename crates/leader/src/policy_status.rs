//! The writer of the status of every policy: its readiness, and the counts of objects that violate it.
//!
//! A status is compared before it is written, so that a quiet cluster causes no writes. Nothing is written until every
//! store is filled.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::call::{CallError, call};
use crate::findings::Found;
use crate::reconcile::Reconcile;
use crate::replicas::{Ask, Replica};
use crate::webhook_config::{Installed, POLICIES};
use tagpin_domain::image::ImageRef;
use tagpin_domain::policy::PolicyId;
use tagpin_kube::Cluster;
use tagpin_kube::image_policy::{ClusterImagePolicy, ImagePolicy, PolicyObject};
use tagpin_kube::item::Item;
use tagpin_kube::policies::Held;
use tagpin_kube::slim::Unparsed;
use tagpin_objects::image_policy::PolicyStatus;
use tagpin_review::Surroundings as _;

pub mod bare;
pub mod standing;

mod document;

use document::Place;
use standing::{Count, count, exceptions, next_expiry};

/// Field manager of the status.
const MANAGER: &str = "tagpin-status";
/// Time in which changes are collected for one pass.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Minimum pause after a pass and minimum time between two counts of the cluster, as multiples of their durations.
const SHARE: u32 = 20;
/// Longest pause after a pass.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Minimum time between two writes of one status if only counts differ.
const COUNTS_INTERVAL: Duration = Duration::from_secs(10);
/// Time until replicas that lack a generation are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Pause after a failed write.
const RETRY: Duration = Duration::from_secs(5);
/// Maximum time between two passes, after which a clock that was set is noticed.
const MAX_INTERVAL: Duration = Duration::from_hours(1);
/// Time that a new leader waits for the state of the webhook configurations.
const PATIENCE: Duration = Duration::from_secs(30);

/// The writer of statuses.
pub struct StatusWriter {
    /// Client of the API server.
    pub client: Client,
    /// The stores with the objects to count.
    pub cluster: Arc<Cluster>,
    /// Namespaces that are never intercepted, and whose objects are not counted.
    pub excluded: BTreeSet<String>,
    /// Returns true if the registry of this image is offline, so that its images are never pinned.
    pub offline: Arc<dyn Fn(&ImageRef) -> bool + Send + Sync>,
    /// The state of the webhook configurations.
    pub installed: watch::Receiver<Installed>,
    /// The ready replicas.
    pub replicas: watch::Receiver<Vec<Replica>>,
    /// The findings of the replicas; none until one has answered. Until then the statuses keep theirs.
    pub found: watch::Receiver<Option<Arc<Found>>>,
    /// Receives each count that knows the findings of the replicas.
    pub counted: watch::Sender<Option<Arc<Count>>>,
    /// Asks a replica for its policies.
    pub ask: Arc<dyn Ask>,
    /// The wall clock, by which exceptions expire.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Metrics of the passes.
    pub reconcile: Reconcile,
}

/// The state between passes.
struct Memory {
    since: Instant,
    /// The time from which the objects of the cluster may be counted again.
    count_at: Instant,
    /// The generation of each policy that each replica has in force, by the replica's UID and the policy's
    /// UID. It never decreases.
    confirmed: HashMap<String, BTreeMap<String, i64>>,
    /// Time of the last write of each status, by the policy's UID.
    written: HashMap<String, Instant>,
}

impl StatusWriter {
    /// Keeps every status up to date, for ever.
    pub async fn keep(&self) -> Infallible {
        let mut changes = self.cluster.changes();
        let (mut installed, mut replicas, mut found) =
            (self.installed.clone(), self.replicas.clone(), self.found.clone());
        let mut memory = Memory::new();
        loop {
            let start = Instant::now();
            let at = installed.borrow_and_update().clone();
            let ready = replicas.borrow_and_update().clone();
            found.mark_unchanged();
            let missing = self.cluster.synced.missing();
            // A leader that is not ready writes that into the statuses, if it knows the policies.
            let knows = matches!(at, Installed::Opened | Installed::Unwritable)
                && !missing.iter().any(|store| POLICIES.contains(store));
            let mut again = MAX_INTERVAL;
            if missing.is_empty() || knows {
                let _pass = self.reconcile.pass();
                let counts = missing.is_empty() && memory.count_at <= start;
                again = self.pass(&mut memory, &at, &ready, counts).await;
                if missing.is_empty() && !counts {
                    again = again.min(memory.count_at.saturating_duration_since(Instant::now()));
                }
            }
            // A replica that does not answer or an API server that is slow delays no condition for long.
            let pause = (start.elapsed() * SHARE).clamp(DEBOUNCE, LONGEST_PAUSE);
            tokio::select! {
                () = changes.changed() => {}
                Ok(()) = installed.changed() => {}
                Ok(()) = replicas.changed() => {}
                Ok(()) = found.changed() => {}
                () = sleep(again) => {}
            }
            sleep(pause).await;
        }
    }

    /// Runs the last pass of a leader that stops and leaves no replica behind. The counts stay.
    pub async fn leave(&self) {
        let missing = self.cluster.synced.missing();
        if missing.iter().any(|store| POLICIES.contains(store)) {
            return;
        }
        let mut memory = Memory::new();
        // A leader that has not looked at the webhook configurations yet knows at least that nobody answers.
        let installed = match &*self.installed.borrow() {
            Installed::NotYet => Installed::Yes,
            known => known.clone(),
        };
        let _pass = self.reconcile.pass();
        self.pass(&mut memory, &installed, &[], false).await;
    }

    /// Runs one pass over every policy, and writes the statuses that differ. Returns the time to the next
    /// pass if nothing changes. Without `counts` the counts stay as they were last written.
    async fn pass(
        &self,
        memory: &mut Memory,
        installed: &Installed,
        replicas: &[Replica],
        counts: bool,
    ) -> Duration {
        if *installed == Installed::NotYet && memory.since.elapsed() < PATIENCE {
            return PATIENCE.saturating_sub(memory.since.elapsed());
        }
        // Whole seconds, as the API shows them.
        let now = (self.now)();
        let now =
            now.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc)).unwrap_or(now);
        let policies = self.cluster.policies.all();
        self.confirm(memory, &policies, replicas).await;
        let found = self.found.borrow().clone();
        let remembered = found.clone().unwrap_or_default();
        let counted = match counts {
            true => {
                let start = Instant::now();
                let counted = count(&self.cluster, &self.excluded, &*self.offline, &remembered, now).await;
                memory.count_at = Instant::now() + start.elapsed() * SHARE;
                Some(Arc::new(counted))
            }
            false => None,
        };
        if counted.is_some() && found.is_some() {
            self.counted.send_replace(counted.clone());
        }
        let standings = counted.as_ref().map(|counted| &counted.standings);
        let mut again = MAX_INTERVAL;
        if let Some(expiry) = next_expiry(&self.cluster.policies(), now) {
            again = again.min(Duration::try_from(expiry.duration_since(now)).unwrap_or(MAX_INTERVAL));
        }
        for policy in &policies {
            let lacking = memory.lacking(policy, replicas);
            if !lacking.is_empty() || replicas.is_empty() {
                again = again.min(ASK_AGAIN);
            }
            let place =
                Place { excluded: &self.excluded, installed, replicas: replicas.len(), lacking: &lacking };
            let mut status = place.status(policy, standings.and_then(|held| held.get(&policy.id)), now);
            status.refused = match &found {
                Some(found) => found.refused.get(&policy.id).cloned().unwrap_or_default(),
                None => policy.status.refused.clone(),
            };
            if standings.is_none() {
                status.summary = policy.status.summary;
                if let (Some(summary), Some(good)) = (&mut status.summary, &policy.good) {
                    (summary.exceptions_active, summary.exceptions_expired) = exceptions(&good.policy, now);
                }
                status.top_violations.clone_from(&policy.status.top_violations);
                status.unpinned.clone_from(&policy.status.unpinned);
            }
            again = again.min(self.settle(memory, policy, status).await);
        }
        memory.written.retain(|uid, _| policies.iter().any(|policy| policy.uid == *uid));
        again
    }

    /// Writes the status unless the policy has it already. Returns the time to the next pass.
    async fn settle(&self, memory: &mut Memory, policy: &Held, status: PolicyStatus) -> Duration {
        if status == policy.status {
            return MAX_INTERVAL;
        }
        let same_but_counts = status.conditions == policy.status.conditions
            && status.observed_generation == policy.status.observed_generation
            && status.last_good == policy.status.last_good;
        let since = memory.written.get(&policy.uid).map(Instant::elapsed);
        if let Some(left) =
            since.and_then(|since| COUNTS_INTERVAL.checked_sub(since)).filter(|_| same_but_counts)
        {
            return left;
        }
        match self.write(policy, &status).await {
            Ok(()) => {
                debug!(policy = %policy.id, "wrote the status");
                memory.written.insert(policy.uid.clone(), Instant::now());
                MAX_INTERVAL
            }
            Err(error) => {
                self.reconcile.failed();
                warn!(policy = %policy.id, %error, "cannot write the status");
                RETRY
            }
        }
    }

    async fn write(&self, policy: &Held, status: &PolicyStatus) -> Result<(), CallError> {
        match &policy.id.namespace {
            None => self.apply::<ClusterImagePolicy>(Api::all(self.client.clone()), policy, status).await,
            Some(namespace) => {
                let api = Api::namespaced(self.client.clone(), namespace);
                self.apply::<ImagePolicy>(api, policy, status).await
            }
        }
    }

    /// Applies the status, and stores the answer of the API server at once, because the watch may lag.
    async fn apply<K: PolicyObject>(
        &self,
        api: Api<Item<Unparsed<K>>>,
        policy: &Held,
        status: &PolicyStatus,
    ) -> Result<(), CallError> {
        let document = document::<K>(&policy.id, &policy.uid, status);
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&document);
        let object = call(api.patch_status(&policy.id.name, &params, &patch)).await?;
        // An object that cannot be read was still written; the watch reports it.
        if let Some(object) = object.read() {
            let policies = &self.cluster.policies;
            policies.apply(policies.parse::<K>(&object.metadata, object.spec, object.status));
        }
        Ok(())
    }

    /// Asks the replicas that may not have every policy in force.
    async fn confirm(&self, memory: &mut Memory, policies: &[Held], replicas: &[Replica]) {
        memory.confirmed.retain(|uid, _| replicas.iter().any(|replica| replica.uid == *uid));
        let lacking = |replica: &&Replica| policies.iter().any(|policy| memory.lacks(policy, replica));
        let asked =
            replicas.iter().filter(lacking).map(async |replica| (replica, self.ask.ask(replica).await));
        for (replica, rows) in join_all(asked).await {
            let rows = rows.into_iter().flatten();
            let generations = rows.filter_map(|row| Some((row.uid, row.generation?)));
            memory.confirmed.entry(replica.uid.clone()).or_default().extend(generations);
        }
    }
}

impl Memory {
    fn new() -> Self {
        let now = Instant::now();
        Self { since: now, count_at: now, confirmed: HashMap::new(), written: HashMap::new() }
    }

    fn lacks(&self, policy: &Held, replica: &Replica) -> bool {
        let confirmed = self.confirmed.get(&replica.uid).and_then(|policies| policies.get(&policy.uid));
        // A generation that does not compile is in force nowhere.
        policy.error.is_none() && confirmed.is_none_or(|generation| *generation < policy.generation)
    }

    fn lacking<'a>(&self, policy: &Held, replicas: &'a [Replica]) -> Vec<&'a str> {
        let lacking = replicas.iter().filter(|replica| self.lacks(policy, replica));
        lacking.map(|replica| replica.name.as_str()).collect()
    }
}

/// Returns the document to apply. It has the UID, because a policy that was created again is another one.
fn document<K: PolicyObject>(id: &PolicyId, uid: &str, status: &PolicyStatus) -> impl Serialize + Debug {
    let mut metadata = json!({ "name": id.name, "uid": uid });
    if let (Some(namespace), Some(metadata)) = (&id.namespace, metadata.as_object_mut()) {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": metadata,
        "status": status,
    })
}
