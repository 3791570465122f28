//! The client: asks the endpoints of a registry, with each credential in turn, which digest a tag names.
//!
//! It caches no answers, finds no credentials and limits nobody; caches and limits are decorators. It trusts the
//! registry for which digest a tag names, and for nothing else.

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use tokio::time::Instant;
use tracing::Instrument;

use crate::Lookup;
use crate::credential::Candidate;
use crate::observe::{Event, Method, Observer, Purpose, Step};
use crate::profile::endpoint::{Endpoint, Identity, Profiles, RegistryProfile, ResolveFrom};
use crate::protocol::classify::{self, Missing};
use crate::protocol::confirm::Confirmations;
use crate::protocol::hedge::first_present;
use crate::protocol::manifest;
use crate::protocol::reply::{Question, Reply};
use crate::protocol::session::Session;
use crate::protocol::tag_list::{self, TagList};
use crate::protocol::tags::{self, Listing, Pages, Tags};
use crate::protocol::token::Tokens;
use crate::wire::health::{Health, Host, RestingHost};
use crate::wire::redirect::Route;
use crate::wire::transport::Transport;
use tagpin_domain::fact::{Fact, Hidden, Unavailable};
use tagpin_domain::image::ImageRef;

/// Asks registries. Cheap to clone: clones share connections, tokens and what they know of the health of hosts.
#[derive(Clone)]
pub struct Client {
    parts: Arc<Parts>,
}

struct Parts {
    transport: Arc<Transport>,
    profiles: Arc<dyn Profiles>,
    observer: Arc<dyn Observer>,
    health: Health,
    tokens: Tokens,
    pages: Pages,
    confirmations: Confirmations,
}

impl Client {
    /// Creates a client without connections.
    #[must_use]
    pub fn new(
        transport: impl Into<Arc<Transport>>,
        profiles: Arc<dyn Profiles>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let transport = transport.into();
        let (tokens, pages, confirmations) = (Tokens::new(), Pages::new(), Confirmations::new());
        let health = Health::default();
        let parts = Parts { transport, profiles, observer, health, tokens, pages, confirmations };
        Self { parts: Arc::new(parts) }
    }

    /// Returns the hosts that are not asked for a while because they failed.
    #[must_use]
    pub fn resting(&self) -> Vec<RestingHost> {
        self.parts.health.resting(Instant::now())
    }

    /// Returns true if the first host that would be asked about the image is not asked now.
    pub(crate) fn rests(&self, image: &ImageRef) -> bool {
        let profile = self.profile(image);
        profile.authorities().next().is_some_and(|first| {
            let network = self.parts.profiles.network();
            let host = Host::new(first.root(), first.root(), network.proxy_for(first.root()));
            self.parts.health.rests(&host, Instant::now())
        })
    }

    /// Returns the page of tags that one of these credentials saw a moment ago, if that is known.
    pub(crate) fn known_tags(&self, image: &ImageRef, candidates: &[Candidate]) -> Option<Option<Tags>> {
        self.parts.pages.get(image.repository(), candidates)
    }

    /// Returns the profile of the image's registry.
    pub(crate) fn profile(&self, image: &ImageRef) -> Arc<RegistryProfile> {
        self.parts.profiles.profile(image.domain())
    }

    /// Returns a session for each endpoint that may say which digest a tag names, and for each credential that it may
    /// see.
    pub(crate) fn sessions<'a>(
        &'a self,
        profile: &'a RegistryProfile,
        image: &'a ImageRef,
        candidates: &'a [Candidate],
        deadline: Instant,
    ) -> impl Iterator<Item = Session<'a>> {
        let target = Target { parts: &self.parts, profile, image, tag: "" };
        let session = move |endpoint: &'a Endpoint| {
            endpoint_candidates(endpoint, candidates)
                .iter()
                .map(move |candidate| target.session(endpoint, candidate, deadline))
        };
        profile.authorities().filter(|_| !profile.offline).flat_map(session)
    }

    /// Asks one endpoint in a task of its own. The task goes on when another endpoint has answered, so that a host that
    /// is late for everybody is known to be.
    fn ask_beside_others(
        &self,
        profile: &Arc<RegistryProfile>,
        image: &ImageRef,
        candidates: &[Candidate],
        index: usize,
        deadline: Instant,
    ) -> impl Future<Output = Fact> + Send + use<> {
        let (parts, profile) = (Arc::clone(&self.parts), Arc::clone(profile));
        let (image, candidates) = (image.clone(), candidates.to_vec());
        let task = async move {
            let tag = image.effective_tag().unwrap_or_default();
            let target = Target { parts: &parts, profile: &profile, image: &image, tag };
            let mut endpoints = profile.authorities();
            let left = profile.authorities().count().saturating_sub(index);
            match endpoints.nth(index) {
                Some(endpoint) => target.ask_in_turn(endpoint, &candidates, left, deadline).await,
                None => Fact::unavailable(Unavailable::Dns),
            }
        };
        // A task that panicked gave no readable answer.
        let unreadable = |_| Fact::unavailable(Unavailable::Unreadable);
        tokio::spawn(task.in_current_span()).map(move |done| done.unwrap_or_else(unreadable))
    }

    /// Lists every tag of the repository, from the first endpoint and credential that lists them. It may take ten
    /// pages, so it is for people only.
    ///
    /// # Errors
    /// Returns the fact that the registry answered instead.
    pub async fn list_tags(
        &self,
        image: &ImageRef,
        candidates: &[Candidate],
        deadline: Instant,
    ) -> Result<TagList, Fact> {
        let profile = self.parts.profiles.profile(image.domain());
        if profile.offline {
            return Err(Fact::Offline);
        }
        let target = Target { parts: &self.parts, profile: &profile, image, tag: "" };
        let mut instead = Fact::unavailable(Unavailable::Dns);
        for endpoint in profile.authorities() {
            let mut heaviest = None;
            for candidate in endpoint_candidates(endpoint, candidates).iter() {
                let mut session = target.session(endpoint, candidate, deadline);
                let fact = match tag_list::list_all(&mut session, candidate).await {
                    Ok(list) => return Ok(list),
                    Err(fact) => fact,
                };
                let weight = weight(&fact);
                if heaviest.as_ref().is_none_or(|(known, _)| weight.is_none() || *known <= weight) {
                    heaviest = Some((weight, fact));
                }
                if weight.is_none() {
                    break;
                }
            }
            instead = heaviest.map_or(instead, |(_, fact)| fact);
        }
        Err(instead)
    }

    /// Returns one page of the repository's tags, from the first endpoint and credential that gives one.
    pub(crate) async fn tags(
        &self,
        image: &ImageRef,
        candidates: &[Candidate],
        deadline: Instant,
    ) -> Option<Tags> {
        let profile = self.parts.profiles.profile(image.domain());
        if profile.offline {
            return None;
        }
        let target = Target { parts: &self.parts, profile: &profile, image, tag: "" };
        let repository = image.repository();
        for endpoint in profile.authorities() {
            for candidate in endpoint_candidates(endpoint, candidates).iter() {
                let mut session = target.session(endpoint, candidate, deadline);
                let listing = tags::list(&mut session).await;
                // A mirror lists the same for every asker.
                let seen_by = match endpoint.identity {
                    Identity::Asker => std::slice::from_ref(candidate),
                    Identity::Anonymous | Identity::Own(_) => candidates,
                };
                let seen = seen_by.iter().map(|by| self.parts.pages.put(repository, by, &listing));
                if let Some(tags) = seen.fold(None, Option::or) {
                    return Some(tags);
                }
            }
        }
        None
    }
}

impl Lookup for Client {
    async fn look_up(&self, image: &ImageRef, candidates: &[Candidate], deadline: Instant) -> Fact {
        if let Some(digest) = image.digest() {
            return Fact::Present(digest.clone());
        }
        let Some(tag) = image.effective_tag() else {
            return Fact::unavailable(Unavailable::Unreadable);
        };
        let profile = self.parts.profiles.profile(image.domain());
        if profile.offline {
            return Fact::Offline;
        }
        let count = profile.authorities().count();
        let found = match profile.authorities().next() {
            Some(only) if count == 1 => {
                let target = Target { parts: &self.parts, profile: &profile, image, tag };
                vec![target.ask_in_turn(only, candidates, 1, deadline).await]
            }
            _ => {
                let ask = |index| self.ask_beside_others(&profile, image, candidates, index, deadline);
                match first_present(count, profile.head_start, ask).await {
                    Ok(present) => return present,
                    Err(facts) => facts,
                }
            }
        };
        conclude(profile.resolve_from, found)
    }
}

/// One tag of one repository.
#[derive(Clone, Copy)]
struct Target<'a> {
    parts: &'a Parts,
    profile: &'a RegistryProfile,
    image: &'a ImageRef,
    tag: &'a str,
}

impl<'a> Target<'a> {
    /// Asks this endpoint, which is one of `left` that are still to be asked. It gets its share of the time, so that a
    /// dead mirror leaves some for the next.
    async fn ask_in_turn(
        &self,
        endpoint: &'a Endpoint,
        candidates: &[Candidate],
        left: usize,
        deadline: Instant,
    ) -> Fact {
        let now = Instant::now();
        let share = deadline.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX).max(1);
        let fact = self.ask_endpoint(endpoint, candidates, now + share).await;
        let step = Step::Concluded { endpoint: endpoint.root(), fact: &fact };
        self.parts.observer.observe(&Event::Step { registry: &self.profile.label, step });
        fact
    }

    async fn ask_endpoint(
        &self,
        endpoint: &'a Endpoint,
        candidates: &[Candidate],
        deadline: Instant,
    ) -> Fact {
        let candidates = endpoint_candidates(endpoint, candidates);
        let mut best: Option<Fact> = None;
        for candidate in candidates.iter() {
            let mut fact = self.ask_as(endpoint, candidate, deadline).await;
            if let (Fact::CredentialsRejected { .. }, Some(cloud)) = (&fact, &candidate.cloud)
                && let Some(fresh) = cloud.renewed(candidate.id, deadline).await
            {
                fact = self.ask_as(endpoint, &fresh, deadline).await;
            }
            let Some(weight) = weight(&fact) else {
                return fact;
            };
            // Of two equal facts the later one is kept, because it names the secret that was rejected last.
            if best.as_ref().and_then(self::weight).is_none_or(|known| known <= weight) {
                best = Some(fact);
            }
        }
        best.unwrap_or_else(|| Fact::MissingOrPrivate(Hidden::default()))
    }

    async fn ask_as(&self, endpoint: &Endpoint, candidate: &Candidate, deadline: Instant) -> Fact {
        let mut session = self.session(endpoint, candidate, deadline);
        match self.ask_with(&mut session, candidate).await {
            Fact::Present(digest) => {
                let confirmations = &self.parts.confirmations;
                confirmations.confirm(self.profile, &mut session, self.tag, digest).await
            }
            other => other,
        }
    }

    fn session<'b>(&self, endpoint: &'b Endpoint, candidate: &'b Candidate, deadline: Instant) -> Session<'b>
    where
        'a: 'b,
    {
        let route = Route {
            transport: &self.parts.transport,
            profiles: &*self.parts.profiles,
            observer: &*self.parts.observer,
            health: &self.parts.health,
            label: &self.profile.label,
            registry: self.image.domain(),
            repository: self.image.repository(),
            entry: self.profile.entry.as_ref(),
            endpoint,
        };
        Session::new(route, &self.parts.tokens, candidate, self.image.path(), deadline)
    }

    /// Asks with HEAD, and with GET if the response to HEAD does not tell.
    async fn ask_with(&self, session: &mut Session<'_>, candidate: &Candidate) -> Fact {
        let url = session.url(&["manifests", self.tag]);
        let mut question = Question {
            purpose: Purpose::Manifest,
            method: Method::Head,
            url,
            accept: Some(manifest::ACCEPT),
            limit: manifest::BODY,
        };
        let head = match session.ask(&question).await {
            Ok(reply) => reply,
            Err(refusal) => return classify::refusal(&refusal, candidate),
        };
        match head.answer.status {
            200 => {
                if let Some(fact) = manifest::of_head(&head.answer) {
                    return fact;
                }
            }
            // GET would be answered alike.
            401 | 408 | 429 | 500 | 502..=599 => return classify::reply(&head, candidate),
            100..=399 => return classify::reply(&head, candidate),
            // The registry may not support HEAD, and the body of an error tells more than its status.
            _ => {}
        }
        question.method = Method::Get;
        match session.ask(&question).await {
            Err(refusal) => classify::refusal(&refusal, candidate),
            Ok(get) if get.answer.status == 200 => manifest::of_body(&get.answer),
            Ok(get) if get.answer.status == 404 || classify::may_mean_missing(&get.answer) => {
                self.what_is_missing(session, &get, candidate).await
            }
            Ok(get) => classify::reply(&get, candidate),
        }
    }

    async fn what_is_missing(&self, session: &mut Session<'_>, get: &Reply, candidate: &Candidate) -> Fact {
        match classify::missing(&get.answer) {
            Missing::Repository => return Fact::RepositoryMissing,
            Missing::Tag => return Fact::TagExpired,
            Missing::NotForUs => return Fact::unavailable(Unavailable::Unreadable),
            Missing::Either => {}
        }
        let definite = get.answer.status == 404;
        let listing = tags::list(session).await;
        self.parts.pages.put(self.image.repository(), candidate, &listing);
        match listing {
            Listing::NoRepository => Fact::RepositoryMissing,
            // The tag was pushed a moment ago, or is not served to tagpin: no proof that it is missing.
            Listing::Tags(tags) if tags.iter().any(|tag| tag == self.tag) => {
                Fact::unavailable(Unavailable::Unreadable)
            }
            Listing::Tags(_) => Fact::TagMissing,
            Listing::Unknown if definite => Fact::TagMissing,
            Listing::Unknown => classify::reply(get, candidate),
        }
    }
}

/// Returns the credentials that an endpoint may see.
fn endpoint_candidates<'a>(endpoint: &'a Endpoint, askers: &'a [Candidate]) -> &'a [Candidate] {
    match &endpoint.identity {
        Identity::Asker => askers,
        Identity::Anonymous => Candidate::only_anonymous(),
        Identity::Own(candidate) => std::slice::from_ref(&**candidate),
    }
}

/// Returns how much a fact about one credential says about the next one: none if it is final, otherwise a greater
/// number for a stronger fact. A tag that one credential cannot find may exist for another; the kubelet tries them
/// all.
const fn weight(fact: &Fact) -> Option<u8> {
    match fact {
        Fact::CredentialsRejected { .. } => Some(0),
        Fact::MissingOrPrivate(_) => Some(1),
        Fact::RepositoryMissing => Some(2),
        Fact::AccessDenied(_) => Some(3),
        Fact::TagMissing | Fact::TagExpired => Some(4),
        _ => None,
    }
}

/// Combines the facts of the endpoints when none of them found the tag.
fn conclude(resolve_from: ResolveFrom, facts: Vec<Fact>) -> Fact {
    let nowhere = Fact::unavailable(Unavailable::Dns);
    if resolve_from != ResolveFrom::MirrorsOnly {
        // The registry itself was asked last, and it decides.
        return facts.into_iter().next_back().unwrap_or(nowhere);
    }
    let missing = |fact: &Fact| matches!(fact, Fact::TagMissing | Fact::TagExpired | Fact::RepositoryMissing);
    let mut tag_missing = false;
    let mut decided = None;
    for fact in facts {
        if !missing(&fact) {
            // An endpoint that may have the tag gave no answer.
            return fact;
        }
        tag_missing |= fact != Fact::RepositoryMissing;
        decided = Some(if tag_missing { Fact::TagMissing } else { Fact::RepositoryMissing });
    }
    decided.unwrap_or(nowhere)
}
