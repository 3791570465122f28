//! Suggestions: the version that a tag names now, and tags that resemble a missing one. Each is found once per
//! repository and credentials and then remembered for a while, even if there is none. [`resemblance`] compares the
//! tags.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use tokio::time::{Instant, timeout_at};

use crate::Lookup;
use crate::credential::{Candidate, CredentialId, Source};
use crate::credentials::provider::Credentials;
use crate::limit::Gate;
use crate::protocol::client::{Client, Whose};
use crate::protocol::tags::Tags;
use crate::sharing::expiring::Expiring;
use crate::sharing::flight::Flights;
use crate::sharing::permits::{Permit, Permits};
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::Fact;
use tagpin_domain::image::ImageRef;
use tagpin_review::{Effort, Named, Suggest, Version};

mod resemblance;

/// Time for which a suggestion is valid, even if there is none.
const LIFE: Duration = Duration::from_secs(5 * 60);
/// Maximum time to find a suggestion in a review, however many callers wait for it.
pub const BUDGET: Duration = Duration::from_millis(700);
/// Maximum number of versions that are looked up, and of those in flight at once.
const HEADS: (usize, usize) = (8, 4);
/// Maximum number of tags that are suggested.
const SIMILAR: usize = 3;
/// Maximum number of versions that are remembered.
const KNOWN: usize = 1024;
/// Maximum number of searches in flight, from one namespace, for one registry and in all. A search has a place at the
/// gate, so one namespace must leave places to others.
const FLIGHTS: ([usize; 2], usize) = ([4, 8], 32);

/// Finds suggestions with a client.
pub struct Suggestions {
    client: Client,
    credentials: Arc<dyn Credentials>,
    gate: Arc<Gate>,
    budget: Duration,
    whose: Whose,
    versions: Arc<Expiring<Key, Named>>,
    version_flights: Flights<Key, Named, 2>,
    tag_flights: Flights<Key, Option<Tags>, 2>,
}

/// A repository, or one tag of it, and the credentials with which it was looked up.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key(Arc<(String, Box<[CredentialId]>)>);

impl Key {
    fn new(name: String, candidates: &[Candidate]) -> Self {
        Self(Arc::new((name, candidates.iter().map(|candidate| candidate.id).collect())))
    }
}

impl Suggestions {
    /// Creates suggestions from a client and the credentials of askers, through the gate that look-ups of the same
    /// registries share. A search may take as long as the budget ([`BUDGET`] in reviews), however many callers wait
    /// for it. The operator's credentials are not used: they would show to one tenant the tags of another.
    #[must_use]
    pub fn new(client: Client, credentials: Arc<dyn Credentials>, gate: Arc<Gate>, budget: Duration) -> Self {
        Self::with(client, credentials, gate, budget, Whose::Asker)
    }

    /// Creates suggestions for the person at the command line, who holds all the credentials that are used.
    #[must_use]
    pub fn for_person(client: Client, credentials: Arc<dyn Credentials>, budget: Duration) -> Self {
        Self::with(client, credentials, Arc::default(), budget, Whose::Anyone)
    }

    fn with(
        client: Client,
        credentials: Arc<dyn Credentials>,
        gate: Arc<Gate>,
        budget: Duration,
        whose: Whose,
    ) -> Self {
        let flights = || Permits::new(FLIGHTS.0, FLIGHTS.1);
        Self {
            client,
            credentials,
            gate,
            budget,
            whose,
            versions: Arc::new(Expiring::new(KNOWN)),
            version_flights: Flights::new(flights()),
            tag_flights: Flights::new(flights()),
        }
    }

    /// Returns the credentials of the asker. Without effort, only those that need no request are used.
    async fn candidates(&self, image: &ImageRef, asker: &Asker, effort: Effort) -> Vec<Candidate> {
        let deadline = match effort {
            Effort::Cached => Instant::now(),
            Effort::Until(deadline) => deadline,
        };
        let mut candidates =
            self.credentials.candidates(asker, image, deadline).await.candidates.into_owned();
        if self.whose == Whose::Asker {
            candidates.retain(|candidate| !matches!(candidate.source, Source::Configuration(_)));
            if candidates.is_empty() {
                return Candidate::only_anonymous().to_vec();
            }
        }
        candidates
    }
}

#[async_trait]
impl Suggest for Suggestions {
    async fn version_of(&self, image: &ImageRef, asker: &Asker, effort: Effort) -> Named {
        let Some(tag) = image.effective_tag() else { return Named::default() };
        let candidates = self.candidates(image, asker, effort).await;
        let key = Key::new(format!("{}:{tag}", image.repository()), &candidates);
        let known = || self.versions.get(&key, Instant::now());
        if let Some(known) = known() {
            return known;
        }
        let Effort::Until(deadline) = effort else { return Named::default() };
        if self.client.rests(image) {
            return Named::default();
        }
        let start = || {
            let (client, versions, key) = (self.client.clone(), Arc::clone(&self.versions), key.clone());
            let (image, budget, whose) = (image.clone(), self.budget, self.whose);
            let gate = Arc::clone(&self.gate);
            async move {
                let deadline = Instant::now() + budget;
                let Some(_place) = place(&gate, &client, &image, deadline).await else {
                    return Named::default();
                };
                let search = find_version(&client, &image, &candidates, whose, deadline);
                let found = timeout_at(deadline, search).await.unwrap_or_default();
                let now = Instant::now();
                versions.put(key, found.clone(), now + LIFE);
                found
            }
        };
        let flight =
            self.version_flights.join([&asker.namespace, image.domain()], key.clone(), None, known, start);
        timeout_at(deadline, flight).await.ok().flatten().unwrap_or_default()
    }

    async fn similar_tags(&self, image: &ImageRef, asker: &Asker, effort: Effort) -> Vec<String> {
        let Some(tag) = image.effective_tag() else { return Vec::new() };
        let candidates = self.candidates(image, asker, effort).await;
        let known = || self.client.known_tags(image, &candidates);
        let tags = match (known(), effort) {
            (Some(tags), _) => tags,
            (None, Effort::Cached) => None,
            (None, Effort::Until(deadline)) => {
                if self.client.rests(image) {
                    return Vec::new();
                }
                let start = || {
                    let (client, gate, whose) = (self.client.clone(), Arc::clone(&self.gate), self.whose);
                    let (image, candidates) = (image.clone(), candidates.clone());
                    async move {
                        let deadline = Instant::now() + BUDGET;
                        let _place = place(&gate, &client, &image, deadline).await?;
                        client.tags(&image, &candidates, whose, deadline).await
                    }
                };
                let key = Key::new(image.repository().to_owned(), &candidates);
                let flight =
                    self.tag_flights.join([&asker.namespace, image.domain()], key, None, known, start);
                timeout_at(deadline, flight).await.ok().flatten().flatten()
            }
        };
        tags.map_or_else(Vec::new, |tags| resemblance::similar(tag, &tags, SIMILAR))
    }
}

/// Waits for a permit to ask the registry of the image. Returns none if no permit is free before the deadline.
async fn place(gate: &Gate, client: &Client, image: &ImageRef, deadline: Instant) -> Option<Permit> {
    gate.place(image.domain(), &client.profile(image), deadline).await
}

/// Finds the most specific version that names the same digest as the tag.
async fn find_version(
    client: &Client,
    image: &ImageRef,
    candidates: &[Candidate],
    whose: Whose,
    deadline: Instant,
) -> Named {
    let Some(tag) = image.effective_tag() else { return Named::default() };
    let tags = async {
        match client.known_tags(image, candidates) {
            Some(known) => known,
            None => client.tags(image, candidates, whose, deadline).await,
        }
    };
    let (fact, tags) = tokio::join!(client.look_up(image, candidates, deadline), tags);
    let shown = fact.shows_repository().or_else(|| tags.is_some().then_some(true));
    let (Fact::Present(digest), Some(tags)) = (fact, tags) else { return Named { version: None, shown } };
    let versions = resemblance::versions(tag, &tags, HEADS.0);
    let facts = stream::iter(versions).map(|version| async move {
        let named = ImageRef::parse(&format!("{}:{version}", image.repository())).ok()?;
        let fact = client.look_up(&named, candidates, deadline).await;
        Some((version, fact))
    });
    let same = facts.buffered(HEADS.1).filter_map(|answer| {
        let found = answer.filter(|(_, fact)| *fact == Fact::Present(digest.clone()));
        std::future::ready(found)
    });
    let version = std::pin::pin!(same).next().await.map(|(tag, _)| Version { tag, digest: digest.clone() });
    Named { version, shown }
}
