//! Credentials that the operator configures for a registry, for every asker.

use std::sync::Arc;

use crate::credential::Candidate;
use crate::credentials::cloud::Access;
use crate::profile::endpoint::Profiles;

/// A credential that the operator configures for a registry.
#[derive(Debug, Clone)]
pub enum OperatorCredential {
    /// A secret of the cluster, read when it is needed.
    Secret {
        /// The name of the secret.
        secret: SecretRef,
        /// The `match` of the entry that names it.
        entry: Arc<str>,
    },
    /// A cloud, asked when the credential is needed.
    Cloud {
        /// The cloud, and the identity towards it.
        access: Access,
        /// The `match` of the entry that names it.
        entry: Arc<str>,
    },
    /// A credential written in the registries file.
    Given(Arc<Candidate>),
}

/// The name of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretRef {
    /// The namespace of the secret.
    pub namespace: String,
    /// The name within the namespace.
    pub name: String,
}

/// Looks up the credentials that the operator configures.
pub trait OperatorCredentials: Profiles {
    /// Returns the credential for the registry with this domain.
    fn credential(&self, domain: &str) -> Option<OperatorCredential>;
}
