//! What registries said a moment ago. It decides for how long an answer counts, who may share it, and what was last
//! known when no answer comes.
//!
//! * An answer is kept under the credentials that got it: who holds others, or none, asks for himself.
//! * Who waits longer than he can gets "no answer in time" and what was last known; the question goes on and its
//!   answer is there for the next.
//! * Last known is what a registry itself said to these credentials, at most [`LAST_KNOWN`] ago; else, where a registry
//!   has said nothing definite in that time, what our own pins on pods remember. A definite "there is no such tag" (or:
//!   it is nothing that can run) ends it: an outage does not bring a deleted tag back.

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
use crate::credential::{Candidate, CredentialId, Credentials, Source};
use crate::endpoint::Profiles;
use crate::flight::Flights;
use crate::limit::{LONGEST, Limit, PER_HOST};
use crate::slots::Slots;
use crate::tally::{AnsweredBy, Tally};
use tagpin_domain::asker::Asker;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::{Class, Fact, LastKnown, Unavailable};
use tagpin_domain::image::ImageRef;
use tagpin_review::{Resolve, Seeds};

/// How long "missing", "you may not" and "no answer" count: a push followed by an apply must work.
const NEGATIVE: Duration = Duration::from_secs(10);
/// A registry that limits us without saying for how long.
const UNSAID: Duration = Duration::from_secs(30);
/// How long a digest is remembered for outages.
pub const LAST_KNOWN: Duration = Duration::from_secs(168 * 60 * 60);
/// What one question may take, whoever waits for it.
const BUDGET: Duration = Duration::from_secs(10);
/// Bytes of all answers together.
const CAPACITY: u64 = 16 * 1024 * 1024;
/// Bytes of what holds one answer, its names not counted (measured: 530 for one with names of 45 bytes).
const HELD: usize = 600;
/// Credentials of a question whose answer is kept: they are in its key, and whoever writes pull secrets chooses how many.
const CREDENTIALS: usize = 64;
/// Questions under way of one namespace to one registry, where others find places too.
const PER_NAMESPACE: usize = PER_HOST / 2;
/// Questions under way or waiting for a place at one registry, and in all.
const FLIGHTS: (usize, usize) = (256, 1024);

/// Remembers what it decorates.
pub struct Cache<L> {
    inner: Arc<L>,
    memory: Arc<Memory>,
    flights: Flights<Key, Arc<Answer>, 2>,
    around: Around,
}

/// What a cache needs around it.
#[derive(Clone)]
pub struct Around {
    /// Which credentials an asker has.
    pub credentials: Arc<dyn Credentials>,
    /// Which registries are offline.
    pub profiles: Arc<dyn Profiles>,
    /// What our own pins remember.
    pub seeds: Arc<dyn Seeds>,
    /// The clock that the age of seeds is measured with.
    pub now: fn() -> Timestamp,
    /// Who counts.
    pub tally: Arc<dyn Tally>,
}

/// One tag, as seen with certain credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key(Arc<Tag>);

#[derive(Debug, PartialEq, Eq)]
struct Tag {
    repository: Box<str>,
    tag: Box<str>,
    seen_by: Box<[CredentialId]>,
}

/// The same, as somebody asks for it: most questions are answered from memory, and leave no key.
#[derive(Debug, Clone, Copy)]
struct Question<'a> {
    image: &'a ImageRef,
    asker: &'a Asker,
    candidates: &'a [Candidate],
}

/// What a registry said, and what is known since.
#[derive(Debug)]
struct Answer {
    fact: Fact,
    /// Which of the credentials was rejected: for others who hold it, it has another name.
    rejected: Option<usize>,
    /// Until when nobody asks again.
    until: Instant,
    known: Known,
}

/// What is known of a tag when no answer comes.
#[derive(Debug, Clone)]
enum Known {
    /// Nothing: no registry has said anything definite yet.
    Nothing,
    /// It named this digest then.
    Digest(Digest, Instant),
    /// It was not there then, or nothing that can run.
    Gone(Instant),
}

/// By a hash that who chooses the names can not foresee.
type Memory = quick_cache::sync::Cache<Key, Arc<Answer>, Weight, RandomState>;

impl<L> Cache<Limit<L>> {
    /// The labels of the hosts that are left alone now because they failed, one for each host.
    #[must_use]
    pub fn resting(&self) -> Vec<Arc<str>> {
        let profile = |host: Box<str>| Arc::clone(&self.around.profiles.profile(&host).label);
        self.inner.resting().into_iter().map(profile).collect()
    }
}

impl<L: Lookup + 'static> Cache<L> {
    /// An empty cache.
    #[must_use]
    pub fn new(inner: L, around: Around) -> Self {
        Self::with_capacity(inner, around, CAPACITY)
    }

    /// An empty cache of so many bytes.
    #[must_use]
    pub fn with_capacity(inner: L, around: Around, bytes: u64) -> Self {
        let answers = usize::try_from(bytes).unwrap_or(usize::MAX) / HELD;
        let memory = Memory::with(answers, bytes, Weight, RandomState::new(), DefaultLifecycle::default());
        let (per_host, all) = FLIGHTS;
        let flights = Flights::new(Slots::new([PER_NAMESPACE, per_host], all));
        Self { inner: Arc::new(inner), memory: Arc::new(memory), flights, around }
    }

    /// How many answers are held, and their bytes. Those that are of no use to anybody any more are dropped first.
    #[must_use]
    pub fn held(&self) -> (u64, u64) {
        let now = Instant::now();
        self.memory.retain(|_, answer| answer.is_of_use(now));
        (self.memory.len() as u64, self.memory.weight())
    }

    /// What is in memory and still counts.
    fn recall(&self, question: Question<'_>, now: Instant) -> Option<Fact> {
        let answer = self.memory.get(&question).filter(|answer| answer.until > now)?;
        self.around.tally.answered(AnsweredBy::Memory);
        Some(answer.tell(question.candidates, || self.seed(question), now))
    }

    /// What our own pins say that the tag named.
    fn seed(&self, question: Question<'_>) -> Option<LastKnown> {
        let known = self.around.seeds.last_known(question.image, question.asker, (self.around.now)());
        known.filter(|known| known.age <= LAST_KNOWN)
    }

    async fn ask(&self, question: Question<'_>, ttl: Duration) -> Option<Arc<Answer>> {
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
                let answer = Arc::new(Answer::new(fact, &candidates, earlier, now, ttl));
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
    fn remembered(&self, image: &ImageRef, asker: &Asker, now: Instant) -> Option<Fact> {
        let Around { credentials, profiles, .. } = &self.around;
        let profile = profiles.profile(image.domain());
        if profile.offline {
            return None;
        }
        let candidates = credentials.at_hand(asker, image, &profile)?;
        self.recall(Question { image, asker, candidates: &candidates }, now)
    }

    async fn resolve(&self, image: &ImageRef, asker: &Asker, deadline: Instant) -> Fact {
        let Around { credentials, profiles, tally, .. } = &self.around;
        let profile = profiles.profile(image.domain());
        if profile.offline {
            tally.answered(AnsweredBy::Offline);
            return Fact::Offline;
        }
        let candidates = match credentials.at_hand(asker, image, &profile) {
            Some(candidates) => candidates,
            None => credentials.candidates(asker, image, deadline).await.into(),
        };
        let question = Question { image, asker, candidates: &candidates };
        if let Some(fact) = self.recall(question, Instant::now()) {
            return fact;
        }
        match timeout_at(deadline, self.ask(question, profile.tag_ttl)).await {
            Ok(Some(answer)) => {
                tally.answered(AnsweredBy::Registry);
                answer.tell(&candidates, || self.seed(question), Instant::now())
            }
            // The question panicked: the same for us as an answer that nobody can read.
            Ok(None) => Fact::unavailable(Unavailable::Unreadable),
            Err(_) => {
                tally.answered(AnsweredBy::Deadline);
                let known = self.memory.get(&question).map_or(Known::Nothing, |answer| answer.known.clone());
                let last_known = known.last(|| self.seed(question), Instant::now());
                Fact::Unavailable { cause: Unavailable::Timeout, retry_after: None, last_known }
            }
        }
    }
}

impl Question<'_> {
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

/// A question finds its key only where both hash alike.
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

impl Answer {
    fn new(fact: Fact, candidates: &[Candidate], earlier: Known, now: Instant, ttl: Duration) -> Self {
        let rejected = match &fact {
            Fact::CredentialsRejected { secret: Some(name) } => {
                candidates.iter().rposition(|candidate| secret_name(candidate) == Some(name))
            }
            _ => None,
        };
        let known = match &fact {
            Fact::Present(digest) => Known::Digest(digest.clone(), now),
            // The digest from before is not what the tag names now.
            Fact::Unavailable { cause: Unavailable::NotByDigest, .. } => Known::Gone(now),
            fact if fact.class() == Class::Definite => Known::Gone(now),
            _ => earlier,
        };
        Self { until: now + lifetime(&fact, ttl), known, rejected, fact }
    }

    /// Worth repeating or remembering.
    fn is_of_use(&self, now: Instant) -> bool {
        self.until > now || self.known.counts(now)
    }

    /// The fact as it is for this asker now.
    fn tell(&self, candidates: &[Candidate], seed: impl FnOnce() -> Option<LastKnown>, now: Instant) -> Fact {
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
                let rejected = self.rejected.and_then(|index| candidates.get(index));
                Fact::CredentialsRejected { secret: rejected.and_then(secret_name).cloned() }
            }
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
            // What was said longer ago is as if nobody had said anything.
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

/// How long a fact is repeated, a digest for `ttl`. A breaker's answer is not: it costs nothing, and the breaker knows better.
fn lifetime(fact: &Fact, ttl: Duration) -> Duration {
    match fact {
        Fact::Present(_) => ttl,
        Fact::RateLimited { retry_after, .. } => {
            retry_after.unwrap_or(UNSAID).clamp(Duration::from_secs(1), LONGEST)
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

/// Bytes of an entry: what it holds, and what holds it.
#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Key, Arc<Answer>> for Weight {
    fn weight(&self, key: &Key, answer: &Arc<Answer>) -> u64 {
        let Tag { repository, tag, seen_by } = &*key.0;
        let fact = match &answer.fact {
            Fact::AddressForbidden { host } => host.len(),
            _ => 0,
        };
        (HELD + repository.len() + tag.len() + size_of_val(&**seen_by) + fact) as u64
    }
}
