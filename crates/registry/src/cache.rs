//! Cache of what registries answered. It decides how long an answer is valid, who may share it, and which digest is
//! reported as last known when a registry does not answer.
//!
//! * An answer is kept under the credentials that got it. A caller with other credentials asks the registry again.
//! * When the deadline of a caller passes, the caller gets a timeout and the last known digest. The look-up goes on,
//!   and the next caller gets its answer.
//! * The last known digest is what the registry answered for these credentials, at most [`LAST_KNOWN`] ago. If the
//!   registry gave no definite answer in that time, it is what tagpin's own pins on pods say. A definite "the tag
//!   does not exist" ends it, so that an outage does not bring a deleted tag back.

use std::hash::{Hash, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use equivalent::Equivalent;
use jiff::Timestamp;
use quick_cache::Weighter;
use quick_cache::sync::DefaultLifecycle;
use tokio::time::{Instant, timeout_at};

use crate::Lookup;
use crate::credential::{Candidate, CredentialId, Source};
use crate::credentials::provider::{Credentials, Held};
use crate::limit::{DEFAULT_RETRY_AFTER, LONGEST, Limit, PER_HOST};
use crate::observe::{AnsweredBy, Event, Observer};
use crate::profile::endpoint::Profiles;
use crate::sharing::flight::Flights;
use crate::sharing::permits::Permits;
use tagpin_domain::asker::Asker;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::{AskedWith, Class, Fact, Hidden, LastKnown, Unavailable};
use tagpin_domain::image::ImageRef;
use tagpin_review::{Resolve, Seeds};

/// Time for which a negative answer is valid. It is short, because a push that is followed by an apply must work.
const NEGATIVE: Duration = Duration::from_secs(10);
/// Maximum age of a digest that is reported as last known.
const LAST_KNOWN: Duration = Duration::from_secs(168 * 60 * 60);
/// Maximum time of one look-up, however many callers wait for it.
const BUDGET: Duration = Duration::from_secs(10);
/// Maximum size of the cache, in bytes.
const CAPACITY: u64 = 16 * 1024 * 1024;
/// Bytes that one entry takes besides its names (measured: 530 for an entry with names of 45 bytes).
const HELD: usize = 600;
/// Maximum number of credentials of a look-up whose answer is cached. The credentials are part of the key, and their
/// number is chosen by whoever writes the pull secrets.
const CREDENTIALS: usize = 64;
/// Maximum number of look-ups in flight from one namespace to one registry, so that other namespaces find permits
/// too.
const PER_NAMESPACE: usize = PER_HOST / 2;
/// Maximum number of look-ups in flight or waiting for a permit, for one registry and in all.
const FLIGHTS: (usize, usize) = (256, 1024);

/// Caches the answers of the look-up that it decorates.
pub struct Cache<L> {
    inner: Arc<L>,
    memory: Arc<Memory>,
    flights: Flights<Key, Arc<CachedFact>, 2>,
    around: Around,
}

/// Dependencies of a cache.
#[derive(Clone)]
pub struct Around {
    /// Finds the credentials of an asker.
    pub credentials: Arc<dyn Credentials>,
    /// Tells which registries are offline.
    pub profiles: Arc<dyn Profiles>,
    /// Tells which digests tagpin's own pins hold.
    pub seeds: Arc<dyn Seeds>,
    /// The clock that the age of seeds is measured with.
    pub now: fn() -> Timestamp,
    /// Receives how each look-up was answered.
    pub observer: Arc<dyn Observer>,
}

/// Key of an entry: a tag, and the credentials with which it was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key(Arc<Tag>);

#[derive(Debug, PartialEq, Eq)]
struct Tag {
    repository: Box<str>,
    tag: Box<str>,
    seen_by: Box<[CredentialId]>,
}

/// A look-up before it has a key. Most look-ups are answered from the cache and never allocate one.
#[derive(Debug, Clone, Copy)]
struct Question<'a> {
    image: &'a ImageRef,
    asker: &'a Asker,
    candidates: &'a [Candidate],
    /// The candidates in the words of the asker.
    with: &'a AskedWith,
}

/// The answer of a registry, and what remains known of the tag.
#[derive(Debug)]
struct CachedFact {
    fact: Fact,
    /// Index of the credential that the registry rejected. Other holders of the same credential know it by another
    /// name.
    rejected: Option<usize>,
    /// The time until which the answer is valid.
    until: Instant,
    known: Known,
}

/// The last definite answer about a tag, used when a registry does not answer.
#[derive(Debug, Clone)]
enum Known {
    /// No registry has given a definite answer.
    Nothing,
    /// The tag named this digest at this time.
    Digest(Digest, Instant),
    /// The tag did not exist at this time, or named nothing that can run.
    Gone(Instant),
}

/// Keyed with a random hash, so that whoever chooses the names cannot foresee collisions.
type Memory = quick_cache::sync::Cache<Key, Arc<CachedFact>, Weight, RandomState>;

impl<L> Cache<Limit<L>> {
    /// Returns the labels of the hosts that are not asked for a while because they failed, one label for each host.
    #[must_use]
    pub fn resting(&self) -> Vec<Arc<str>> {
        let profile = |host: Box<str>| Arc::clone(&self.around.profiles.profile(&host).label);
        self.inner.resting().into_iter().map(profile).collect()
    }
}

impl<L: Lookup + 'static> Cache<L> {
    /// Creates an empty cache.
    #[must_use]
    pub fn new(inner: L, around: Around) -> Self {
        Self::with_capacity(inner, around, CAPACITY)
    }

    /// Creates an empty cache of at most this many bytes.
    #[must_use]
    pub fn with_capacity(inner: L, around: Around, bytes: u64) -> Self {
        let answers = usize::try_from(bytes).unwrap_or(usize::MAX) / HELD;
        let memory = Memory::with(answers, bytes, Weight, RandomState::new(), DefaultLifecycle::default());
        let (per_host, all) = FLIGHTS;
        let flights = Flights::new(Permits::new([PER_NAMESPACE, per_host], all));
        Self { inner: Arc::new(inner), memory: Arc::new(memory), flights, around }
    }

    /// Returns the number of entries and their size in bytes, after dropping those that are of no more use.
    #[must_use]
    pub fn held(&self) -> (u64, u64) {
        let now = Instant::now();
        self.memory.retain(|_, answer| answer.is_of_use(now));
        (self.memory.len() as u64, self.memory.weight())
    }

    /// Returns the cached fact, if it is still valid.
    fn recall(&self, question: Question<'_>, now: Instant) -> Option<Fact> {
        let answer = self.memory.get(&question).filter(|answer| answer.until > now)?;
        self.around.observer.observe(&Event::Answered(AnsweredBy::Memory));
        Some(answer.tell(question, || self.seed(question), now))
    }

    /// Returns the digest that tagpin's own pins hold for the tag.
    fn seed(&self, question: Question<'_>) -> Option<LastKnown> {
        let known = self.around.seeds.last_known(question.image, question.asker, (self.around.now)());
        known.filter(|known| known.age <= LAST_KNOWN)
    }

    async fn ask(&self, question: Question<'_>, ttl: Duration) -> Option<Arc<CachedFact>> {
        let known = || self.memory.get(&question).filter(|answer| answer.until > Instant::now());
        let key = question.key();
        let start = || {
            let (inner, memory, key) = (Arc::clone(&self.inner), Arc::clone(&self.memory), key.clone());
            let (image, candidates) = (question.image.clone(), question.candidates.to_vec());
            async move {
                let deadline = Instant::now() + BUDGET;
                let fact = timeout_at(deadline, inner.look_up(&image, &candidates, deadline)).await;
                let fact = fact.unwrap_or(Fact::unavailable(Unavailable::Timeout));
                let earlier = memory.get(&key).map_or(Known::Nothing, |answer| answer.known.clone());
                let now = Instant::now();
                let answer = Arc::new(CachedFact::new(fact, &candidates, earlier, now, ttl));
                if answer.is_of_use(now) && candidates.len() <= CREDENTIALS {
                    memory.insert(key, Arc::clone(&answer));
                }
                answer
            }
        };
        let host = question.image.domain();
        let who = format!("{} {host}", question.asker.namespace);
        self.flights.join([&who, host], key.clone(), known, start).await
    }
}

#[async_trait]
impl<L: Lookup + 'static> Resolve for Cache<L> {
    fn remembered(
        &self,
        image: &ImageRef,
        asker: &Asker,
        _since: Option<Instant>,
        now: Instant,
    ) -> Option<Fact> {
        let Around { credentials, profiles, .. } = &self.around;
        let profile = profiles.profile(image.domain());
        if profile.offline {
            return None;
        }
        let held = credentials.at_hand(asker, image, &profile)?;
        self.recall(Question::new(image, asker, &held), now)
    }

    fn entry(&self, image: &ImageRef) -> Option<Arc<str>> {
        self.around.profiles.profile(image.domain()).entry.clone()
    }

    async fn resolve(
        &self,
        image: &ImageRef,
        asker: &Asker,
        _since: Option<Instant>,
        deadline: Instant,
    ) -> Fact {
        let Around { credentials, profiles, observer, .. } = &self.around;
        let profile = profiles.profile(image.domain());
        if profile.offline {
            observer.observe(&Event::Answered(AnsweredBy::Offline));
            return Fact::Offline;
        }
        let held = match credentials.at_hand(asker, image, &profile) {
            Some(held) => held,
            None => credentials.candidates(asker, image, deadline).await,
        };
        let question = Question::new(image, asker, &held);
        if let Some(fact) = self.recall(question, Instant::now()) {
            return fact;
        }
        match timeout_at(deadline, self.ask(question, profile.tag_ttl)).await {
            Ok(Some(answer)) => {
                observer.observe(&Event::Answered(AnsweredBy::Registry));
                answer.tell(question, || self.seed(question), Instant::now())
            }
            // The look-up panicked: for the caller this is the same as an unreadable answer.
            Ok(None) => Fact::unavailable(Unavailable::Unreadable),
            Err(_) => {
                observer.observe(&Event::Answered(AnsweredBy::Deadline));
                let known = self.memory.get(&question).map_or(Known::Nothing, |answer| answer.known.clone());
                let last_known = known.last(|| self.seed(question), Instant::now());
                Fact::Unavailable { cause: Unavailable::Timeout, retry_after: None, last_known }
            }
        }
    }
}

impl<'a> Question<'a> {
    fn new(image: &'a ImageRef, asker: &'a Asker, held: &'a Held) -> Self {
        Self { image, asker, candidates: &held.candidates, with: &held.with }
    }

    fn tag(&self) -> &str {
        self.image.effective_tag().unwrap_or_default()
    }

    fn seen_by(&self) -> impl ExactSizeIterator<Item = CredentialId> {
        self.candidates.iter().map(|candidate| candidate.id)
    }

    fn key(&self) -> Key {
        Key(Arc::new(Tag {
            repository: self.image.repository().into(),
            tag: self.tag().into(),
            seen_by: self.seen_by().collect(),
        }))
    }
}

impl Hash for Question<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(self.image.repository(), self.tag(), self.seen_by(), state);
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Tag { repository, tag, seen_by } = &*self.0;
        hash(repository, tag, seen_by.iter().copied(), state);
    }
}

/// Hashes a key. [`Question`] and [`Key`] must hash alike, or an entry is never found.
fn hash(repository: &str, tag: &str, seen_by: impl Iterator<Item = CredentialId>, state: &mut impl Hasher) {
    repository.hash(state);
    tag.hash(state);
    seen_by.for_each(|by| by.hash(state));
}

impl Equivalent<Key> for Question<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        let Tag { repository, tag, seen_by } = &*key.0;
        self.image.repository() == &**repository
            && self.tag() == &**tag
            && self.seen_by().eq(seen_by.iter().copied())
    }
}

impl CachedFact {
    fn new(fact: Fact, candidates: &[Candidate], earlier: Known, now: Instant, ttl: Duration) -> Self {
        let rejected = match &fact {
            Fact::CredentialsRejected { secret: Some(name) } => {
                candidates.iter().rposition(|candidate| secret_name(candidate) == Some(name))
            }
            _ => None,
        };
        let known = match &fact {
            Fact::Present(digest) => Known::Digest(digest.clone(), now),
            // The registry has the tag, but the earlier digest is not what it names now.
            Fact::Unavailable { cause: Unavailable::NotByDigest, .. } => Known::Gone(now),
            fact if fact.class() == Class::Definite => Known::Gone(now),
            _ => earlier,
        };
        Self { until: now + lifetime(&fact, ttl), known, rejected, fact }
    }

    /// Returns true if the answer is still valid or the last known digest may still be reported.
    fn is_of_use(&self, now: Instant) -> bool {
        self.until > now || self.known.counts(now)
    }

    /// Returns the fact for this asker at this time.
    fn tell(&self, to: Question<'_>, seed: impl FnOnce() -> Option<LastKnown>, now: Instant) -> Fact {
        let hidden = |hidden: &Hidden| Hidden { with: to.with.clone(), cloud: hidden.cloud };
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
    fn last(&self, seed: impl FnOnce() -> Option<LastKnown>, now: Instant) -> Option<LastKnown> {
        match self {
            Self::Digest(digest, at) if self.counts(now) => {
                Some(LastKnown { digest: digest.clone(), age: now.saturating_duration_since(*at) })
            }
            Self::Gone(_) if self.counts(now) => None,
            // An answer that is too old is treated as no answer.
            Self::Digest(..) | Self::Gone(_) | Self::Nothing => seed(),
        }
    }

    fn counts(&self, now: Instant) -> bool {
        match self {
            Self::Nothing => false,
            Self::Digest(_, at) | Self::Gone(at) => now.saturating_duration_since(*at) <= LAST_KNOWN,
        }
    }
}

/// Returns the time for which a fact is valid; a digest is valid for `ttl`. The answer of a breaker is not cached: it
/// costs nothing, and the breaker knows when it ends.
fn lifetime(fact: &Fact, ttl: Duration) -> Duration {
    match fact {
        Fact::Present(_) => ttl,
        Fact::RateLimited { retry_after, .. } => {
            retry_after.unwrap_or(DEFAULT_RETRY_AFTER).clamp(Duration::from_secs(1), LONGEST)
        }
        Fact::Unavailable { cause: Unavailable::BreakerOpen, .. } | Fact::Offline => Duration::ZERO,
        _ => NEGATIVE,
    }
}

const fn secret_name(candidate: &Candidate) -> Option<&String> {
    match &candidate.source {
        Source::PullSecret(name) => Some(name),
        _ => None,
    }
}

/// Measures an entry in bytes.
#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Key, Arc<CachedFact>> for Weight {
    fn weight(&self, key: &Key, answer: &Arc<CachedFact>) -> u64 {
        let Tag { repository, tag, seen_by } = &*key.0;
        let fact = match &answer.fact {
            Fact::AddressForbidden(host) => size_of_val(&**host) + host.authority.len() + host.registry.len(),
            _ => 0,
        };
        (HELD + repository.len() + tag.len() + size_of_val(&**seen_by) + fact) as u64
    }
}
