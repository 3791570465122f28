//! The Secrets that the leader writes for every replica: each is followed by name, and keeps the time since when its
//! content holds.

use std::convert::Infallible;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::sync::watch;
use tracing::{Instrument, info_span};

use crate::follow::{Observed, follow_one};
use crate::unreadable::{Unreadables, Watched};

/// Key of the entry with the time since when the content holds, in seconds since 1970.
pub const SINCE: &str = "since";

/// Returns the time since when the content of a Secret holds; none if the entry is missing or is no time.
pub(crate) fn since(secret: &Secret) -> Option<Timestamp> {
    let entry = secret.data.as_ref()?.get(SINCE)?;
    Timestamp::from_second(str::from_utf8(&entry.0).ok()?.parse().ok()?).ok()
}

/// Follows the Secret of this name for ever; `seen` holds the version that was last reported.
pub(crate) async fn follow(
    client: Client,
    namespace: &str,
    name: &str,
    seen: watch::Sender<Observed<Secret>>,
    unreadable: &Unreadables,
    watched: Watched,
) -> Infallible {
    follow_one(Api::namespaced(client, namespace), name, seen, unreadable, watched)
        .instrument(info_span!("watch", store = watched.name()))
        .await
}
