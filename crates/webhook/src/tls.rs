//! The certificate that the webhook shows: replaced while it serves, and never by a broken one. It reads no Secret.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, WebPkiSupportedAlgorithms, ring};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError as Untrusted, ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

/// The one protocol that is spoken over TLS.
const HTTP: &[u8] = b"http/1.1";

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

    /// TLS as the API server speaks it: its webhook client insists on HTTP/1.1, so that connections spread.
    ///
    /// # Errors
    /// When the compiled-in provider offers no protocol version.
    pub fn server_config(&self) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(self.clone())));
        config.alpn_protocols = vec![HTTP.to_vec()];
        Ok(config)
    }

    /// TLS of a client that trusts the certificate which is shown at the time, and no other.
    ///
    /// # Errors
    /// When the compiled-in provider offers no protocol version.
    pub fn client_config(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let shown = OnlyShown { certificate: self.clone(), algorithms };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            // "Dangerous" is who trusts more than the public authorities do; this one trusts less.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(shown))
            .with_no_client_auth();
        config.alpn_protocols = vec![HTTP.to_vec()];
        Ok(config)
    }
}

/// Accepts the certificate that this process shows, whoever signed it and however old it is: only its key can have
/// made the handshake.
#[derive(Debug)]
struct OnlyShown {
    certificate: CurrentCertificate,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for OnlyShown {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = self.certificate.0.load();
        let ours = shown.as_ref().is_some_and(|pair| pair.cert.first() == Some(leaf));
        if ours { Ok(ServerCertVerified::assertion()) } else { Err(Untrusted::UnknownIssuer.into()) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct Resolver(CurrentCertificate);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.0.load_full()
    }
}
