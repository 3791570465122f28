//! The certificate that the webhook shows: replaced while it serves, and never by a broken one. It reads no Secret.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The current certificate; every handshake takes the newest.
#[derive(Clone, Default)]
pub struct CurrentCertificate(Arc<ArcSwapOption<CertifiedKey>>);

impl fmt::Debug for CurrentCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CurrentCertificate({})", if self.0.load().is_some() { "set" } else { "none" })
    }
}

/// Why a pair is not taken; the one before stays.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// No certificate in the PEM text.
    #[error("read the certificate chain")]
    Chain(#[source] rustls_pki_types::pem::Error),
    /// The chain is empty.
    #[error("the certificate chain is empty")]
    Empty,
    /// No private key in the PEM text.
    #[error("read the private key")]
    Key(#[source] rustls_pki_types::pem::Error),
    /// The key is of no known kind, or not the certificate's.
    #[error("join certificate and key")]
    Pair(#[source] rustls::Error),
}

impl CurrentCertificate {
    /// Takes a new pair, in PEM.
    ///
    /// # Errors
    /// When the two can not serve TLS together; what was shown before is shown still.
    pub fn set(&self, certificates: &[u8], key: &[u8]) -> Result<(), CertificateError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(CertificateError::Chain)?;
        if chain.is_empty() {
            return Err(CertificateError::Empty);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(CertificateError::Key)?;
        let pair =
            CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(CertificateError::Pair)?;
        self.0.store(Some(Arc::new(pair)));
        Ok(())
    }

    /// Whether there is one to show.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load().is_some()
    }

    /// TLS as the API server speaks it: its webhook client insists on HTTP/1.1, so that connections spread.
    ///
    /// # Errors
    /// When the compiled-in provider offers no protocol version.
    pub fn server_config(&self) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(self.clone())));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

#[derive(Debug)]
struct Resolver(CurrentCertificate);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.0.load_full()
    }
}
