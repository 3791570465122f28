//! How a connection is sure of the other end, and shows who is at this one. It opens none.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;

/// What counts for connections to one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// Certificate authorities beside those of the system.
    pub ca: Option<CaBundle>,
    /// Those authorities count alone.
    pub ca_only: bool,
    /// What is shown to a host that asks who we are.
    pub client: Option<Arc<ClientCertificate>>,
    /// Whatever certificate is shown is taken: only because the operator wants it so.
    pub unverified: bool,
}

/// Certificate authorities for one registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CaBundle(Arc<[CertificateDer<'static>]>);

/// A certificate of ours with its key.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    pem: SecretString,
}

/// Why a file holds no certificate that can be used. It never repeats the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Not PEM with at least one certificate.
    #[error("the CA file holds no PEM certificate")]
    Authorities,
    /// The same, of a certificate of ours.
    #[error("it holds no PEM certificate")]
    Certificate,
    /// Not PEM with a private key.
    #[error("it holds no PEM private key")]
    Key,
    /// Certificate and key are not a pair, or of a sort that is not used in TLS.
    #[error("certificate and key do not belong together")]
    Pair,
}

impl Tls {
    /// What holds for another host that this one names (a token service, a redirect): more authorities, and nothing
    /// that was meant for the one host.
    #[must_use]
    pub fn for_others(&self) -> Self {
        Self { ca: self.ca.clone(), ..Self::default() }
    }
}

impl CaBundle {
    /// Reads one or more PEM certificates.
    ///
    /// # Errors
    /// When there is none, or one is broken.
    pub fn parse(pem: &[u8]) -> Result<Self, PemError> {
        Ok(Self(certificates(pem).ok_or(PemError::Authorities)?.into()))
    }

    /// The certificates.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }
}

impl ClientCertificate {
    /// Reads a certificate, with those that it is signed by if they are there, and its key.
    ///
    /// # Errors
    /// When one of the two is not there, or they do not fit.
    pub fn parse(certificate: &[u8], key: &[u8]) -> Result<Self, PemError> {
        let chain = certificates(certificate).ok_or(PemError::Certificate)?;
        let private = PrivateKeyDer::from_pem_slice(key).map_err(|_| PemError::Key)?;
        CertifiedKey::from_der(chain.clone(), private, &ring::default_provider())
            .map_err(|_| PemError::Pair)?;
        let pem = [certificate, b"\n", key].concat();
        let pem = String::from_utf8(pem).map_err(|_| PemError::Key)?;
        Ok(Self { chain, pem: pem.into() })
    }

    /// Certificate and key as one PEM text.
    pub(crate) const fn pem(&self) -> &SecretString {
        &self.pem
    }
}

/// A certificate names its key, so it says all.
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
