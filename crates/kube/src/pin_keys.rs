//! The Secret with the keys for marks, which every replica watches. The leader creates the keys.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::info;

use crate::Observed;
use crate::pods::Pods;
use crate::secret;
use crate::unreadable::{Unreadables, Watched};
use tagpin_domain::mark::{KeyId, Keys};
use tagpin_objects::release::PIN_KEYS;

/// Length of a key in bytes.
pub const KEY_LENGTH: usize = 32;
/// Time that a replica waits for the Secret before it goes on without keys.
const WAIT: Duration = Duration::from_secs(10);

/// Returns the keys in the Secret with their identifiers. Entries that are not keys are left out.
pub fn held(secret: &Secret) -> impl Iterator<Item = (KeyId, &[u8])> {
    let entries = secret.data.iter().flatten();
    entries
        .filter_map(|(name, key)| Some((name.parse().ok()?, &*key.0)))
        .filter(|(_, key)| key.len() == KEY_LENGTH)
}

/// Returns the time since when pods are marked: the entry of the Secret, else the creation time of the Secret.
#[must_use]
pub fn since(secret: &Secret) -> Timestamp {
    let created = || secret.metadata.creation_timestamp.as_ref().map(|created| created.0);
    secret::since(secret).or_else(created).unwrap_or_default()
}

/// Follows the Secret for ever; `seen` holds the version that was last reported.
pub async fn watch(
    client: Client,
    namespace: &str,
    seen: watch::Sender<Observed<Secret>>,
    unreadable: &Unreadables,
) -> Infallible {
    secret::follow(client, namespace, PIN_KEYS, seen, unreadable, Watched::PinKeys).await
}

/// Passes the keys in the Secret on to the pods, for ever. `newest` holds the last Secret that had a key.
/// That Secret stays in use when somebody deletes or empties it, because pods carry marks made with its keys.
/// `heard` becomes true once the Secret was reported, or after ten seconds: without keys a replica still
/// works, and pins without marks.
pub async fn use_newest(
    pods: Arc<Pods>,
    mut seen: watch::Receiver<Observed<Secret>>,
    newest: watch::Sender<Option<Arc<Secret>>>,
    heard: watch::Sender<bool>,
) -> Infallible {
    if timeout(WAIT, seen.wait_for(|seen| *seen != Observed::Unknown)).await.is_err() {
        info!(secret = PIN_KEYS, "the keys for marks are not known yet: pins are not marked");
        heard.send_replace(true);
    }
    loop {
        let seen_now = seen.borrow_and_update().clone();
        match seen_now {
            Observed::Unknown => {}
            Observed::Absent => drop(heard.send_replace(true)),
            Observed::Present(secret) => {
                // A Secret without keys removes no key, as a deleted Secret removes none.
                if let Some(keys) = Keys::new(held(&secret), since(&secret)) {
                    pods.use_keys(Some(keys));
                    newest.send_replace(Some(secret));
                }
                heard.send_replace(true);
            }
        }
        if seen.changed().await.is_err() {
            // The watch runs as long as the process.
            pending::<()>().await;
        }
    }
}
