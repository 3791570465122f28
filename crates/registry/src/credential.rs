//! What proves who asks: credentials that redact themselves, and where they come from. It finds none.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

/// One credential for one registry.
#[derive(Debug, Clone)]
pub enum Credential {
    /// No credential.
    Anonymous,
    /// The cloud that should give one gave none: the registry is asked anonymously, and what it does not show so says
    /// nothing.
    NotGiven,
    /// User and password, as in `auth`, `username` and `password` of a docker config.
    Basic {
        /// The user's name.
        username: String,
        /// The password or token.
        password: SecretString,
    },
    /// What a token service gave to be asked with again (`identitytoken`, a refresh token of OAuth 2).
    Identity(SecretString),
    /// A token for the registry itself (`registrytoken`).
    Registry(SecretString),
}

/// Where a credential came from: names only, never a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// No credential matched: the registry is asked anonymously.
    Anonymous,
    /// A pull secret of the asker's namespace, by name.
    PullSecret(String),
    /// The operator's configuration: the `match` of a `registries` entry, or the host in a registries file.
    Configuration(String),
    /// The docker configuration file of the person at the command line, by its path.
    UserConfig(String),
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
    /// It was written for another repository, of whose name this one's is a continuation: `team` for `team-b/app`.
    pub stretched: bool,
    /// Who gives another one, once the registry takes this one no more.
    pub renew: Option<Arc<dyn Renew>>,
}

/// Gives another credential in place of one that its registry takes no more.
#[async_trait]
pub trait Renew: fmt::Debug + Send + Sync {
    /// Another credential than this one; none when there is none in time.
    async fn renewed(&self, rejected: CredentialId, deadline: Instant) -> Option<Candidate>;
}

impl Credential {
    /// A user and a password. Without a user it is no credential: containerd asks anonymously then.
    #[must_use]
    pub fn basic(username: String, password: SecretString) -> Self {
        if username.is_empty() { Self::Anonymous } else { Self::Basic { username, password } }
    }
}

impl CredentialId {
    /// The identity of a credential in this process.
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
            }
            u128::from(hasher.finish())
        });
        Self(high << 64 | low)
    }
}

impl Candidate {
    /// A credential with its identity.
    #[must_use]
    pub fn new(credential: Credential, source: Source) -> Self {
        Self { id: CredentialId::of(&credential), credential, source, stretched: false, renew: None }
    }

    /// No credential.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new(Credential::Anonymous, Source::Anonymous)
    }

    /// What whoever has no credential tries: most images are asked for so.
    #[must_use]
    pub fn only_anonymous() -> &'static [Self] {
        static ONLY: LazyLock<[Candidate; 1]> = LazyLock::new(|| [Candidate::anonymous()]);
        ONLY.as_slice()
    }

    /// In place of the credential of an entry, by its `match`, that its cloud did not give.
    #[must_use]
    pub fn not_given(entry: &str) -> Self {
        Self::new(Credential::NotGiven, Source::Configuration(entry.to_owned()))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::PullSecret(name) => write!(f, "pull secret {name}"),
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
