//! The keeper of the two webhook configurations. It fills them once this replica can answer, arms them once a
//! canary came through the API server, and repairs them when somebody changes them. It empties them when tagpin's
//! Deployment, the namespace of the release or the CRDs are deleted, and opens them when the leader cannot answer.
//! tagpin has no right to create or delete them, so a configuration that break glass deleted stays away.

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
use tracing::warn;

use crate::call::CallError;
use crate::canaries::Metrics;
use crate::door::Paths;
use crate::lease::Notes;
use crate::reconcile::Reconcile;
use tagpin_kube::certificate::Pems;
use tagpin_kube::follow::follow_one;
use tagpin_kube::store::Store;
use tagpin_kube::unreadable::Watched;
use tagpin_kube::{Cluster, Observed};

pub mod additions;
pub mod arming;
pub mod documents;

mod canary;
mod clearing;
mod entries;
mod fight;
mod glass;
mod withdrawal;
mod writer;

pub use canary::Connect;
pub use clearing::clear_if_gone;

use arming::{Canary, Reach};
use canary::Canaries;
use documents::{Configuration, Wanted};
use fight::{Fight, Fights};
use glass::{Broken, Filled, Release, Uids};
use tagpin_objects::release;

/// The stores of policies. While the API server knows neither kind, there is nothing to judge.
pub(crate) const POLICIES: [Store; 2] = [Store::ClusterImagePolicies, Store::ImagePolicies];
/// Pause after a write, so that the watch can report it; somebody else may be writing too.
const PAUSE: Duration = Duration::from_secs(2);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Time for which a leader may be unready before it opens closed entries.
const PATIENCE: Duration = Duration::from_secs(15);

/// Words before the command in the text about a configuration that came back after break glass.
pub const TO_FILL_IT: &str = "to fill it again: ";

/// The state of the webhook configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installed {
    /// The state is not known yet, or this replica cannot answer yet.
    NotYet,
    /// The leader is not ready and has opened the closed entries. The entries that it found stay in the lists.
    Opened,
    /// Both configurations are as they should be, and no unanswered request is refused.
    Yes,
    /// Both configurations are as they should be, and fail-closed namespaces refuse unanswered requests.
    Armed,
    /// Both configurations are as they should be, but the API server does not reach tagpin.
    Unreachable,
    /// The entry for canaries alone is left, because the API server has not reached tagpin for a while.
    Withdrawn,
    /// A configuration does not exist: break glass deleted it, or the chart did not install it.
    Missing,
    /// Somebody undoes the writes of a configuration again and again.
    Contested {
        /// Name of the configuration.
        configuration: &'static str,
        /// The names of those who do, as the API server knows them; empty if it does not say.
        by: Arc<str>,
    },
    /// A configuration came back after break glass, with the same release, and stays empty.
    BrokenGlass {
        /// The command after which it is filled again.
        rearm: Arc<str>,
    },
    /// A configuration cannot be written.
    Unwritable,
    /// The lists are empty, because the Deployment or the namespace is deleted or the CRDs do not exist.
    Emptied,
}

/// The keeper of the two webhook configurations.
pub struct WebhookConfig {
    /// Client of the API server.
    pub client: Client,
    /// Makes the client of each canary.
    pub connect: Connect,
    /// Namespace of the release.
    pub namespace: String,
    /// Namespaces that are never intercepted, including that of the release.
    pub excluded: BTreeSet<String>,
    /// The stores, which must be filled before this replica can answer.
    pub cluster: Arc<Cluster>,
    /// True while the webhook server answers with a certificate.
    pub listens: watch::Receiver<bool>,
    /// The Secret with the certificate and its authorities.
    pub certificate: watch::Receiver<Observed<Secret>>,
    /// The paths that the entries name.
    pub paths: watch::Receiver<Paths>,
    /// Receives tagpin's Deployment, as it was last reported.
    pub deployment: watch::Sender<Observed<Deployment>>,
    /// The annotations of the Lease, which outlast this leader.
    pub notes: Notes,
    /// Receives the state of the configurations.
    pub installed: watch::Sender<Installed>,
    /// Receives true while an entry of tagpin refuses unanswered requests.
    pub closed: watch::Sender<bool>,
    /// Receives the number of parts that others added to the selectors and conditions of tagpin's entries.
    pub added: watch::Sender<usize>,
    /// Counters of canaries.
    pub metrics: Metrics,
    /// Metrics of the passes.
    pub reconcile: Reconcile,
}

impl Installed {
    /// Returns true if both configurations are as they should be.
    #[must_use]
    pub const fn in_sync(&self) -> bool {
        matches!(self, Self::Yes | Self::Armed | Self::Unreachable | Self::Withdrawn)
    }
}

/// The objects that only the leader watches.
struct Views {
    namespace: watch::Sender<Observed<PartialObjectMeta<Namespace>>>,
    deployment: watch::Sender<Observed<Deployment>>,
    validating: watch::Sender<Observed<ValidatingWebhookConfiguration>>,
}

/// Both configurations as they were last reported.
struct Live {
    mutating: Observed<MutatingWebhookConfiguration>,
    validating: Observed<ValidatingWebhookConfiguration>,
}

/// The goal of a pass.
enum Goal {
    /// Do nothing until then: this replica is not ready, and may become ready in time.
    Wait(Instant),
    /// Open every closed entry.
    Open,
    /// Bring both configurations to this state.
    Keep(Wanted),
}

impl WebhookConfig {
    /// Keeps the configurations up to date, for ever.
    pub async fn keep(&self) -> Infallible {
        let views = Views {
            namespace: watch::Sender::new(Observed::Unknown),
            deployment: self.deployment.clone(),
            validating: watch::Sender::new(Observed::Unknown),
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
        let mut paths = self.paths.clone();
        let mut stores = self.cluster.changes();
        let mut kinds = self.cluster.synced.unknown_kinds();
        let mut heard = canaries.subscribe();
        let mut notes = self.notes.seen.clone();
        let mut filled = Filled::read(&notes.borrow());
        let (mut unready, mut fights) = (None, Fights::default());
        loop {
            let ready = *listens.borrow_and_update() && self.cluster.synced.missing().is_empty();
            let unknown = kinds.borrow_and_update().clone();
            let live = Live {
                mutating: mutating.borrow_and_update().clone(),
                validating: validating.borrow_and_update().clone(),
            };
            canaries.send_if_modified(|held| held.follow(&live.validating));
            let canaries = *heard.borrow_and_update();
            let ours = deployment.borrow_and_update().clone();
            let wanted = self.wanted(
                &namespace.borrow_and_update(),
                &certificate.borrow_and_update(),
                *paths.borrow_and_update(),
                ready,
                canaries.fail_closed(&ours, &live.validating),
                clearing::is_gone(&ours) || POLICIES.iter().all(|store| unknown.contains(store)),
            );
            let wanted = wanted.map(|wanted| Wanted { withdrawn: canaries.is_withdrawn(), ..wanted });
            let release = Release::of(&ours);
            let broken = Broken::among(live.uids(), filled.as_ref(), &release, &notes.borrow_and_update());
            let goal = Goal::of(wanted.filter(|_| live.is_known()), canaries.reach(), &mut unready);
            let (installed, pause) = self.pass(&goal, canaries.reach(), &live, &broken, &mut fights).await;
            if installed.in_sync()
                && let Some(now) = Filled::after(live.uids(), release)
                && filled.as_ref() != Some(&now)
            {
                self.notes.wanted.send_modify(|wanted| now.write(wanted));
                filled = Some(now);
            }
            let unwritable = installed == Installed::Unwritable;
            self.publish(installed, &live);
            if let Some(pause) = pause {
                // A write that was refused can wait, but the entries that lost canaries open cannot.
                let turned = heard.wait_for(|held| {
                    (held.reach(), held.is_withdrawn()) != (canaries.reach(), canaries.is_withdrawn())
                });
                tokio::select! {
                    () = sleep(pause) => {}
                    Ok(_) = turned, if unwritable => {}
                }
                continue;
            }
            // The senders live as long as this loop. The pattern ignores a closed channel, which would spin the loop.
            tokio::select! {
                Ok(()) = namespace.changed() => {}
                Ok(()) = deployment.changed() => {}
                Ok(()) = mutating.changed() => {}
                Ok(()) = validating.changed() => {}
                Ok(()) = certificate.changed() => {}
                Ok(()) = paths.changed() => {}
                Ok(()) = listens.changed() => {}
                () = stores.changed(), if !ready => {}
                Ok(()) = kinds.changed() => {}
                Ok(()) = heard.changed() => {}
                Ok(()) = notes.changed() => {}
                () = goal.is_due() => {}
                () = until(fights.due()) => {}
            }
        }
    }

    /// Sends canaries for ever, also while this replica is not ready and after failed writes, because they
    /// show that the API server does not reach tagpin.
    async fn send(&self, canaries: &watch::Sender<Canaries>) -> Infallible {
        let mut changes = canaries.subscribe();
        loop {
            let due = changes.borrow_and_update().due();
            tokio::select! {
                () = until(due) => {}
                Ok(()) = changes.changed() => continue,
            }
            let sent = Instant::now();
            let canary = canary::send(&self.connect, &self.namespace).await;
            if canary == Canary::Lost {
                self.metrics.lost();
            }
            canaries.send_modify(|held| held.heard(canary, sent));
        }
    }

    /// Returns the wanted state while canaries come through; none while it is not known or this replica cannot answer.
    /// `useless` is true if nobody is left to answer, or nothing to judge by.
    fn wanted(
        &self,
        namespace: &Observed<PartialObjectMeta<Namespace>>,
        certificate: &Observed<Secret>,
        paths: Paths,
        ready: bool,
        fails_closed: Option<bool>,
        useless: bool,
    ) -> Option<Wanted> {
        let Observed::Present(namespace) = namespace else { return None };
        let emptied = useless || namespace.metadata.deletion_timestamp.is_some();
        let door = match paths {
            Paths::Unknown if !emptied => return None,
            Paths::Unknown | Paths::Plain => None,
            Paths::With(token) => Some(token),
        };
        let (ca, fails_closed) = match certificate {
            _ if emptied => (None, false),
            Observed::Present(secret) if ready => {
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
            withdrawn: false,
            kinds: self.cluster.kinds().clone(),
            door,
        })
    }

    /// Runs one pass, and writes everything that differs from the goal. Returns the state of the
    /// configurations, and the pause before the next pass if that should not wait for a change.
    async fn pass(
        &self,
        goal: &Goal,
        reach: Reach,
        live: &Live,
        broken: &Broken,
        fights: &mut Fights,
    ) -> (Installed, Option<Duration>) {
        let written = match goal {
            Goal::Wait(_) => return (Installed::NotYet, None),
            Goal::Open => self.open(live).await,
            Goal::Keep(wanted) => {
                let _pass = self.reconcile.pass();
                self.bring(wanted, live, broken, fights).await
            }
        };
        let Ok(wrote) = written else {
            self.reconcile.failed();
            return (Installed::Unwritable, Some(RETRY));
        };
        let complete = live.mutating.object().is_some() && live.validating.object().is_some();
        let installed = match goal {
            Goal::Wait(_) | Goal::Open => Installed::Opened,
            Goal::Keep(Wanted { ca: None, .. }) => Installed::Emptied,
            Goal::Keep(_) if broken.any() => {
                let rearm = broken.rearming(live.uids(), &self.namespace);
                Installed::BrokenGlass { rearm: rearm.into() }
            }
            Goal::Keep(_) if !complete => Installed::Missing,
            Goal::Keep(wanted) if wanted.withdrawn => Installed::Withdrawn,
            Goal::Keep(_) if reach == Reach::Unreachable => Installed::Unreachable,
            Goal::Keep(wanted) => match fights.contested() {
                Some(contested) => contested,
                None if wanted.fails_closed => Installed::Armed,
                None => Installed::Yes,
            },
        };
        (installed, wrote.then_some(PAUSE))
    }

    /// Brings both configurations to the wanted state. The mutating one is filled first and emptied last.
    /// Otherwise a pod could be refused for a missing pin that tagpin was never asked for.
    async fn bring(
        &self,
        wanted: &Wanted,
        live: &Live,
        broken: &Broken,
        fights: &mut Fights,
    ) -> Result<bool, CallError> {
        let seen = live.validating.object();
        let held_back = !wanted.pins() && seen.is_some_and(|live| !wanted.matches_validating(live));
        let mutating = async {
            match live.mutating.object().filter(|_| !held_back) {
                Some(live) => self.bring_one(live, wanted, broken.mutating, &mut fights.mutating).await,
                None => Ok(false),
            }
        };
        let validating = async {
            match seen {
                Some(live) => self.bring_one(live, wanted, broken.validating, &mut fights.validating).await,
                None => Ok(false),
            }
        };
        // A configuration that has to be opened does not wait for the other one.
        match seen.is_some_and(documents::fails_closed) && !wanted.closes() {
            true => any_written(validating.await, mutating.await),
            false => any_written(mutating.await, validating.await),
        }
    }

    /// Brings one configuration to the wanted state. One that came back after break glass gets no entry, and loses those
    /// that came with it. A repair that somebody undoes again and again waits, unless it takes entries away.
    async fn bring_one<K: Configuration>(
        &self,
        live: &K,
        wanted: &Wanted,
        broken: bool,
        fight: &mut Fight,
    ) -> Result<bool, CallError> {
        let broken = broken && wanted.ca.is_some();
        if broken && !live.entries().iter().any(|entry| entry.is_ours()) {
            return Ok(false);
        }
        let emptied = Wanted { ca: None, ..wanted.clone() };
        let wanted = if broken { &emptied } else { wanted };
        let now = Instant::now();
        if fight.look(live, now) {
            fight.by = writer::changed_by::<K>(&self.client).await.unwrap_or_default().join(", ").into();
            warn!(configuration = K::NAME, by = &*fight.by, "somebody undoes the writes again and again");
        }
        let opens = live.entries().iter().any(|entry| entry.is_closed()) && !wanted.closes();
        if wanted.pins() && !opens && fight.waits().is_some_and(|until| now < until) {
            return Ok(false);
        }
        let made = writer::bring(&self.client, live, wanted).await?;
        if made.is_empty() {
            return Ok(false);
        }
        fight.wrote(live, wanted, made, now);
        Ok(true)
    }

    /// Opens the closed entries of the configurations that are known. This needs neither readiness nor the other
    /// configuration.
    async fn open(&self, live: &Live) -> Result<bool, CallError> {
        let mut written = Ok(false);
        if let Some(live) = live.validating.object() {
            written = writer::open(&self.client, live).await;
        }
        if let Some(live) = live.mutating.object() {
            written = any_written(written, writer::open(&self.client, live).await);
        }
        written
    }

    fn publish(&self, installed: Installed, live: &Live) {
        let closed = live.validating.object().is_some_and(documents::fails_closed);
        self.closed.send_if_modified(|held| std::mem::replace(held, closed) != closed);
        self.added.send_replace(documents::additions(live.mutating.object(), live.validating.object()));
        if let Installed::BrokenGlass { rearm } = &installed
            && *self.installed.borrow() != installed
        {
            warn!("a webhook configuration came back after break glass and stays empty; {TO_FILL_IT}{rearm}");
        }
        self.installed.send_if_modified(|held| {
            let changed = *held != installed;
            *held = installed;
            changed
        });
    }
}

impl Goal {
    /// Returns the goal of a pass. Without a wanted state this replica cannot answer; `unready` holds the
    /// time since when.
    fn of(wanted: Option<Wanted>, reach: Reach, unready: &mut Option<Instant>) -> Self {
        let Some(wanted) = wanted else {
            let until = *unready.get_or_insert_with(Instant::now) + PATIENCE;
            let open = reach == Reach::Unreachable || Instant::now() >= until;
            return if open { Self::Open } else { Self::Wait(until) };
        };
        *unready = None;
        Self::Keep(wanted)
    }

    /// Waits until the time at which this goal ends by itself.
    async fn is_due(&self) {
        until(match self {
            Self::Wait(until) => Some(*until),
            Self::Open | Self::Keep(_) => None,
        })
        .await;
    }
}

impl Live {
    /// Returns the UIDs of the configurations that exist.
    fn uids(&self) -> Uids<'_> {
        Uids {
            mutating: self.mutating.object().and_then(|live| live.metadata.uid.as_deref()),
            validating: self.validating.object().and_then(|live| live.metadata.uid.as_deref()),
        }
    }

    fn is_known(&self) -> bool {
        self.mutating != Observed::Unknown && self.validating != Observed::Unknown
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Returns true if either write wrote something, or the first error.
fn any_written(first: Result<bool, CallError>, second: Result<bool, CallError>) -> Result<bool, CallError> {
    Ok(first? | second?)
}
