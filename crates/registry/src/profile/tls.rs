//! TLS settings of connections to a host: authorities, and the client certificate.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;

/// The TLS settings of connections to one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// Certificate authorities that are trusted besides those of the system.
    pub ca: Option<CaBundle>,
    /// Certificate authorities that are trusted for all hosts, unless only those of this host are trusted.
    pub common: Option<CaBundle>,
    /// True if only these authorities are trusted.
    pub ca_only: bool,
    /// The certificate that is shown to a host that asks for one.
    pub client: Option<Arc<ClientCertificate>>,
    /// True if the host's certificate is not verified, because the operator says so.
    pub unverified: bool,
}

/// Certificate authorities for one registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CaBundle(Arc<[CertificateDer<'static>]>);

/// A client certificate with its key.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    pem: SecretString,
}

/// The reason why a file holds no usable certificate. It never repeats the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// The file holds no PEM certificate.
    #[error("the CA file holds no PEM certificate")]
    Authorities,
    /// The file of the client certificate holds no PEM certificate.
    #[error("the file holds no PEM certificate")]
    Certificate,
    /// The file holds no PEM private key.
    #[error("the file holds no PEM private key")]
    Key,
    /// Certificate and key do not match, or are of a kind that TLS does not use.
    #[error("the certificate and the key do not match")]
    Pair,
}

impl Tls {
    /// Returns the settings for another host that this one names (a token service, a redirect): the additional
    /// authorities, and nothing that was meant for this host alone.
    #[must_use]
    pub(crate) fn for_others(&self) -> Self {
        Self { ca: self.ca.clone(), ..Self::default() }
    }
}

impl Tls {
    /// Returns all additional authorities.
    pub(crate) fn authorities(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        let common = self.common.as_ref().filter(|_| !self.ca_only);
        self.ca.iter().chain(common).flat_map(CaBundle::certificates)
    }
}

impl CaBundle {
    /// Reads one or more PEM certificates.
    ///
    /// # Errors
    /// Returns an error if there is none, or if one is broken.
    pub fn parse(pem: &[u8]) -> Result<Self, PemError> {
        Ok(Self(certificates(pem).ok_or(PemError::Authorities)?.into()))
    }

    /// Returns the certificates.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }
}

impl ClientCertificate {
    /// Reads a certificate, with its chain if that is there, and its key.
    ///
    /// # Errors
    /// Returns an error if one of the two is missing, or if they do not match.
    pub fn parse(certificate: &[u8], key: &[u8]) -> Result<Self, PemError> {
        let chain = certificates(certificate).ok_or(PemError::Certificate)?;
        let private = PrivateKeyDer::from_pem_slice(key).map_err(|_| PemError::Key)?;
        CertifiedKey::from_der(chain.clone(), private, &ring::default_provider())
            .map_err(|_| PemError::Pair)?;
        let pem = [certificate, b"\n", key].concat();
        let pem = String::from_utf8(pem).map_err(|_| PemError::Key)?;
        Ok(Self { chain, pem: pem.into() })
    }

    /// Returns certificate and key as one PEM text.
    pub(crate) const fn pem(&self) -> &SecretString {
        &self.pem
    }
}

/// Compares the certificates alone: a certificate determines its key.
impl PartialEq for ClientCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain
    }
}

impl Eq for ClientCertificate {}

impl Hash for ClientCertificate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.chain.hash(state);
    }
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok()?;
    (!found.is_empty()).then_some(found)
}
