//! Asks the webhook server from its own process as the API server does: by TCP, TLS and HTTP on its port.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, ensure};
use axum::Router;
use axum::routing::get;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use tagpin_leader::replicas::page;
use tagpin_objects::release;
use tagpin_webhook::tls::CurrentCertificate;

/// The page of the webhook's port that only this process requests. It is no review, and is not counted as one.
const PAGE: &str = "/healthz";

/// Adds the page to the paths of the webhook.
pub(crate) fn with_page(router: Router) -> Router {
    router.route(PAGE, get(|| async { "ok\n" }))
}

/// Asks the webhook server of this process.
#[derive(Clone)]
pub(crate) struct Probe {
    port: u16,
    trust: Arc<ClientConfig>,
}

impl Probe {
    /// Returns a probe of this port that trusts exactly this certificate.
    ///
    /// # Errors
    /// Fails if TLS cannot be set up.
    pub(crate) fn new(port: u16, certificate: &CurrentCertificate) -> Result<Self, rustls::Error> {
        Ok(Self { port, trust: Arc::new(certificate.client_config()?) })
    }

    /// Asks once, on a new connection. The question has no time limit of its own.
    ///
    /// # Errors
    /// Fails if there is no answer.
    pub(crate) async fn ask(self) -> anyhow::Result<()> {
        let loopback: [SocketAddr; 2] =
            [(Ipv4Addr::LOCALHOST, self.port).into(), (Ipv6Addr::LOCALHOST, self.port).into()];
        let stream = TcpStream::connect(loopback.as_slice()).await.context("connect")?;
        let connector = TlsConnector::from(self.trust);
        // The client trusts this one certificate, whatever names are in it.
        let stream =
            connector.connect(ServerName::try_from(release::NAME)?, stream).await.context("shake hands")?;
        let (status, _) = page(stream, PAGE).await.with_context(|| format!("get {PAGE}"))?;
        ensure!(status.is_success(), "{PAGE} answers with status {status}");
        Ok(())
    }
}
