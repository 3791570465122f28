//! What proves who asks: credentials that redact themselves, and where they come from. It finds none.

use std::fmt;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::time::Instant;

use crate::domain::asker::Asker;
use crate::domain::image::ImageRef;

/// One credential for one registry.
#[derive(Debug, Clone)]
pub enum Credential {
    /// No credential.
    Anonymous,
    /// User and password, as in `auth`, `username` and `password` of a docker config.
    Basic {
        /// The user's name.
        username: String,
        /// The password or token.
        password: SecretString,
    },
}

/// Where a credential came from: names only, never a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// No credential matched: the registry is asked anonymously.
    Anonymous,
    /// A pull secret of the asker's namespace, by name.
    PullSecret(String),
    /// The `registries` entry of the operator's configuration, by its `match`.
    Configuration(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::PullSecret(name) => write!(f, "pull secret {name}"),
            Self::Configuration(entry) => write!(f, "configuration of {entry}"),
        }
    }
}

/// A keyed hash of a credential, random per process: equal credentials have equal identities, nobody can read
/// the credential from it, and it is part of every cache key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialId(pub u128);

/// A credential to try.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The credential.
    pub credential: Credential,
    /// Its identity in cache keys.
    pub id: CredentialId,
    /// Where it came from.
    pub source: Source,
}

/// Finds the credentials that an asker holds for an image.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// The credentials to try, in order; never empty (anonymous, when nothing matches). Secrets are read with what is
    /// left until the deadline; one that can not be read is skipped, as the kubelet does.
    async fn candidates(&self, asker: &Asker, image: &ImageRef, deadline: Instant) -> Vec<Candidate>;
}
