//! Credentials that redact themselves, and their sources.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use tagpin_domain::fact::Unavailable;

/// A credential for one registry.
#[derive(Debug, Clone)]
pub enum Credential {
    /// No credential.
    Anonymous,
    /// No credential, because the cloud that should give one gave none. The registry is asked anonymously, and a
    /// refusal then proves nothing.
    NotGiven,
    /// No credential, because a secret that may have one could not be read in time. The registry is asked anonymously,
    /// and a refusal then proves nothing.
    NotRead,
    /// No credential, because the pull secrets of the asker's service account are not known. The registry is asked
    /// anonymously, and a refusal then proves nothing.
    NotNamed,
    /// User and password, as in `auth`, `username` and `password` of a docker configuration.
    Basic {
        /// The name of the user.
        username: String,
        /// The password or token.
        password: SecretString,
    },
    /// A token that a token service exchanges for another one (`identitytoken`, a refresh token of OAuth 2).
    Identity(SecretString),
    /// A token that the registry itself accepts (`registrytoken`).
    Registry(SecretString),
}

/// The source of a credential. It holds names only, never a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// No credential matched, so the registry is asked anonymously.
    Anonymous,
    /// A pull secret in the namespace of the asker, by name.
    PullSecret(String),
    /// The service account of the asker, whose pull secrets are not known.
    ServiceAccount,
    /// The operator's configuration: the `match` of an entry of `registries`, or the host in a registries file.
    Configuration(String),
    /// The docker configuration file of the person at the command line, by path.
    UserConfig(String),
}

/// A keyed hash of a credential, with a key that is random for each process. Equal credentials have equal identities,
/// and the credential cannot be read from it. It is part of every cache key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialId(pub u128);

/// A credential to try.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The credential.
    pub credential: Credential,
    /// The identity of the credential in cache keys.
    pub id: CredentialId,
    /// The source of the credential.
    pub source: Source,
    /// True if the credential was written for a repository whose name is only the start of this one's: `team` for
    /// `team-b/app`.
    pub stretched: bool,
    /// The cloud that gave the credential.
    pub cloud: Option<Arc<dyn CloudApi>>,
}

/// Asks the cloud that runs a registry, as the identity that got the credential.
#[async_trait]
pub trait CloudApi: fmt::Debug + Send + Sync {
    /// Returns another credential than the rejected one; none if there is none before the deadline.
    async fn renewed(&self, rejected: CredentialId, deadline: Instant) -> Option<Candidate>;

    /// Returns the state of the image of a tag that the registry does not serve, if it is in the archive of the
    /// registry, and if the cloud tells that before the deadline.
    async fn archived(&self, repository: &str, tag: &str, deadline: Instant) -> Option<Archive>;
}

/// The state of an image in the archive of a registry, which serves nothing from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// The image stays in the archive until somebody restores it.
    Archived,
    /// The image is being restored.
    Restoring,
}

impl Credential {
    /// Creates a credential from user and password. An empty user means anonymous, as for containerd.
    #[must_use]
    pub fn basic(username: String, password: SecretString) -> Self {
        if username.is_empty() { Self::Anonymous } else { Self::Basic { username, password } }
    }

    /// Returns the reason why the credential is missing, if there may be one that could not be obtained.
    #[must_use]
    pub(crate) const fn absence(&self) -> Option<Unavailable> {
        match self {
            Self::NotGiven => Some(Unavailable::NoCredential),
            Self::NotRead => Some(Unavailable::PullSecret),
            Self::NotNamed => Some(Unavailable::ServiceAccount),
            Self::Anonymous | Self::Basic { .. } | Self::Identity(_) | Self::Registry(_) => None,
        }
    }

    /// Returns true if there is something to send.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        matches!(self, Self::Basic { .. } | Self::Identity(_) | Self::Registry(_))
    }
}

impl CredentialId {
    /// Returns the identity of a credential in this process.
    #[must_use]
    pub fn of(credential: &Credential) -> Self {
        static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
        let [high, low] = KEYS.each_ref().map(|key| {
            let mut hasher = key.build_hasher();
            match credential {
                Credential::Anonymous => 0_u8.hash(&mut hasher),
                Credential::Basic { username, password } => {
                    1_u8.hash(&mut hasher);
                    username.hash(&mut hasher);
                    password.expose_secret().hash(&mut hasher);
                }
                Credential::Identity(token) => {
                    2_u8.hash(&mut hasher);
                    token.expose_secret().hash(&mut hasher);
                }
                Credential::Registry(token) => {
                    3_u8.hash(&mut hasher);
                    token.expose_secret().hash(&mut hasher);
                }
                Credential::NotGiven => 4_u8.hash(&mut hasher),
                Credential::NotRead => 5_u8.hash(&mut hasher),
                Credential::NotNamed => 6_u8.hash(&mut hasher),
            }
            u128::from(hasher.finish())
        });
        Self(high << 64 | low)
    }
}

impl Candidate {
    /// Creates a candidate and its identity.
    #[must_use]
    pub fn new(credential: Credential, source: Source) -> Self {
        Self { id: CredentialId::of(&credential), credential, source, stretched: false, cloud: None }
    }

    /// Returns the candidate that asks anonymously.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new(Credential::Anonymous, Source::Anonymous)
    }

    /// Returns the candidates of an asker without any credential, as most look-ups need them.
    #[must_use]
    pub(crate) fn only_anonymous() -> &'static [Self] {
        static ONLY: LazyLock<[Candidate; 1]> = LazyLock::new(|| [Candidate::anonymous()]);
        ONLY.as_slice()
    }

    /// Returns the candidate for an entry, given by its `match`, whose cloud gave no credential.
    #[must_use]
    pub fn not_given(entry: &str) -> Self {
        Self::new(Credential::NotGiven, Source::Configuration(entry.to_owned()))
    }

    /// Adds the candidates whose credentials are not in the list yet.
    pub(crate) fn add_new(candidates: &mut Vec<Self>, more: impl IntoIterator<Item = Self>) {
        for candidate in more {
            if !candidates.iter().any(|earlier| earlier.id == candidate.id) {
                candidates.push(candidate);
            }
        }
    }

    /// Returns the candidate for a secret that could not be read in time.
    #[must_use]
    pub fn not_read(source: Source) -> Self {
        Self::new(Credential::NotRead, source)
    }

    /// Returns the candidate for the pull secrets of a service account that is not known.
    #[must_use]
    pub fn not_named() -> Self {
        Self::new(Credential::NotNamed, Source::ServiceAccount)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::PullSecret(name) => write!(f, "pull secret {name}"),
            Self::ServiceAccount => f.write_str("service account"),
            Self::Configuration(entry) => write!(f, "configuration of {entry}"),
            Self::UserConfig(path) => f.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Credential {
        Credential::basic(username.to_owned(), password.into())
    }

    #[test]
    fn equal_credentials_have_equal_identities_and_others_do_not() {
        let of = |c| CredentialId::of(&c);
        assert_eq!(of(basic("a", "b")), of(basic("a", "b")));
        assert_eq!(of(Credential::Anonymous), of(basic("", "b")));
        // What is asked for while a credential may be missing is not shared with those who have none.
        let unsent = [Credential::Anonymous, Credential::NotGiven, Credential::NotRead, Credential::NotNamed];
        let unsent: std::collections::HashSet<_> = unsent.map(of).into();
        assert_eq!(unsent.len(), 4);
        assert_ne!(of(Credential::Identity("b".into())), of(Credential::Registry("b".into())));
        for other in [
            Credential::Identity("b".into()),
            basic("a", "c"),
            basic("b", "b"),
            basic("ab", ""),
            Credential::Anonymous,
        ] {
            assert_ne!(of(basic("a", "b")), of(other));
        }
    }

    #[test]
    fn no_password_is_ever_printed() {
        let candidate = Candidate::new(basic("robot", "hunter2"), Source::PullSecret("regcred".to_owned()));
        let printed = format!("{candidate:?} {}", candidate.source);
        assert!(printed.contains("robot") && printed.contains("regcred"), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
