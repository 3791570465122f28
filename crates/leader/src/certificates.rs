//! The keeper of the webhook's certificate, which renews it in one Secret. [`issue`] makes the certificates.

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
use tagpin_kube::Observed;
use tagpin_kube::certificate::Pems;
use tagpin_objects::release;

pub mod issue;

/// Pause after a write, so that the watch can report it, and after a failure.
const PAUSE: Duration = Duration::from_secs(10);

/// Keeps the certificate in the Secret up to date, for ever.
pub async fn keep(
    client: Client,
    namespace: &str,
    lifetimes: Lifetimes,
    mut seen: watch::Receiver<Observed<Secret>>,
    reconcile: Reconcile,
) -> Infallible {
    let mut last: Option<Pems> = None;
    loop {
        let secret = match &*seen.borrow_and_update() {
            Observed::Unknown => None,
            Observed::Absent => Some(None),
            Observed::Present(secret) => Some(Some(Arc::clone(secret))),
        };
        let tended = match secret {
            None => Tended::InOrder,
            Some(secret) => {
                tend(&client, namespace, lifetimes, secret.as_deref(), &mut last, &reconcile).await
            }
        };
        let next_pass = issue::next_check(last.as_ref(), lifetimes, Timestamp::now());
        let pause = match tended {
            Tended::InOrder => next_pass,
            Tended::Busy => next_pass.min(PAUSE),
        };
        // The watch runs as long as the process.
        if timeout(pause, seen.changed()).await.is_ok_and(|changed| changed.is_err()) {
            pending::<()>().await;
        }
    }
}

/// The outcome of a pass.
enum Tended {
    /// The Secret is as it should be.
    InOrder,
    /// Something was written, or a write failed.
    Busy,
}

/// Runs one pass: renews the certificate if it is due.
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
    // An earlier version of tagpin created a Secret without an owner.
    let unowned = secret.is_some_and(|secret| secret.metadata.owner_references.is_none());
    let wanted = match issue::next(held.as_ref(), namespace, lifetimes, Timestamp::now()) {
        // A Secret that somebody deleted is restored as it was, so that no client has to trust a new authority.
        Ok(None) if secret.is_none() || unowned => held.clone(),
        Ok(wanted) => wanted,
        Err(error) => {
            reconcile.failed();
            warn!(%error, "cannot make the webhook's certificate");
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
        Ok(false) => debug!("the Deployment does not exist any more: no certificate is made"),
        Err(error) => {
            reconcile.failed();
            warn!(%error, secret = release::CERTIFICATE, "cannot write the webhook's certificate");
        }
    }
    Tended::Busy
}
