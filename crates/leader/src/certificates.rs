//! The webhook's certificate: the leader keeps it in one Secret, and makes it anew in time. What is made is `issue`'s.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::certificates::issue::Lifetimes;
use crate::reconcile::Reconcile;
use crate::secret::{Document, write};
use tagpin_kube::Seen;
use tagpin_kube::certificate::Pems;
use tagpin_objects::release;

pub mod issue;

/// After a write, for the watch to tell of it; and after a failure.
const PAUSE: Duration = Duration::from_secs(10);

/// Keeps the Secret in order for ever.
pub async fn keep(
    client: Client,
    namespace: &str,
    lifetimes: Lifetimes,
    mut seen: watch::Receiver<Seen<Secret>>,
    reconcile: Reconcile,
) -> Infallible {
    let mut last: Option<Pems> = None;
    loop {
        let secret = match &*seen.borrow_and_update() {
            Seen::NotYet => None,
            Seen::Absent => Some(None),
            Seen::There(secret) => Some(Some(Arc::clone(secret))),
        };
        let tended = match secret {
            None => Tended::InOrder,
            Some(secret) => {
                tend(&client, namespace, lifetimes, secret.as_deref(), &mut last, &reconcile).await
            }
        };
        let look = issue::next_look(last.as_ref(), lifetimes, Timestamp::now());
        let pause = match tended {
            Tended::InOrder => look,
            Tended::Busy => look.min(PAUSE),
        };
        // Nobody stops watching while we lead; if it were so, there would be nothing left to tend.
        if timeout(pause, seen.changed()).await.is_ok_and(|changed| changed.is_err()) {
            pending::<()>().await;
        }
    }
}

/// What a look came to.
enum Tended {
    InOrder,
    /// Something was written, or could not be.
    Busy,
}

/// Looks once.
async fn tend(
    client: &Client,
    namespace: &str,
    lifetimes: Lifetimes,
    secret: Option<&Secret>,
    last: &mut Option<Pems>,
    reconcile: &Reconcile,
) -> Tended {
    let _pass = reconcile.pass();
    let held = secret.map(Pems::of).or_else(|| last.clone());
    // An earlier version made it.
    let unowned = secret.is_some_and(|secret| secret.metadata.owner_references.is_none());
    let wanted = match issue::next(held.as_ref(), namespace, lifetimes, Timestamp::now()) {
        // A Secret that somebody deleted comes back as it was: nobody has to trust anything new.
        Ok(None) if secret.is_none() || unowned => held.clone(),
        Ok(wanted) => wanted,
        Err(error) => {
            reconcile.failed();
            warn!(%error, "can not make the webhook's certificate");
            return Tended::Busy;
        }
    };
    let Some(wanted) = wanted else {
        *last = held;
        return Tended::InOrder;
    };
    let data = wanted.data().map(|(name, pem)| (name, ByteString(pem))).collect();
    let document = Document { name: release::CERTIFICATE, kind: "kubernetes.io/tls", data };
    match write(client, namespace, secret, document).await {
        Ok(true) => {
            info!(secret = release::CERTIFICATE, "wrote the webhook's certificate");
            *last = Some(wanted);
        }
        Ok(false) => debug!("there is no Deployment any more: no certificate is made"),
        Err(error) => {
            reconcile.failed();
            warn!(%error, secret = release::CERTIFICATE, "can not write the webhook's certificate");
        }
    }
    Tended::Busy
}
