//! What a registry can tell us: the closed set. It does not decide what follows; `verdict` does.

use std::time::Duration;

use crate::digest::Digest;

/// One answer about one reference. Asking can not fail: a failure is a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The tag exists and names this digest.
    Present(Digest),
    /// The repository exists, the tag does not.
    TagMissing,
    /// The same, and the registry says that the tag was there.
    TagExpired,
    /// The registry said to an authorised asker that there is no such repository.
    RepositoryMissing,
    /// The registry does not tell whether the repository is missing or private.
    MissingOrPrivate,
    /// The asker is known and may not read this repository.
    AccessDenied,
    /// The registry rejected every credential that the asker has for it.
    CredentialsRejected {
        /// The pull secret (its name only) whose credential was rejected last, when one was used.
        secret: Option<String>,
    },
    /// The registry asks us to come back later.
    RateLimited {
        /// How long from now, when the registry said so.
        retry_after: Option<Duration>,
        /// The digest that the tag named when it was last seen.
        last_known: Option<LastKnown>,
    },
    /// No usable answer in time.
    Unavailable {
        /// Why, as a closed word.
        cause: Unavailable,
        /// How long until the registry is asked again, when that is known.
        retry_after: Option<Duration>,
        /// The digest that the tag named when it was last seen.
        last_known: Option<LastKnown>,
    },
    /// The host, or an address it resolves to, is not one that tagpin may reach.
    AddressForbidden {
        /// The host that was refused: the registry's, or that of its token service or redirect.
        host: String,
    },
    /// The registry answered with something that no node could run.
    Broken(Broken),
    /// The registry is marked offline: it was not asked.
    Offline,
}

impl Fact {
    /// Returns the fact that a registry gave no usable answer, for this cause.
    #[must_use]
    pub const fn unavailable(cause: Unavailable) -> Self {
        Self::Unavailable { cause, retry_after: None, last_known: None }
    }
}

/// A digest from an earlier answer or from our own pin on a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastKnown {
    /// What the tag named then.
    pub digest: Digest,
    /// How long ago that was.
    pub age: Duration,
}

/// Why a registry gave no usable answer. The words are stable: they are metric labels and JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unavailable {
    /// The deadline passed.
    Timeout,
    /// The host name does not resolve.
    Dns,
    /// Nothing accepts connections there, or the connection broke.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// A status that says nothing about the image (5xx and the like).
    Status(u16),
    /// An answer that is not what the distribution specification describes.
    Unreadable,
    /// It failed a moment ago and is not asked again yet.
    BreakerOpen,
    /// The tag is there, and what it names is not given by digest, which is how nodes would pull it.
    NotByDigest,
    /// The cloud that gives the credential for it gave none, and without one it shows nothing.
    NoCredential,
}

/// Why what a registry holds can not be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    /// The content does not hash to its digest.
    HashMismatch,
    /// A schema 1 manifest, which containerd 2 refuses.
    Schema1,
    /// Something else than an image: a chart, a signature, an artifact.
    NotAnImage,
}
