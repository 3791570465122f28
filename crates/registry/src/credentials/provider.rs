//! The trait of everything that finds credentials for an asker.

use std::borrow::Cow;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::credential::{Candidate, Source};
use crate::profile::endpoint::RegistryProfile;
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::{AskedWith, Fact, Hidden, SecretProblem};
use tagpin_domain::image::ImageRef;

/// The credentials of an asker for an image.
#[derive(Debug, Clone)]
pub struct Held {
    /// The credentials to try, in order. The list is never empty: it is anonymous if nothing matches. Credentials that
    /// could not be obtained come last.
    pub candidates: Cow<'static, [Candidate]>,
    /// The result of the search for them.
    pub search: Search,
}

/// The result of the search for the credentials of an asker. It holds no names, so that the search costs no
/// allocation; the names are those of the asker and of the candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Search {
    /// Nothing is known about it.
    #[default]
    Unknown,
    /// The asker names no pull secret.
    NoneNamed,
    /// The pull secrets of the namespace may not be read.
    NotReadable,
    /// None of the pull secrets that the asker names has a credential for the image.
    NoneMatches,
    /// One of the pull secrets cannot be used, and the others have no credential for the image.
    Unusable {
        /// Index of the name in the asker's list.
        secret: usize,
        /// The problem of the pull secret.
        problem: SecretProblem,
    },
    /// There is a credential; the last one is named.
    Found,
}

/// Finds the credentials that an asker holds for an image.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// Returns the credentials. Secrets are read until the deadline; a secret that cannot be used is skipped, as the
    /// kubelet does.
    async fn candidates(&self, asker: &Asker, image: &ImageRef, deadline: Instant) -> Held;

    /// Returns the same credentials if no secret has to be read for it. The profile is that of the image's registry, from
    /// the configuration that the credentials come from.
    fn at_hand(&self, asker: &Asker, image: &ImageRef, profile: &RegistryProfile) -> Option<Held>;
}

impl Held {
    /// Returns the fact with the names of this asker's credentials, if the registry showed nothing to them.
    #[must_use]
    pub fn tell(&self, fact: Fact, asker: &Asker) -> Fact {
        let told = |hidden: &Hidden| self.search.told(hidden, asker, &self.candidates);
        match &fact {
            Fact::MissingOrPrivate(hidden) => Fact::MissingOrPrivate(told(hidden)),
            Fact::AccessDenied(hidden) => Fact::AccessDenied(told(hidden)),
            _ => fact,
        }
    }
}

impl Search {
    /// Returns the circumstances of an answer for this asker, whose credentials these are.
    pub(crate) fn told(self, hidden: &Hidden, asker: &Asker, candidates: &[Candidate]) -> Hidden {
        Hidden { with: self.in_words(asker, candidates), cloud: hidden.cloud }
    }

    fn in_words(self, asker: &Asker, candidates: &[Candidate]) -> AskedWith {
        let named = || asker.secrets.names().iter().filter(|name| !name.is_empty()).cloned().collect();
        match self {
            Self::Unknown => AskedWith::Unknown,
            Self::NoneNamed => AskedWith::NoneNamed,
            Self::NotReadable => {
                AskedWith::NotReadable { namespace: asker.namespace.as_str().into(), named: named() }
            }
            Self::NoneMatches => AskedWith::NoneMatches(named()),
            Self::Unusable { secret, problem } => {
                let name = asker.secrets.names().get(secret);
                name.map_or(AskedWith::Unknown, |name| AskedWith::Unusable {
                    secret: name.as_str().into(),
                    problem,
                })
            }
            Self::Found => match candidates.iter().rfind(|found| found.credential.is_secret()) {
                Some(Candidate { source: Source::PullSecret(name), .. }) => {
                    AskedWith::Secret(name.as_str().into())
                }
                Some(Candidate { source: Source::Configuration(entry), .. }) => {
                    AskedWith::Entry(entry.as_str().into())
                }
                _ => AskedWith::Unknown,
            },
        }
    }
}

/// Holds these credentials, with nothing known about the search for them.
impl<C: Into<Cow<'static, [Candidate]>>> From<C> for Held {
    fn from(candidates: C) -> Self {
        Self { candidates: candidates.into(), search: Search::Unknown }
    }
}
