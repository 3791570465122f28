//! The webhook server and its certificate, which comes from a Secret and may change while it serves.

use k8s_openapi::api::core::v1::Secret;
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::admission::tls::CurrentCertificate;
use crate::cluster::Seen;
use crate::cluster::certificate::Pems;
use crate::telemetry::readiness::Gate;

/// Shows every certificate that the Secret holds; opens the gate and says that we listen with the first.
pub(crate) async fn show_certificates(
    mut seen: watch::Receiver<Seen<Secret>>,
    shown: CurrentCertificate,
    gate: Gate,
    listens: watch::Sender<bool>,
) -> anyhow::Result<()> {
    loop {
        if let Seen::There(secret) = &*seen.borrow_and_update() {
            let pems = Pems::of(secret);
            match shown.set(&pems.certificate, pems.key.expose_secret()) {
                Ok(()) => {
                    info!("shows the certificate of the Secret");
                    gate.open();
                    listens.send_replace(true);
                }
                Err(error) => {
                    let error = anyhow::Error::new(error);
                    warn!(
                        error = format!("{error:#}"),
                        "the Secret's certificate is not usable; the one before stays"
                    );
                }
            }
        }
        seen.changed().await?;
    }
}
