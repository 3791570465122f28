//! What the parts around the client count: closed words, for metrics. It names no image or secret.

use crate::credentials::cloud::CloudError;

/// Counts.
pub trait Tally: Send + Sync {
    /// A look-up was answered.
    fn answered(&self, by: AnsweredBy);
    /// A registry is not asked for a while.
    fn breaker_opened(&self);
    /// A pull secret was named and not used.
    fn secret_skipped(&self, why: Skipped);
    /// A cloud (`aws`, `gcp`, `azure`) was asked for a credential, and gave one, or why not.
    fn cloud_asked(&self, cloud: &'static str, gave: Result<(), &CloudError>);
}

/// Nobody counts.
impl Tally for () {
    fn answered(&self, _by: AnsweredBy) {}
    fn breaker_opened(&self) {}
    fn secret_skipped(&self, _why: Skipped) {}
    fn cloud_asked(&self, _cloud: &'static str, _gave: Result<(), &CloudError>) {}
}

/// What a look-up cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnsweredBy {
    /// The registry is marked offline: nothing.
    Offline,
    /// An answer that was still fresh.
    Memory,
    /// The registry was asked, by this look-up or by an equal one at the same time.
    Registry,
    /// The deadline passed before the registry answered.
    Deadline,
}

/// Why a pull secret was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skipped {
    /// There is none of that name.
    NotFound,
    /// We may not read it.
    Forbidden,
    /// The name is none that a secret can have.
    InvalidName,
    /// It is not of a type that holds docker credentials, or is empty.
    WrongType,
    /// Its content is not a docker configuration.
    Malformed,
    /// The API server did not give it in time.
    Unavailable,
    /// The pod names more secrets than are read.
    TooMany,
    /// It holds an identity token, which nodes do not use; what else it holds counts.
    IdentityToken,
}

impl AnsweredBy {
    /// The stable word for metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Memory => "memory",
            Self::Registry => "registry",
            Self::Deadline => "deadline",
        }
    }
}

impl Skipped {
    /// The stable word for metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Forbidden => "forbidden",
            Self::InvalidName => "invalid-name",
            Self::WrongType => "wrong-type",
            Self::Malformed => "malformed",
            Self::Unavailable => "unavailable",
            Self::TooMany => "too-many",
            Self::IdentityToken => "identity-token",
        }
    }
}
