//! The Secret with the keys that pins are marked with, as every replica watches it. It makes no key; the leader does.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{Instrument, info, info_span};

use crate::Seen;
use crate::follow::follow_one;
use crate::pods::Pods;
use crate::unreadable::{Unreadables, Watched};
use tagpin_domain::mark::{KeyId, Keys};
use tagpin_objects::release::PIN_KEYS;

/// The entry of its data that says since when pods are marked, in seconds since 1970.
pub const SINCE: &str = "since";
/// Number of bytes of a key.
pub const KEY_LENGTH: usize = 32;
/// Time that a replica waits for the Secret before it goes on without keys.
const PATIENCE: Duration = Duration::from_secs(10);

/// The keys that the Secret holds, by their identifiers. What is no key is left out.
pub fn held(secret: &Secret) -> impl Iterator<Item = (KeyId, &[u8])> {
    let entries = secret.data.iter().flatten();
    entries
        .filter_map(|(name, key)| Some((name.parse().ok()?, &*key.0)))
        .filter(|(_, key)| key.len() == KEY_LENGTH)
}

/// Time since when pods are marked: as the Secret says, else when it was created.
#[must_use]
pub fn since(secret: &Secret) -> Timestamp {
    let entry = secret.data.as_ref().and_then(|data| data.get(SINCE));
    let written = entry.and_then(|entry| str::from_utf8(&entry.0).ok()?.parse().ok());
    let created = || secret.metadata.creation_timestamp.as_ref().map(|created| created.0);
    written.and_then(|second| Timestamp::from_second(second).ok()).or_else(created).unwrap_or_default()
}

/// Follows the Secret for ever; `seen` always has the newest.
pub async fn watch(
    client: Client,
    namespace: &str,
    seen: watch::Sender<Seen<Secret>>,
    unreadable: &Unreadables,
) -> Infallible {
    follow_one(Api::namespaced(client, namespace), PIN_KEYS, seen, unreadable, Watched::PinKeys)
        .instrument(info_span!("watch", store = "pin keys"))
        .await
}

/// Gives the pods the keys that the Secret holds, now and later. `newest` is the last Secret that held a key: one that
/// somebody deletes or spoils stays in use, because pods carry marks of its keys. `heard` becomes true once the Secret is known or
/// has not been heard of for ten seconds: without keys a replica works on, and pins without marks.
pub async fn use_newest(
    pods: Arc<Pods>,
    mut seen: watch::Receiver<Seen<Secret>>,
    newest: watch::Sender<Option<Arc<Secret>>>,
    heard: watch::Sender<bool>,
) -> Infallible {
    if timeout(PATIENCE, seen.wait_for(|seen| *seen != Seen::NotYet)).await.is_err() {
        info!(secret = PIN_KEYS, "the keys for marks are not known yet; pins are not marked");
        heard.send_replace(true);
    }
    loop {
        let seen_now = seen.borrow_and_update().clone();
        match seen_now {
            Seen::NotYet => {}
            Seen::Absent => drop(heard.send_replace(true)),
            Seen::There(secret) => {
                // One that somebody spoilt takes no key away, like one that is gone.
                if let Some(keys) = Keys::new(held(&secret), since(&secret)) {
                    pods.use_keys(Some(keys));
                    newest.send_replace(Some(secret));
                }
                heard.send_replace(true);
            }
        }
        if seen.changed().await.is_err() {
            // Nobody stops watching while the process runs.
            pending::<()>().await;
        }
    }
}
