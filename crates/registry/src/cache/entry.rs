//! The entries of the cache: what a registry answered when, how long that is valid, and what remains known of the tag.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::Question;
use crate::credential::{Candidate, Source};
use crate::limit::LONGEST;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::{Class, Fact, Hidden, LastKnown, Unavailable};

/// Time for which a negative answer is valid. It is short, because a push that is followed by an apply must work.
const NEGATIVE: Duration = Duration::from_secs(10);
/// Maximum age of a digest that is reported as last known.
pub(super) const LAST_KNOWN: Duration = Duration::from_secs(168 * 60 * 60);

/// The answer of a registry, and what remains known of the tag.
#[derive(Debug)]
pub(super) struct CachedFact {
    fact: Fact,
    /// Index of the credential that the registry rejected. Other holders of the same credential know it by another
    /// name.
    rejected: Option<usize>,
    /// The time before the first request was sent.
    asked: Instant,
    /// The time until which the answer is valid.
    until: Instant,
    known: Known,
    /// An earlier answer that was valid when the registry could not be asked again. It counts as long as it is valid.
    kept: Option<Arc<Self>>,
}

/// A look-up that has ended.
pub(super) struct Asked<'a> {
    pub(super) fact: Fact,
    pub(super) candidates: &'a [Candidate],
    /// The time before the first request was sent.
    pub(super) at: Instant,
    /// Time for which a digest is valid.
    pub(super) ttl: Duration,
}

/// The last definite answer about a tag, used when a registry does not answer.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// No registry has given a definite answer.
    Nothing,
    /// The tag named this digest at this time.
    Digest { digest: Digest, at: Instant, artifact: bool },
    /// The tag did not exist at this time, or named nothing that can run.
    Gone(Instant),
}

impl CachedFact {
    /// Creates the entry for a look-up that ended now, in place of an earlier entry.
    pub(super) fn new(asked: Asked<'_>, earlier: Option<&Arc<Self>>, now: Instant) -> Self {
        let Asked { fact, candidates, at, ttl } = asked;
        let rejected = match &fact {
            Fact::CredentialsRejected { secret: Some(name) } => {
                candidates.iter().rposition(|candidate| secret_name(candidate) == Some(name))
            }
            _ => None,
        };
        let mut kept = None;
        let known = match &fact {
            Fact::Present(digest) => Known::Digest { digest: digest.clone(), at: now, artifact: false },
            Fact::Artifact { digest, .. } => {
                Known::Digest { digest: digest.clone(), at: now, artifact: true }
            }
            // The registry has the tag, but the earlier digest is not what it names now.
            Fact::Unavailable { cause: Unavailable::NotByDigest, .. } => Known::Gone(now),
            fact if fact.class() == Class::Definite => Known::Gone(now),
            fact => {
                if is_no_answer(fact) {
                    kept = earlier.and_then(|earlier| earlier.answer()).filter(|answer| answer.until > now);
                }
                earlier.map_or(Known::Nothing, |earlier| earlier.known.clone())
            }
        };
        Self { asked: at, until: now + lifetime(&fact, ttl), known, rejected, fact, kept: kept.cloned() }
    }

    /// Returns the entry itself if it holds an answer, or else the earlier answer that it keeps.
    fn answer(self: &Arc<Self>) -> Option<&Arc<Self>> {
        if is_no_answer(&self.fact) { self.kept.as_ref() } else { Some(self) }
    }

    /// Returns what may be told now to a caller who accepts no answer that was asked for before `since`.
    pub(super) fn valid(self: &Arc<Self>, since: Option<Instant>, now: Instant) -> Option<&Arc<Self>> {
        let counts = |entry: &&Arc<Self>| entry.until > now && since.is_none_or(|since| entry.asked >= since);
        self.answer().filter(counts).or_else(|| Some(self).filter(counts))
    }

    /// Returns true if this entry replaces the other, because its registry was asked later.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        self.asked >= other.asked
    }

    /// Returns what remains known of the tag.
    pub(super) const fn known(&self) -> &Known {
        &self.known
    }

    /// Returns the bytes that the entry takes besides itself.
    pub(super) fn more_bytes(&self) -> usize {
        let fact = match &self.fact {
            Fact::AddressForbidden(host) => size_of_val(&**host) + host.authority.len() + host.registry.len(),
            Fact::RealmNotTrusted(realm) => size_of_val(&**realm) + realm.registry.len() + realm.realm.len(),
            _ => 0,
        };
        fact + self.kept.as_ref().map_or(0, |_| size_of::<Self>())
    }

    /// Returns true if the answer is still valid or the last known digest may still be reported.
    pub(super) fn is_of_use(&self, now: Instant) -> bool {
        self.until > now || self.known.counts(now)
    }

    /// Returns the fact for this asker at this time.
    pub(super) fn tell(
        &self,
        to: Question<'_>,
        seed: impl FnOnce() -> Option<LastKnown>,
        now: Instant,
    ) -> Fact {
        let hidden = |hidden: &Hidden| to.search.told(hidden, to.asker, to.candidates);
        let left = Some(self.until.saturating_duration_since(now)).filter(|left| !left.is_zero());
        match &self.fact {
            Fact::RateLimited { .. } => {
                Fact::RateLimited { retry_after: left, last_known: self.known.last(seed, now) }
            }
            Fact::Unavailable { cause, retry_after, .. } => Fact::Unavailable {
                cause: *cause,
                retry_after: left.or(*retry_after),
                last_known: self.known.last(seed, now),
            },
            Fact::CredentialsRejected { .. } => {
                let rejected = self.rejected.and_then(|index| to.candidates.get(index));
                Fact::CredentialsRejected { secret: rejected.and_then(secret_name).cloned() }
            }
            Fact::MissingOrPrivate(shared) => Fact::MissingOrPrivate(hidden(shared)),
            Fact::AccessDenied(shared) => Fact::AccessDenied(hidden(shared)),
            other => other.clone(),
        }
    }
}

impl Known {
    /// Returns the digest that the tag named when that was last known, or that of a pin if no answer is young enough.
    pub(super) fn last(&self, seed: impl FnOnce() -> Option<LastKnown>, now: Instant) -> Option<LastKnown> {
        match self {
            Self::Digest { digest, at, artifact } if self.counts(now) => {
                let age = now.saturating_duration_since(*at);
                Some(LastKnown { digest: digest.clone(), age, artifact: *artifact })
            }
            Self::Gone(_) if self.counts(now) => None,
            // An answer that is too old is treated as no answer.
            Self::Digest { .. } | Self::Gone(_) | Self::Nothing => seed(),
        }
    }

    fn counts(&self, now: Instant) -> bool {
        match self {
            Self::Nothing => false,
            Self::Digest { at, .. } | Self::Gone(at) => now.saturating_duration_since(*at) <= LAST_KNOWN,
        }
    }
}

/// Returns the time for which a fact is valid; a digest is valid for `ttl`. The answers that a
/// host rests and that no permit was free are not cached: they cost nothing, and say nothing about the tag.
fn lifetime(fact: &Fact, ttl: Duration) -> Duration {
    match fact {
        Fact::Present(_) => ttl,
        Fact::RateLimited { retry_after, .. } => {
            retry_after.unwrap_or_default().clamp(Duration::from_secs(1), LONGEST)
        }
        Fact::Unavailable { cause: Unavailable::BreakerOpen | Unavailable::Busy, .. } | Fact::Offline => {
            Duration::ZERO
        }
        _ => NEGATIVE,
    }
}

/// Returns true if the fact says nothing about the tag and its askers.
const fn is_no_answer(fact: &Fact) -> bool {
    matches!(fact, Fact::RateLimited { .. } | Fact::Unavailable { .. })
}

const fn secret_name(candidate: &Candidate) -> Option<&String> {
    match &candidate.source {
        Source::PullSecret(name) => Some(name),
        _ => None,
    }
}
