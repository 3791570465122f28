//! Writes an Event when break glass begins and ends, in a namespace or in the whole cluster. It neither
//! allows nor forbids break glass.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::call::call;
use crate::reconcile::Reconcile;
use crate::webhook_config::Installed;
use crate::webhook_config::documents::{BREAK_GLASS, ON};
use tagpin_kube::Cluster;
use tagpin_objects::release;

/// Time in which changes are collected for one pass.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Pause after an Event that could not be written.
const RETRY: Duration = Duration::from_secs(5);

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

/// The namespaces for which the beginning of break glass was written.
#[derive(Debug, Default)]
struct Reported {
    namespaces: BTreeSet<String>,
    cluster: bool,
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
            let outcome = self.report(&recorder, &at, &mut told).await;
            drop(pass);
            if outcome.is_err() {
                self.reconcile.failed();
                sleep(RETRY).await;
                continue;
            }
            tokio::select! {
                () = changes.changed() => {}
                Ok(()) = installed.changed() => {}
            }
            sleep(DEBOUNCE).await;
        }
    }

    /// Writes an Event for every change since the last pass. A failed write holds up no other Event.
    async fn report(
        &self,
        recorder: &Recorder,
        installed: &Installed,
        told: &mut Reported,
    ) -> Result<(), ()> {
        let mut outcome = Ok(());
        let now = namespaces(&self.cluster, &self.excluded);
        for name in now.difference(&told.namespaces.clone()) {
            let note = "break glass is on in this namespace (label tagpin.dev/break-glass): everything that is created or \
                        changed here is allowed unchecked, and nothing is pinned";
            match self.write(recorder, &namespace(name), EventType::Warning, "BreakGlass", note).await {
                Ok(()) => drop(told.namespaces.insert(name.clone())),
                failed => outcome = failed,
            }
        }
        for name in told.namespaces.clone().difference(&now) {
            // A deleted namespace needs no Event.
            let over = match self.cluster.namespace_labels(name) {
                Some(_) => {
                    let note = "break glass is over in this namespace";
                    self.write(recorder, &namespace(name), EventType::Normal, "BreakGlassEnded", note).await
                }
                None => Ok(()),
            };
            match over {
                Ok(()) => drop(told.namespaces.remove(name)),
                failed => outcome = failed,
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
            let (kind, reason, note) = if missing {
                let note = "a webhook configuration of tagpin (zz-tagpin, tagpin) was deleted: images are not pinned \
                            or not checked in the whole cluster until `helm upgrade` brings it back";
                (EventType::Warning, "BreakGlass", note)
            } else {
                (EventType::Normal, "BreakGlassEnded", "the webhook configurations exist again")
            };
            match self.write(recorder, &self.deployment(), kind, reason, note).await {
                Ok(()) => told.cluster = missing,
                failed => outcome = failed,
            }
        }
        outcome
    }

    async fn write(
        &self,
        recorder: &Recorder,
        about: &ObjectReference,
        type_: EventType,
        reason: &'static str,
        note: &'static str,
    ) -> Result<(), ()> {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.to_owned()),
            action: "BreakGlass".to_owned(),
            secondary: None,
        };
        let (kind, name) = (about.kind.as_deref(), about.name.as_deref());
        match call(recorder.publish(&event, about)).await {
            Ok(()) => {
                info!(kind, name, reason, "break glass");
                Ok(())
            }
            Err(error) => {
                warn!(kind, name, reason, %error, "cannot write the Event of break glass");
                Err(())
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
