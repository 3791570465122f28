//! The closed set of answers about a tag. A fact decides nothing: policies distinguish its class, and
//! `verdict` decides what follows.

use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;

/// Time until another look-up makes sense while a registry restores an image from its archive.
const RESTORING: Duration = Duration::from_secs(30);

/// One answer about one reference. A look-up cannot fail: a failure is a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The tag exists and names this digest.
    Present(Digest),
    /// The tag names something that is not a container image.
    Artifact {
        /// The digest that the tag names.
        digest: Digest,
        /// True for a WebAssembly module, which a node with a runtime class may run.
        wasm: bool,
    },
    /// The tag exists, but its image is in the archive of the registry, which serves nothing from there.
    Archived {
        /// True while the registry restores the image.
        restoring: bool,
    },
    /// The repository exists, but the tag does not.
    TagMissing,
    /// The repository exists, but the tag does not, and the registry says that it once did.
    TagExpired,
    /// The registry told an authorised asker that there is no such repository.
    RepositoryMissing,
    /// The repository exists, but does not have the digest that the reference names.
    DigestMissing,
    /// The registry does not tell whether the repository is missing or private.
    MissingOrPrivate(Hidden),
    /// The registry knows the asker, who may not read this repository.
    AccessDenied(Hidden),
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
    /// The registry shows nothing without the asker's credentials, and its token service may not see them.
    RealmNotTrusted(Box<Realm>),
    /// tagpin may not reach the host, or an address that it resolves to.
    AddressForbidden(Box<ForbiddenHost>),
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
            Self::Artifact { .. }
            | Self::Archived { .. }
            | Self::TagMissing
            | Self::TagExpired
            | Self::RepositoryMissing
            | Self::DigestMissing
            | Self::Broken(_) => Class::Definite,
            Self::MissingOrPrivate(_) | Self::AccessDenied(_) | Self::CredentialsRejected { .. } => {
                Class::Unauthorized
            }
            Self::RateLimited { .. } | Self::Unavailable { .. } => Class::Unavailable,
            Self::RealmNotTrusted(_) | Self::AddressForbidden(_) => Class::Forbidden,
            Self::Offline => Class::Offline,
        }
    }

    /// Returns the time until another look-up makes sense, if it is known.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            Self::Archived { restoring: true } => Some(RESTORING),
            _ => None,
        }
    }

    /// Returns the reason why the registry gave no usable answer; none for other facts.
    #[must_use]
    pub(crate) const fn cause(&self) -> Option<Unavailable> {
        match self {
            Self::Unavailable { cause, .. } => Some(*cause),
            _ => None,
        }
    }

    /// Returns true if the registry shows the repository to the asker, and false if it shows nothing of it; none if
    /// that is not known.
    #[must_use]
    pub const fn shows_repository(&self) -> Option<bool> {
        match self.class() {
            Class::Present => Some(true),
            Class::Definite => Some(!matches!(self, Self::RepositoryMissing)),
            Class::Unauthorized | Class::Forbidden | Class::Offline => Some(false),
            Class::Unavailable => None,
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

/// The circumstances of an answer that shows nothing of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hidden {
    /// The credentials that the registry was asked with.
    pub with: AskedWith,
    /// The cloud that runs the registry, if the configuration names no credential of that cloud for it.
    pub cloud: Option<Cloud>,
}

/// The credentials that a registry was asked with, in the words of the asker. It holds names only, never a value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AskedWith {
    /// Nothing is known about the credentials.
    #[default]
    Unknown,
    /// No credentials: neither the pod nor its service account names a pull secret.
    NoneNamed,
    /// No credentials: tagpin may not read the pull secrets of the namespace.
    NotReadable {
        /// The namespace of the asker.
        namespace: Box<str>,
        /// The pull secrets that are named; maybe none is.
        named: Box<[String]>,
    },
    /// No credentials: none of these pull secrets has any for the registry.
    NoneMatches(Box<[String]>),
    /// No credentials: the pull secret cannot be used.
    Unusable {
        /// The name of the pull secret.
        secret: Box<str>,
        /// The problem of the pull secret.
        problem: SecretProblem,
    },
    /// The credentials of the pull secret with this name.
    Secret(Box<str>),
    /// The credentials of the entry of `registries` with this `match`.
    Entry(Arc<str>),
}

/// The reason why a pull secret cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretProblem {
    /// There is no secret of that name.
    NotFound,
    /// The API server does not allow tagpin to read the secret.
    Forbidden,
    /// The secret is not of a type that holds docker credentials, or is empty.
    WrongType,
    /// The content is not a docker configuration.
    Malformed,
}

/// A cloud that gives credentials for its registries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cloud {
    /// Amazon.
    Aws,
    /// Google.
    Gcp,
    /// Microsoft.
    Azure,
}

impl Cloud {
    /// Returns the stable word for metrics, which is also the key of the cloud in `credentials`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
        }
    }
}

/// A token service that may not see the credentials for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm {
    /// The domain of the registry, as references name it.
    pub registry: String,
    /// The host of the token service without its port, as `trustedRealms` takes it.
    pub realm: String,
    /// The `match` of the entry of `registries` that covers the registry.
    pub entry: Option<Arc<str>>,
}

/// A host that tagpin may not reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForbiddenHost {
    /// The host, with its port if that is not the default of the scheme.
    pub authority: String,
    /// The role of the host in the look-up.
    pub position: Position,
    /// The domain of the registry that was to be asked, as references name it.
    pub registry: String,
    /// The `match` of the entry of `registries` that covers the registry, and decides for its mirrors too.
    pub entry: Option<Arc<str>>,
    /// The `match` of the entry that covers the host itself, for a token service and for the target of a redirect.
    pub own_entry: Option<Arc<str>>,
    /// True for a token service that may not see the credentials for the registry.
    pub untrusted: bool,
    /// True if no entry can allow the address.
    pub never: bool,
}

/// The role of a host in a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Position {
    /// The registry itself.
    Registry,
    /// A mirror of the registry.
    Mirror,
    /// The token service that the registry names.
    TokenService,
    /// The target of a redirect.
    Redirect,
}

/// A digest from an earlier answer, or from a pin of tagpin on a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastKnown {
    /// The digest that the tag named then.
    pub digest: Digest,
    /// Time since then.
    pub age: Duration,
    /// True if the digest is that of an artifact, which only image volumes take.
    pub artifact: bool,
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
    /// A secret with credentials could not be read in time, and the registry shows nothing without them.
    PullSecret,
    /// The pull secrets of the service account are not known, and the registry shows nothing without them.
    ServiceAccount,
    /// The registry caches another one, and has not fetched the tag.
    NotInCache,
    /// The registry does not list tags.
    NoTagList,
    /// tagpin has as many look-ups in flight as it may have.
    Busy,
    /// The proxy cannot be reached, or refuses to connect to the registry.
    Proxy,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_stays_small() {
        assert!(size_of::<Fact>() <= 64, "{} bytes", size_of::<Fact>());
    }
}
