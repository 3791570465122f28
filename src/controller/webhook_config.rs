//! The two webhook configurations: filled once we can answer, armed once a canary came through the API server,
//! repaired when somebody changes them, emptied when our namespace or the CRDs go. There is no right to make or delete
//! them: what break glass deletes stays away.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use crate::cluster::certificate::Pems;
use crate::cluster::follow::follow_one;
use crate::cluster::store::Store;
use crate::cluster::unreadable::Watched;
use crate::cluster::{Cluster, Seen};
use crate::controller::call::{CallError, call};
use crate::telemetry::canary::Metrics;
use crate::telemetry::reconcile::Reconcile;

pub mod arming;
pub mod documents;

mod canary;

use arming::{Arming, Canary, Reach};
use documents::{MUTATING, VALIDATING, Wanted};

/// Where the policies are; while the API server knows neither kind, there is nothing to ask us about.
const POLICIES: [Store; 2] = [Store::ClusterImagePolicies, Store::ImagePolicies];
/// Who owns what we write there.
const MANAGER: &str = "tagpin-webhooks";
/// Our own Deployment, in our namespace.
pub(crate) const DEPLOYMENT: &str = "tagpin";
/// After a write, for the watch to tell of it; somebody else may be writing too.
const PAUSE: Duration = Duration::from_secs(2);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Whether the API server is told to call us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// It is not known yet, or we can not answer yet.
    NotYet,
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

impl WebhookConfig {
    /// Keeps the configurations in order for ever.
    pub async fn keep(&self) -> Infallible {
        let views = Views {
            namespace: watch::Sender::new(Seen::NotYet),
            deployment: watch::Sender::new(Seen::NotYet),
            validating: watch::Sender::new(Seen::NotYet),
        };
        let client = || self.client.clone();
        let lost = &self.cluster.unreadable;
        tokio::select! {
            never = self.tend(&views) => never,
            never = follow_one(
                Api::all(client()),
                &self.namespace,
                views.namespace.clone(),
                lost,
                Watched::Namespace,
            ) => never,
            never = follow_one(
                Api::namespaced(client(), &self.namespace),
                DEPLOYMENT,
                views.deployment.clone(),
                lost,
                Watched::Deployment,
            ) => never,
            never = follow_one(
                Api::all(client()),
                VALIDATING,
                views.validating.clone(),
                lost,
                Watched::Validating,
            ) => never,
        }
    }

    async fn tend(&self, views: &Views) -> Infallible {
        let mut namespace = views.namespace.subscribe();
        let mut deployment = views.deployment.subscribe();
        let mut mutating = self.cluster.pinning.seen();
        let mut validating = views.validating.subscribe();
        let (mut listens, mut certificate) = (self.listens.clone(), self.certificate.clone());
        let mut stores = self.cluster.changes();
        let mut kinds = self.cluster.synced.unknown_kinds();
        let mut canaries = Canaries { arming: None, due: Instant::now() };
        loop {
            let ready = *listens.borrow_and_update() && self.cluster.synced.missing().is_empty();
            let unknown = kinds.borrow_and_update().clone();
            let live = (mutating.borrow_and_update().clone(), validating.borrow_and_update().clone());
            canaries.follow(&live.1);
            let fails_closed = canaries.fail_closed(&deployment.borrow_and_update(), &live.1);
            let wanted = fails_closed.and_then(|fails_closed| {
                self.wanted(
                    &namespace.borrow_and_update(),
                    &certificate.borrow_and_update(),
                    ready,
                    fails_closed,
                    POLICIES.iter().all(|store| unknown.contains(store)),
                )
            });
            let (installed, pause) = match &wanted {
                None => (Installed::NotYet, None),
                Some(wanted) => {
                    let _pass = self.reconcile.pass();
                    self.look(wanted, canaries.reach(), &live.0, &live.1).await
                }
            };
            self.installed.send_if_modified(|held| std::mem::replace(held, installed) != installed);
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
                (canary, sent) = self.canary(canaries.due), if installed.in_sync() => {
                    canaries.heard(canary, sent);
                }
            }
        }
    }

    /// Sends a canary when it is due. Returns what became of it, and when it was sent.
    async fn canary(&self, due: Instant) -> (Canary, Instant) {
        sleep_until(due).await;
        let sent = Instant::now();
        let canary = canary::send(&self.client, &self.namespace).await;
        if canary == Canary::Lost {
            self.metrics.lost();
        }
        (canary, sent)
    }

    /// What the configurations should be; nothing while that is not known, or we can not answer.
    fn wanted(
        &self,
        namespace: &Seen<PartialObjectMeta<Namespace>>,
        certificate: &Seen<Secret>,
        ready: bool,
        fails_closed: bool,
        undefined: bool,
    ) -> Option<Wanted> {
        let Seen::There(namespace) = namespace else { return None };
        let emptied = undefined || namespace.metadata.deletion_timestamp.is_some();
        let ca = match certificate {
            _ if emptied => None,
            Seen::There(secret) if ready => Some(Pems::of(secret).ca).filter(|ca| !ca.is_empty()),
            _ => None,
        };
        (emptied || ca.is_some()).then(|| Wanted {
            namespace: self.namespace.clone(),
            namespace_uid: namespace.metadata.uid.clone().unwrap_or_default(),
            excluded: self.excluded.clone(),
            ca,
            fails_closed,
        })
    }

    /// Looks once, and writes what is not as it should be. Returns also how long to wait before the next look, when a
    /// change should not be waited for.
    async fn look(
        &self,
        wanted: &Wanted,
        reach: Reach,
        mutating: &Seen<MutatingWebhookConfiguration>,
        validating: &Seen<ValidatingWebhookConfiguration>,
    ) -> (Installed, Option<Duration>) {
        let (mutating, validating) = match (mutating, validating) {
            (Seen::NotYet, _) | (_, Seen::NotYet) => return (Installed::NotYet, None),
            (mutating, validating) => (there(mutating), there(validating)),
        };
        let mut written = Ok(false);
        // Whoever checks goes first and comes last: a pod that nobody was asked to pin is not to be refused for it.
        let validating_differs = validating.is_some_and(|live| !wanted.validating_is(live));
        let held_back = wanted.ca.is_none() && validating_differs;
        if let Some(live) = mutating.filter(|live| !held_back && !wanted.mutating_is(live)) {
            let document = wanted.mutating(live.metadata.uid.clone());
            written = and(written, self.write(MUTATING, &document).await);
        }
        if let Some(live) = validating.filter(|_| validating_differs) {
            let document = wanted.validating(live.metadata.uid.clone());
            written = and(written, self.write(VALIDATING, &document).await);
        }
        match written {
            Err(_) => {
                self.reconcile.failed();
                (Installed::Unwritable, Some(RETRY))
            }
            Ok(wrote) => {
                let complete = mutating.is_some() && validating.is_some();
                let installed = match wanted.ca {
                    None => Installed::Emptied,
                    Some(_) if !complete => Installed::Missing,
                    Some(_) if reach == Reach::Unreachable => Installed::Unreachable,
                    Some(_) if wanted.fails_closed => Installed::Armed,
                    Some(_) => Installed::Yes,
                };
                (installed, wrote.then_some(PAUSE))
            }
        }
    }

    async fn write<K>(&self, name: &str, document: &K) -> Result<bool, CallError>
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let params = PatchParams::apply(MANAGER).force();
        let written =
            call(Api::<K>::all(self.client.clone()).patch(name, &params, &Patch::Apply(document))).await;
        match &written {
            Ok(_) => info!(configuration = name, "wrote the webhook configuration"),
            Err(error) => warn!(configuration = name, %error, "can not write the webhook configuration"),
        }
        written.map(|_| true)
    }
}

/// The canaries of this leader, while the API server is told to ask us about them.
struct Canaries {
    arming: Option<Arming>,
    due: Instant,
}

impl Canaries {
    /// Begins when the entry of the canary is there, and forgets everything when it is gone.
    fn follow(&mut self, validating: &Seen<ValidatingWebhookConfiguration>) {
        let armed = match validating {
            Seen::NotYet => return,
            Seen::There(live) if documents::has_canary(live) => documents::fails_closed(live),
            Seen::There(_) | Seen::Absent => return self.arming = None,
        };
        if self.arming.is_none() {
            *self = Self { arming: Some(Arming::new(armed)), due: Instant::now() };
        }
    }

    fn heard(&mut self, canary: Canary, sent: Instant) {
        let before = self.reach();
        if let Some(arming) = &mut self.arming {
            self.due = sent + arming.heard(canary);
        }
        match (before, self.reach()) {
            (before, after) if before == after => {}
            (_, Reach::Unreachable) => {
                warn!("the API server does not reach the webhook: nothing is refused for want of an answer");
            }
            _ => info!("the API server reaches the webhook"),
        }
    }

    fn reach(&self) -> Reach {
        self.arming.map_or(Reach::Untried, Arming::reach)
    }

    /// Whether what we do not answer is to be refused; nothing while it is not known how many replicas are asked for.
    fn fail_closed(
        &self,
        deployment: &Seen<Deployment>,
        validating: &Seen<ValidatingWebhookConfiguration>,
    ) -> Option<bool> {
        let replicas = match deployment {
            Seen::NotYet => return None,
            Seen::Absent => 0,
            // The API server's own default.
            Seen::There(live) => live.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
        };
        let at_present = there(validating).is_some_and(documents::fails_closed);
        Some(self.arming.is_some_and(|arming| arming.fails_closed(replicas, at_present)))
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
