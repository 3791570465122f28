//! The closed set of answers about a tag. A fact decides nothing: policies distinguish its class, and
//! `verdict` decides what follows.

use std::time::Duration;

use crate::digest::Digest;

/// One answer about one reference. A look-up cannot fail: a failure is a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The tag exists and names this digest.
    Present(Digest),
    /// The repository exists, but the tag does not.
    TagMissing,
    /// The repository exists, but the tag does not, and the registry says that it once did.
    TagExpired,
    /// The registry told an authorised asker that there is no such repository.
    RepositoryMissing,
    /// The registry does not tell whether the repository is missing or private.
    MissingOrPrivate,
    /// The registry knows the asker, who may not read this repository.
    AccessDenied,
    /// The registry rejected every credential that the asker has for it.
    CredentialsRejected {
        /// The pull secret (its name only) whose credential was rejected last, when one was used.
        secret: Option<String>,
    },
    /// The registry's rate limit is reached.
    RateLimited {
        /// Time until the next attempt makes sense, if the registry said it.
        retry_after: Option<Duration>,
        /// The digest that the tag named when it was last seen.
        last_known: Option<LastKnown>,
    },
    /// The registry gave no usable answer in time.
    Unavailable {
        /// The cause, as a closed word.
        cause: Unavailable,
        /// Time until the registry is asked again, if it is known.
        retry_after: Option<Duration>,
        /// The digest that the tag named when it was last seen.
        last_known: Option<LastKnown>,
    },
    /// tagpin may not reach the host, or an address that it resolves to.
    AddressForbidden {
        /// The host that is forbidden: the registry's, or that of its token service or redirect.
        host: String,
    },
    /// The registry answered with something that no node could run.
    Broken(Broken),
    /// The registry is configured as offline and was not asked.
    Offline,
}

/// The classes of facts that policies, exit codes and retries distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The tag exists.
    Present,
    /// The registry is certain that no node can run the image.
    Definite,
    /// Nothing is known, because no credential of the asker may read the repository.
    Unauthorized,
    /// Nothing is known now; a later look-up may succeed.
    Unavailable,
    /// tagpin may not reach the registry's address.
    Forbidden,
    /// The registry is configured as offline and was not asked.
    Offline,
}

impl Fact {
    /// Returns the fact that a look-up failed for this cause, with no digest from before.
    #[must_use]
    pub const fn unavailable(cause: Unavailable) -> Self {
        Self::Unavailable { cause, retry_after: None, last_known: None }
    }

    /// Returns the class of the fact.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Present(_) => Class::Present,
            Self::TagMissing | Self::TagExpired | Self::RepositoryMissing | Self::Broken(_) => {
                Class::Definite
            }
            Self::MissingOrPrivate | Self::AccessDenied | Self::CredentialsRejected { .. } => {
                Class::Unauthorized
            }
            Self::RateLimited { .. } | Self::Unavailable { .. } => Class::Unavailable,
            Self::AddressForbidden { .. } => Class::Forbidden,
            Self::Offline => Class::Offline,
        }
    }

    /// Returns the time until another look-up makes sense, if it is known.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Returns the digest that the tag named when it was last seen, if the registry cannot be asked now.
    #[must_use]
    pub(crate) const fn last_known(&self) -> Option<&LastKnown> {
        match self {
            Self::RateLimited { last_known, .. } | Self::Unavailable { last_known, .. } => {
                last_known.as_ref()
            }
            _ => None,
        }
    }
}

/// A digest from an earlier answer, or from a pin of tagpin on a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastKnown {
    /// The digest that the tag named then.
    pub digest: Digest,
    /// Time since then.
    pub age: Duration,
}

/// The reason why a registry gave no usable answer. The words are stable: they are metric labels and JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unavailable {
    /// The deadline passed.
    Timeout,
    /// The host name does not resolve.
    Dns,
    /// Nothing accepts connections at the address, or the connection broke.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// A status that says nothing about the image (5xx and the like).
    Status(u16),
    /// An answer that is not what the distribution specification describes.
    Unreadable,
    /// The registry failed a moment ago and is not asked again yet.
    BreakerOpen,
    /// The registry lists the tag, but does not serve its digest, by which nodes would pull it.
    NotByDigest,
    /// The cloud gave no credential for the registry, which shows nothing without one.
    NoCredential,
}

/// The reason why no node can run the content of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    /// The content does not hash to its digest.
    HashMismatch,
    /// A schema 1 manifest, which containerd 2 refuses.
    Schema1,
    /// Not an image, but a chart, a signature or another artifact.
    NotAnImage,
}
