//! The certificate that the webhook presents, and those that it asks callers for. The webhook's certificate can be
//! replaced while the webhook serves, and a broken one never replaces it. No Secret is read here.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, WebPkiSupportedAlgorithms, ring};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError as Untrusted, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore,
    ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

/// The one protocol that is spoken over TLS.
const HTTP: &[u8] = b"http/1.1";

/// The current certificate. Every handshake uses the newest.
#[derive(Clone, Default)]
pub struct CurrentCertificate(Arc<ArcSwapOption<CertifiedKey>>);

impl fmt::Debug for CurrentCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CurrentCertificate({})", if self.0.load().is_some() { "set" } else { "none" })
    }
}

/// The reason why a certificate and key are not used. The previous pair stays in use.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The PEM text has no valid certificate.
    #[error("read the certificate chain")]
    Chain(#[source] rustls_pki_types::pem::Error),
    /// The chain is empty.
    #[error("the certificate chain is empty")]
    Empty,
    /// The PEM text has no valid private key.
    #[error("read the private key")]
    Key(#[source] rustls_pki_types::pem::Error),
    /// The key is of an unknown kind, or does not belong to the certificate.
    #[error("join certificate and key")]
    Pair(#[source] rustls::Error),
}

/// The authority that signs the client certificate of the API server.
#[derive(Clone)]
pub struct ClientCa(Arc<dyn ClientCertVerifier>);

/// The reason why the file of a [`ClientCa`] is not used.
#[derive(Debug, thiserror::Error)]
pub enum ClientCaError {
    /// The PEM text has no valid certificate.
    #[error("read the certificates")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// A certificate cannot be an authority.
    #[error("read a certificate")]
    Certificate(#[source] rustls::Error),
    /// There is no certificate.
    #[error("there is no certificate")]
    Verifier(#[source] VerifierBuilderError),
}

impl fmt::Debug for ClientCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCa")
    }
}

impl ClientCa {
    /// Reads the certificates of the authority, in PEM.
    ///
    /// # Errors
    /// Fails if there is none, or if one is not valid.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ClientCaError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(ClientCaError::Pem)?).map_err(ClientCaError::Certificate)?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(Self(verifier.map_err(ClientCaError::Verifier)?))
    }

    /// Returns true if a caller showed a certificate of this authority in its handshake.
    pub(crate) fn has_signed(&self, shown: Option<&[CertificateDer<'_>]>) -> bool {
        let Some((leaf, chain)) = shown.and_then(<[_]>::split_first) else { return false };
        self.0.verify_client_cert(leaf, chain, UnixTime::now()).is_ok()
    }
}

impl CurrentCertificate {
    /// Replaces the certificate and its key, both in PEM.
    ///
    /// # Errors
    /// Fails if the two cannot serve TLS together. The previous pair then stays in use.
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

    /// Returns the TLS configuration of the server. It offers only HTTP/1.1, because the API server's webhook
    /// client insists on it, so that connections spread over replicas.
    ///
    /// # Errors
    /// Fails if the compiled-in provider offers no protocol version.
    pub(crate) fn server_config(&self, client_ca: Option<&ClientCa>) -> Result<ServerConfig, rustls::Error> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        let config = match client_ca {
            Some(ca) => config.with_client_cert_verifier(Arc::new(AnyCaller(ca.clone()))),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_cert_resolver(Arc::new(Resolver(self.clone())));
        config.alpn_protocols = vec![HTTP.to_vec()];
        Ok(config)
    }

    /// Returns the TLS configuration of a client that trusts only the certificate that is presented at the
    /// time.
    ///
    /// # Errors
    /// Fails if the compiled-in provider offers no protocol version.
    pub fn client_config(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let shown = OnlyShown { certificate: self.clone(), algorithms };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            // rustls calls every custom verifier dangerous. This one trusts less than the public
            // authorities do.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(shown))
            .with_no_client_auth();
        config.alpn_protocols = vec![HTTP.to_vec()];
        Ok(config)
    }
}

/// A verifier that accepts only the certificate that this process presents, whoever signed it and however old
/// it is. Only the holder of its key can have made the handshake.
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

/// A verifier that asks for a client certificate and completes the handshake with any, and without one. A caller with
/// the wrong certificate is a stranger, and not an API server whose requests get no answer.
#[derive(Debug)]
struct AnyCaller(ClientCa);

impl ClientCertVerifier for AnyCaller {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // The connection asks `ClientCa::has_signed` after the handshake.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.0.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.0.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.0.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct Resolver(CurrentCertificate);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.0.load_full()
    }
}
