//! Writes an Event when break glass begins and ends, in a namespace or in the whole cluster. It neither
//! allows nor forbids break glass.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use crate::call::call;
use crate::reconcile::Reconcile;
use crate::webhook_config::Installed;
use crate::webhook_config::documents::{BREAK_GLASS, ON};
use tagpin_kube::Cluster;
use tagpin_objects::release;

/// Time in which changes are collected for one pass.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Pause after an Event that could not be written; it doubles with each further attempt.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Upper bound of that pause.
const MAX_PAUSE: Duration = Duration::from_mins(5);
/// Time after the first attempt at which an Event that cannot be written is given up.
const GIVEN_UP: Duration = Duration::from_hours(1);

/// The writer of the Events of break glass.
pub struct Audit {
    /// Client of the API server.
    pub client: Client,
    /// Namespace of the release.
    pub namespace: String,
    /// Namespaces that are never intercepted, so that break glass has no effect there.
    pub excluded: BTreeSet<String>,
    /// The stores with the labels of namespaces.
    pub cluster: Arc<Cluster>,
    /// The state of the webhook configurations.
    pub installed: watch::Receiver<Installed>,
    /// Metrics of the passes.
    pub reconcile: Reconcile,
}

/// The namespaces for which the beginning of break glass was written or given up.
#[derive(Debug, Default)]
struct Reported {
    namespaces: BTreeSet<String>,
    cluster: bool,
    /// The Events that could not be written yet, by their namespace; none is the whole cluster.
    pending: BTreeMap<Option<String>, Attempts>,
}

/// The attempts at an Event that could not be written yet.
#[derive(Debug, Clone, Copy)]
struct Attempts {
    first: Instant,
    pause: Duration,
    due: Instant,
}

impl Attempts {
    /// Returns the state after one more failure; none if that was the last attempt.
    fn after(earlier: Option<Self>, now: Instant) -> Option<Self> {
        let first = earlier.map_or(now, |earlier| earlier.first);
        let pause = earlier.map_or(FIRST_PAUSE, |earlier| MAX_PAUSE.min(earlier.pause * 2));
        (now + pause <= first + GIVEN_UP).then_some(Self { first, pause, due: now + pause })
    }
}

impl Reported {
    /// Waits until an Event that could not be written is due again.
    async fn is_due(&self) {
        match self.pending.values().map(|attempts| attempts.due).min() {
            Some(due) => sleep_until(due).await,
            None => future::pending().await,
        }
    }
}

/// Returns the namespaces in which break glass is on. An excluded namespace has nothing to suspend.
#[must_use]
pub fn namespaces(cluster: &Cluster, excluded: &BTreeSet<String>) -> BTreeSet<String> {
    &cluster.namespaces.with(&[(BREAK_GLASS, ON)]) - excluded
}

impl Audit {
    /// Writes Events for ever. A new leader writes the Events of everything that is on once more.
    pub async fn keep(&self) -> Infallible {
        let reporter = Reporter { controller: release::NAME.to_owned(), instance: None };
        let recorder = Recorder::new(self.client.clone(), reporter);
        let mut changes = self.cluster.changes();
        let mut installed = self.installed.clone();
        let mut told = Reported::default();
        loop {
            let at = installed.borrow_and_update().clone();
            let pass = self.reconcile.pass();
            self.report(&recorder, &at, &mut told).await;
            drop(pass);
            tokio::select! {
                () = changes.changed() => {}
                Ok(()) = installed.changed() => {}
                () = told.is_due() => continue,
            }
            sleep(DEBOUNCE).await;
        }
    }

    /// Writes an Event for every change since the last pass. A failed write holds up no other Event.
    async fn report(&self, recorder: &Recorder, installed: &Installed, told: &mut Reported) {
        // An Event that is no longer needed is forgotten.
        let mut pending = std::mem::take(&mut told.pending);
        let now = namespaces(&self.cluster, &self.excluded);
        for name in now.difference(&told.namespaces.clone()) {
            let note = "break glass is on in this namespace (label tagpin.dev/break-glass): everything that is created or \
                        changed here is allowed unchecked, and nothing is pinned";
            let (about, event) = (namespace(name), event(EventType::Warning, "BreakGlass", note));
            let scope = Some(name.clone());
            match self.write(recorder, &about, &event, pending.remove(&scope)).await {
                None => drop(told.namespaces.insert(name.clone())),
                Some(attempts) => drop(told.pending.insert(scope, attempts)),
            }
        }
        for name in told.namespaces.clone().difference(&now) {
            let scope = Some(name.clone());
            // A deleted namespace needs no Event.
            let left = match self.cluster.namespace_labels(name) {
                Some(_) => {
                    let note = "break glass is over in this namespace";
                    let (about, event) = (namespace(name), event(EventType::Normal, "BreakGlassEnded", note));
                    self.write(recorder, &about, &event, pending.remove(&scope)).await
                }
                None => None,
            };
            match left {
                None => drop(told.namespaces.remove(name)),
                Some(attempts) => drop(told.pending.insert(scope, attempts)),
            }
        }
        let missing = match installed {
            Installed::Missing | Installed::BrokenGlass { .. } => true,
            // The state is not known, so the last known one stays.
            Installed::NotYet | Installed::Opened | Installed::Unwritable | Installed::Emptied => {
                told.cluster
            }
            Installed::Yes
            | Installed::Armed
            | Installed::Unreachable
            | Installed::Withdrawn
            | Installed::Contested { .. } => false,
        };
        if missing != told.cluster {
            let event = if missing {
                let note = "a webhook configuration of tagpin (zz-tagpin, tagpin) was deleted: images are not pinned \
                            or not checked in the whole cluster until `helm upgrade` brings it back";
                event(EventType::Warning, "BreakGlass", note)
            } else {
                event(EventType::Normal, "BreakGlassEnded", "the webhook configurations exist again")
            };
            match self.write(recorder, &self.deployment(), &event, pending.remove(&None)).await {
                None => told.cluster = missing,
                Some(attempts) => drop(told.pending.insert(None, attempts)),
            }
        }
    }

    /// Writes this Event if it is due after its earlier attempts. Returns the attempts so far; none once the Event was
    /// written or given up.
    async fn write(
        &self,
        recorder: &Recorder,
        about: &ObjectReference,
        event: &Event,
        earlier: Option<Attempts>,
    ) -> Option<Attempts> {
        if earlier.is_some_and(|earlier| Instant::now() < earlier.due) {
            return earlier;
        }
        let (kind, name, reason) = (about.kind.as_deref(), about.name.as_deref(), &event.reason);
        match call(recorder.publish(event, about)).await {
            Ok(()) => {
                info!(kind, name, reason, "break glass");
                None
            }
            Err(error) if error.refuses_event() => {
                warn!(kind, name, reason, %error, "no Event of break glass can be about this object");
                None
            }
            Err(error) => {
                self.reconcile.failed();
                let attempts = Attempts::after(earlier, Instant::now());
                let given_up = attempts.is_none();
                warn!(kind, name, reason, %error, given_up, "cannot write the Event of break glass");
                attempts
            }
        }
    }

    fn deployment(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("Deployment".to_owned()),
            name: Some(release::NAME.to_owned()),
            namespace: Some(self.namespace.clone()),
            ..ObjectReference::default()
        }
    }
}

/// Returns the reference to a namespace. It names that namespace as its own, so that the Event is stored there.
fn namespace(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Namespace".to_owned()),
        name: Some(name.to_owned()),
        namespace: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

fn event(type_: EventType, reason: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note.to_owned()),
        action: "BreakGlass".to_owned(),
        secondary: None,
    }
}
