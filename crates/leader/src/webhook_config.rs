//! The two webhook configurations: filled once we can answer, armed once a canary came through the API server,
//! repaired when somebody changes them, emptied when our namespace or the CRDs go, opened when a leader cannot answer.
//! There is no right to make or delete them: what break glass deletes stays away.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::call::CallError;
use crate::canaries::Metrics;
use crate::reconcile::Reconcile;
use tagpin_kube::certificate::Pems;
use tagpin_kube::follow::follow_one;
use tagpin_kube::store::Store;
use tagpin_kube::unreadable::Watched;
use tagpin_kube::{Cluster, Seen};

pub mod arming;
pub mod documents;

mod canary;
mod entries;
mod writer;

use arming::{Canary, Reach};
use canary::Canaries;
use documents::Wanted;
use tagpin_objects::release;

/// Where the policies are; while the API server knows neither kind, there is nothing to ask us about.
pub(crate) const POLICIES: [Store; 2] = [Store::ClusterImagePolicies, Store::ImagePolicies];
/// After a write, for the watch to tell of it; somebody else may be writing too.
const PAUSE: Duration = Duration::from_secs(2);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Time that a leader may be not ready before it opens what is closed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether the API server is told to call us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// It is not known yet, or we can not answer yet.
    NotYet,
    /// This leader is not ready, and has opened what was closed. The entries that it found stay in the lists.
    Opened,
    /// Both configurations are as they should be, and nothing is refused when we do not answer.
    Yes,
    /// The same, but in namespaces that ask for it what we do not answer is refused.
    Armed,
    /// The same as [`Installed::Yes`], but the API server does not reach us.
    Unreachable,
    /// A configuration is missing: break glass, or a chart that did not bring it.
    Missing,
    /// A configuration can not be written.
    Unwritable,
    /// The lists are empty: our namespace is being deleted, or the CRDs are gone and with them every policy.
    Emptied,
}

/// What the keeper of the configurations needs.
pub struct WebhookConfig {
    /// For reading and writing them.
    pub client: Client,
    /// Our namespace.
    pub namespace: String,
    /// Namespaces that are never intercepted, ours among them.
    pub excluded: BTreeSet<String>,
    /// Its stores must be filled first.
    pub cluster: Arc<Cluster>,
    /// The webhook server listens, with a certificate.
    pub listens: watch::Receiver<bool>,
    /// The Secret with the authorities.
    pub certificate: watch::Receiver<Seen<Secret>>,
    /// Where the outcome is told.
    pub installed: watch::Sender<Installed>,
    /// Receives whether an entry of ours refuses what we do not answer.
    pub closed: watch::Sender<bool>,
    /// What counts the canaries.
    pub metrics: Metrics,
    /// What measures the passes.
    pub reconcile: Reconcile,
}

impl Installed {
    /// Whether both configurations are as they should be.
    #[must_use]
    pub const fn in_sync(self) -> bool {
        matches!(self, Self::Yes | Self::Armed | Self::Unreachable)
    }
}

/// What the watches have told, but of the mutating configuration, which every replica watches.
struct Views {
    namespace: watch::Sender<Seen<PartialObjectMeta<Namespace>>>,
    deployment: watch::Sender<Seen<Deployment>>,
    validating: watch::Sender<Seen<ValidatingWebhookConfiguration>>,
}

/// Both configurations as they were last seen.
struct Live {
    mutating: Seen<MutatingWebhookConfiguration>,
    validating: Seen<ValidatingWebhookConfiguration>,
}

/// The goal of a pass.
enum Goal {
    /// Nothing before then: we are not ready, and may be in time.
    Wait(Instant),
    /// Nothing refuses what we do not answer.
    Open,
    /// Both configurations are these.
    Keep(Wanted),
}

impl WebhookConfig {
    /// Keeps the configurations in order for ever.
    pub async fn keep(&self) -> Infallible {
        let views = Views {
            namespace: watch::Sender::new(Seen::NotYet),
            deployment: watch::Sender::new(Seen::NotYet),
            validating: watch::Sender::new(Seen::NotYet),
        };
        let canaries = watch::Sender::new(Canaries::new());
        let client = || self.client.clone();
        let lost = &self.cluster.unreadable;
        tokio::select! {
            never = self.tend(&views, &canaries) => never,
            never = self.send(&canaries) => never,
            never = follow_one(
                Api::all(client()),
                &self.namespace,
                views.namespace.clone(),
                lost,
                Watched::Namespace,
            ) => never,
            never = follow_one(
                Api::namespaced(client(), &self.namespace),
                release::NAME,
                views.deployment.clone(),
                lost,
                Watched::Deployment,
            ) => never,
            never = follow_one(
                Api::all(client()),
                release::NAME,
                views.validating.clone(),
                lost,
                Watched::Validating,
            ) => never,
        }
    }

    async fn tend(&self, views: &Views, canaries: &watch::Sender<Canaries>) -> Infallible {
        let mut namespace = views.namespace.subscribe();
        let mut deployment = views.deployment.subscribe();
        let mut mutating = self.cluster.pinning.seen();
        let mut validating = views.validating.subscribe();
        let (mut listens, mut certificate) = (self.listens.clone(), self.certificate.clone());
        let mut stores = self.cluster.changes();
        let mut kinds = self.cluster.synced.unknown_kinds();
        let mut heard = canaries.subscribe();
        let mut unready = None;
        loop {
            let ready = *listens.borrow_and_update() && self.cluster.synced.missing().is_empty();
            let unknown = kinds.borrow_and_update().clone();
            let live = Live {
                mutating: mutating.borrow_and_update().clone(),
                validating: validating.borrow_and_update().clone(),
            };
            canaries.send_if_modified(|held| held.follow(&live.validating));
            let canaries = *heard.borrow_and_update();
            let wanted = self.wanted(
                &namespace.borrow_and_update(),
                &certificate.borrow_and_update(),
                ready,
                canaries.fail_closed(&deployment.borrow_and_update(), &live.validating),
                POLICIES.iter().all(|store| unknown.contains(store)),
            );
            let goal = Goal::of(wanted.filter(|_| live.is_known()), canaries.reach(), &mut unready);
            let (installed, pause) = self.look(&goal, canaries.reach(), &live).await;
            self.tell(installed, &live);
            if let Some(pause) = pause {
                sleep(pause).await;
                continue;
            }
            // Whoever sends lives as long as we do; a channel that ends would only make this loop turn.
            tokio::select! {
                Ok(()) = namespace.changed() => {}
                Ok(()) = deployment.changed() => {}
                Ok(()) = mutating.changed() => {}
                Ok(()) = validating.changed() => {}
                Ok(()) = certificate.changed() => {}
                Ok(()) = listens.changed() => {}
                () = stores.changed(), if !ready => {}
                Ok(()) = kinds.changed() => {}
                Ok(()) = heard.changed() => {}
                () = goal.is_due() => {}
            }
        }
    }

    /// Sends canaries for ever, whether we are ready or not and whatever became of a write: they are what shows that
    /// the API server does not reach us.
    async fn send(&self, canaries: &watch::Sender<Canaries>) -> Infallible {
        let mut changes = canaries.subscribe();
        loop {
            let due = changes.borrow_and_update().due();
            tokio::select! {
                () = until(due) => {}
                Ok(()) = changes.changed() => continue,
            }
            let sent = Instant::now();
            let canary = canary::send(&self.client, &self.namespace).await;
            if canary == Canary::Lost {
                self.metrics.lost();
            }
            canaries.send_modify(|held| held.heard(canary, sent));
        }
    }

    /// What the configurations should be; nothing while that is not known, or we can not answer.
    fn wanted(
        &self,
        namespace: &Seen<PartialObjectMeta<Namespace>>,
        certificate: &Seen<Secret>,
        ready: bool,
        fails_closed: Option<bool>,
        undefined: bool,
    ) -> Option<Wanted> {
        let Seen::There(namespace) = namespace else { return None };
        let emptied = undefined || namespace.metadata.deletion_timestamp.is_some();
        let (ca, fails_closed) = match certificate {
            _ if emptied => (None, false),
            Seen::There(secret) if ready => {
                (Some(Pems::of(secret).ca).filter(|ca| !ca.is_empty()), fails_closed?)
            }
            _ => return None,
        };
        (emptied || ca.is_some()).then(|| Wanted {
            namespace: self.namespace.clone(),
            namespace_uid: namespace.metadata.uid.clone().unwrap_or_default(),
            excluded: self.excluded.clone(),
            ca,
            fails_closed,
            kinds: self.cluster.kinds().clone(),
        })
    }

    /// Looks once, and writes what is not as it should be. Returns also how long to wait before the next look, when a
    /// change should not be waited for.
    async fn look(&self, goal: &Goal, reach: Reach, live: &Live) -> (Installed, Option<Duration>) {
        let written = match goal {
            Goal::Wait(_) => return (Installed::NotYet, None),
            Goal::Open => self.open(live).await,
            Goal::Keep(wanted) => {
                let _pass = self.reconcile.pass();
                self.bring(wanted, live).await
            }
        };
        let Ok(wrote) = written else {
            self.reconcile.failed();
            return (Installed::Unwritable, Some(RETRY));
        };
        let complete = there(&live.mutating).is_some() && there(&live.validating).is_some();
        let installed = match goal {
            Goal::Wait(_) | Goal::Open => Installed::Opened,
            Goal::Keep(Wanted { ca: None, .. }) => Installed::Emptied,
            Goal::Keep(_) if !complete => Installed::Missing,
            Goal::Keep(_) if reach == Reach::Unreachable => Installed::Unreachable,
            Goal::Keep(wanted) if wanted.fails_closed => Installed::Armed,
            Goal::Keep(_) => Installed::Yes,
        };
        (installed, wrote.then_some(PAUSE))
    }

    /// Makes both configurations what is wanted. Whoever checks goes first and comes last: a pod that nobody was asked
    /// to pin is not to be refused for it.
    async fn bring(&self, wanted: &Wanted, live: &Live) -> Result<bool, CallError> {
        let seen = there(&live.validating);
        let held_back = wanted.ca.is_none() && seen.is_some_and(|live| !wanted.validating_is(live));
        let mutating = async {
            match there(&live.mutating).filter(|_| !held_back) {
                Some(live) => writer::bring(&self.client, live, wanted).await,
                None => Ok(false),
            }
        };
        let validating = async {
            match seen {
                Some(live) => writer::bring(&self.client, live, wanted).await,
                None => Ok(false),
            }
        };
        // What is to be opened waits for nothing.
        match seen.is_some_and(documents::fails_closed) && !wanted.fails_closed {
            true => and(validating.await, mutating.await),
            false => and(mutating.await, validating.await),
        }
    }

    /// Opens what is closed, as far as it is known: this needs neither readiness nor the other configuration.
    async fn open(&self, live: &Live) -> Result<bool, CallError> {
        let mut written = Ok(false);
        if let Some(live) = there(&live.validating) {
            written = writer::open(&self.client, live).await;
        }
        if let Some(live) = there(&live.mutating) {
            written = and(written, writer::open(&self.client, live).await);
        }
        written
    }

    fn tell(&self, installed: Installed, live: &Live) {
        let closed = there(&live.validating).is_some_and(documents::fails_closed);
        self.closed.send_if_modified(|held| std::mem::replace(held, closed) != closed);
        self.installed.send_if_modified(|held| std::mem::replace(held, installed) != installed);
    }
}

impl Goal {
    /// Returns the goal of a pass. Without a wanted state this replica cannot answer, and has not been ready since `unready`.
    fn of(wanted: Option<Wanted>, reach: Reach, unready: &mut Option<Instant>) -> Self {
        let Some(wanted) = wanted else {
            let until = *unready.get_or_insert_with(Instant::now) + PATIENCE;
            let open = reach == Reach::Unreachable || Instant::now() >= until;
            return if open { Self::Open } else { Self::Wait(until) };
        };
        *unready = None;
        Self::Keep(wanted)
    }

    /// Waits until this goal is no longer the right one, whatever else happens.
    async fn is_due(&self) {
        until(match self {
            Self::Wait(until) => Some(*until),
            Self::Open | Self::Keep(_) => None,
        })
        .await;
    }
}

impl Live {
    fn is_known(&self) -> bool {
        self.mutating != Seen::NotYet && self.validating != Seen::NotYet
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn there<K>(seen: &Seen<K>) -> Option<&K> {
    match seen {
        Seen::There(object) => Some(object),
        Seen::NotYet | Seen::Absent => None,
    }
}

fn and(before: Result<bool, CallError>, now: Result<bool, CallError>) -> Result<bool, CallError> {
    Ok(before? | now?)
}
