//! Credentials that the operator configures for a registry, whoever asks.

use std::sync::Arc;

use crate::credential::Candidate;
use crate::credentials::cloud::Access;
use crate::profile::endpoint::Profiles;

/// A credential that the operator gives for a registry, whoever asks.
#[derive(Debug, Clone)]
pub enum OperatorCredential {
    /// In a secret, read when it is needed.
    Secret {
        /// Where it is.
        secret: SecretRef,
        /// The `match` of the entry that names it.
        entry: Arc<str>,
    },
    /// From a cloud, asked for when it is needed.
    Cloud {
        /// Which, and as whom.
        access: Access,
        /// The `match` of the entry that names it.
        entry: Arc<str>,
    },
    /// In the registries file.
    Given(Arc<Candidate>),
}

/// The name of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretRef {
    /// The secret's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Looks up the credentials that the operator configures.
pub trait OperatorCredentials: Profiles {
    /// Returns the credential for the registry with this domain.
    fn credential(&self, domain: &str) -> Option<OperatorCredential>;
}
