//! Cache of what registries answered. It decides how long an answer is valid, who may share it, and which digest is
//! reported as last known when a registry does not answer.
//!
//! * An answer is kept under the credentials that got it. A caller with other credentials asks the registry again.
//! * A caller may say since when an answer counts. It gets no answer that was asked for before, and joins no look-up
//!   that started before. If the registry gives no newer answer in time, the earlier digest is the last known one.
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
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::DefaultLifecycle;
use tokio::time::{Instant, timeout_at};

use self::entry::{Asked, CachedFact, Known, LAST_KNOWN};
use crate::Lookup;
use crate::credential::{Candidate, CredentialId};
use crate::credentials::provider::{Credentials, Held, Search};
use crate::limit::{PER_HOST, shared_name};
use crate::observe::{AnsweredBy, Event, Observer};
use crate::profile::endpoint::{Profiles, RegistryProfile};
use crate::sharing::flight::{Flights, NoPermit};
use crate::sharing::permits::Permits;
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::{Fact, LastKnown, Unavailable};
use tagpin_domain::image::ImageRef;
use tagpin_review::{Resolve, Seeds};

mod entry;

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
const PER_NAMESPACE_AND_HOST: usize = PER_HOST / 2;
/// Maximum number of look-ups in flight from one namespace to all registries together: less than the places that
/// registries have which tagpin does not know.
const PER_NAMESPACE: usize = 24;
/// Maximum number of look-ups in flight or waiting for a permit, for one registry, for all registries that tagpin does
/// not know together, and in all.
const FLIGHTS: (usize, usize, usize) = (256, 512, 1024);

/// Caches the answers of the look-up that it decorates.
pub struct Cache<L> {
    inner: Arc<L>,
    memory: Arc<Memory>,
    /// Held while an entry is replaced, so that an older answer never replaces a newer one.
    replacing: Arc<Mutex<()>>,
    flights: Flights<Key, Arc<CachedFact>, 4>,
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
    search: Search,
}

/// Keyed with a random hash, so that whoever chooses the names cannot foresee collisions.
type Memory = quick_cache::sync::Cache<Key, Arc<CachedFact>, Weight, RandomState>;

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
        let (per_host, unknown, all) = FLIGHTS;
        let each = [PER_NAMESPACE_AND_HOST, PER_NAMESPACE, per_host, unknown];
        let flights = Flights::new(Permits::new(each, all));
        let replacing = Arc::default();
        Self { inner: Arc::new(inner), memory: Arc::new(memory), replacing, flights, around }
    }

    /// Returns the number of entries and their size in bytes, after dropping those that are of no more use.
    #[must_use]
    pub fn held(&self) -> (u64, u64) {
        let now = Instant::now();
        self.memory.retain(|_, answer| answer.is_of_use(now));
        (self.memory.len() as u64, self.memory.weight())
    }

    /// Returns the cached fact, if it is still valid and was asked for since that time.
    fn recall(&self, question: Question<'_>, since: Option<Instant>, now: Instant) -> Option<Fact> {
        let entry = self.memory.get(&question)?;
        let answer = entry.valid(since, now)?;
        self.around.observer.observe(&Event::Answered(AnsweredBy::Memory));
        Some(answer.tell(question, || self.seed(question), now))
    }

    /// Returns the digest that tagpin's own pins hold for the tag.
    fn seed(&self, question: Question<'_>) -> Option<LastKnown> {
        let known = self.around.seeds.last_known(question.image, question.asker, (self.around.now)());
        known.filter(|known| known.age <= LAST_KNOWN)
    }

    async fn ask(
        &self,
        question: Question<'_>,
        since: Option<Instant>,
        profile: &RegistryProfile,
        deadline: Instant,
    ) -> Result<Option<Arc<CachedFact>>, NoPermit> {
        let known = || self.memory.get(&question)?.valid(since, Instant::now()).cloned();
        let key = question.key();
        let start = || {
            let (inner, memory, key) = (Arc::clone(&self.inner), Arc::clone(&self.memory), key.clone());
            let (image, candidates) = (question.image.clone(), question.candidates.to_vec());
            let (replacing, at, ttl) = (Arc::clone(&self.replacing), Instant::now(), profile.tag_ttl);
            async move {
                let deadline = Instant::now() + BUDGET;
                let fact = timeout_at(deadline, inner.look_up(&image, &candidates, deadline)).await;
                let fact = fact.unwrap_or(Fact::unavailable(Unavailable::Timeout));
                let _replacing = replacing.lock();
                let (earlier, now) = (memory.get(&key), Instant::now());
                let asked = Asked { fact, candidates: &candidates, at, ttl };
                let answer = Arc::new(CachedFact::new(asked, earlier.as_ref(), now));
                let newest = earlier.is_none_or(|earlier| answer.is_newer_than(&earlier));
                if newest && answer.is_of_use(now) && candidates.len() <= CREDENTIALS {
                    memory.insert(key, Arc::clone(&answer));
                }
                answer
            }
        };
        let host = question.image.domain();
        let namespace = &question.asker.namespace;
        // A caller that waits for one name holds a permit of the names before it. One slow host must not hold those of
        // the namespace.
        let who = format!("{namespace} {host}");
        let names = [who.as_str(), namespace, host, shared_name(host, profile)];
        self.flights.join_before(Some(deadline), names, key.clone(), since, known, start).await
    }
}

#[async_trait]
impl<L: Lookup + 'static> Resolve for Cache<L> {
    fn remembered(
        &self,
        image: &ImageRef,
        asker: &Asker,
        since: Option<Instant>,
        now: Instant,
    ) -> Option<Fact> {
        let Around { credentials, profiles, .. } = &self.around;
        let profile = profiles.profile(image.domain());
        if profile.offline {
            return None;
        }
        let held = credentials.at_hand(asker, image, &profile)?;
        self.recall(Question::new(image, asker, &held), since, now)
    }

    fn entry(&self, image: &ImageRef) -> Option<Arc<str>> {
        self.around.profiles.profile(image.domain()).entry.clone()
    }

    async fn resolve(
        &self,
        image: &ImageRef,
        asker: &Asker,
        since: Option<Instant>,
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
        if let Some(fact) = self.recall(question, since, Instant::now()) {
            return fact;
        }
        let cause = match timeout_at(deadline, self.ask(question, since, &profile, deadline)).await {
            Ok(Ok(Some(answer))) => {
                observer.observe(&Event::Answered(AnsweredBy::Registry));
                return answer.tell(question, || self.seed(question), Instant::now());
            }
            // The look-up panicked: for the caller this is the same as an unreadable answer.
            Ok(Ok(None)) => return Fact::unavailable(Unavailable::Unreadable),
            // The registry was not asked, so it is not to blame.
            Ok(Err(NoPermit)) => Unavailable::Busy,
            Err(_) => Unavailable::Timeout,
        };
        observer.observe(&Event::Answered(AnsweredBy::Deadline));
        let entry = self.memory.get(&question);
        let known = entry.as_ref().map_or(&Known::Nothing, |entry| entry.known());
        let last_known = known.last(|| self.seed(question), Instant::now());
        Fact::Unavailable { cause, retry_after: None, last_known }
    }
}

impl<'a> Question<'a> {
    fn new(image: &'a ImageRef, asker: &'a Asker, held: &'a Held) -> Self {
        Self { image, asker, candidates: &held.candidates, search: held.search }
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

/// Measures an entry in bytes.
#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Key, Arc<CachedFact>> for Weight {
    fn weight(&self, key: &Key, answer: &Arc<CachedFact>) -> u64 {
        let Tag { repository, tag, seen_by } = &*key.0;
        (HELD + repository.len() + tag.len() + size_of_val(&**seen_by) + answer.more_bytes()) as u64
    }
}
