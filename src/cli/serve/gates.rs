//! What a replica waits for before it is ready: every store filled once, and a certificate to show.

use std::convert::Infallible;
use std::future;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::admission::tls::CurrentCertificate;
use crate::cluster::certificate::Pems;
use crate::cluster::store::Store;
use crate::cluster::{Cluster, Seen};
use crate::telemetry::readiness::Gate;

/// Opens the gate of each store once it has been filled, and tells when all are; then there is nothing left to do.
pub(crate) async fn open_when_filled(
    cluster: Arc<Cluster>,
    mut shut: Vec<(Store, Gate)>,
    all: watch::Sender<bool>,
) -> Infallible {
    let mut changes = cluster.changes();
    while !shut.is_empty() {
        let missing = cluster.synced.missing();
        shut.retain(|(store, gate)| {
            let filled = !missing.contains(store);
            if filled {
                gate.open();
            }
            !filled
        });
        changes.changed().await;
    }
    all.send_replace(true);
    future::pending().await
}

/// Shows every certificate that the Secret comes to hold; with the first one the gate opens.
pub(crate) async fn open_with_certificate(
    mut seen: watch::Receiver<Seen<Secret>>,
    current: CurrentCertificate,
    gate: Gate,
    shown: watch::Sender<bool>,
) -> anyhow::Result<()> {
    loop {
        if let Seen::There(secret) = &*seen.borrow_and_update() {
            let pems = Pems::of(secret);
            match current.set(&pems.certificate, pems.key.expose_secret()) {
                Ok(()) => {
                    info!("shows the certificate of the Secret");
                    gate.open();
                    shown.send_replace(true);
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::new(error));
                    warn!(error, "the Secret's certificate is not usable; the one before stays");
                }
            }
        }
        seen.changed().await?;
    }
}
