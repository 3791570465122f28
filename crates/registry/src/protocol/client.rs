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
use crate::profile::endpoint::{Endpoint, Identity, Profiles, RegistryProfile};
use crate::protocol::askers::{absent, endpoint_candidates};
use crate::protocol::classify;
use crate::protocol::combine::{beside_absent, conclude, name_cloud, weight};
use crate::protocol::confirm::Confirmations;
use crate::protocol::hedge::first_found;
use crate::protocol::manifest::{self, Head};
use crate::protocol::missing::{Missing, Shown, may_be_missing};
use crate::protocol::reference::Reference;
use crate::protocol::reply::Question;
use crate::protocol::session::Session;
use crate::protocol::tag_list::{self, TagList};
use crate::protocol::tags::{self, Pages, Tags};
use crate::protocol::token::Tokens;
use crate::wire::health::{Health, Host, RestingHost};
use crate::wire::redirect::Route;
use crate::wire::transport::Transport;
use tagpin_domain::fact::{Fact, Hidden, Unavailable};
use tagpin_domain::image::ImageRef;

/// The credentials that may list tags for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The asker's own: a credential of the operator would show to one tenant what belongs to another.
    Asker,
    /// Anyone's, also the operator's for a mirror: for a person who holds them.
    Anyone,
}

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
    shown: Shown,
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
        let parts = Parts {
            transport,
            profiles,
            observer,
            health: Health::default(),
            tokens: Tokens::new(),
            pages: Pages::new(),
            shown: Shown::new(),
            confirmations: Confirmations::new(),
        };
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
        let target = Target { parts: &self.parts, profile, image };
        let session = move |endpoint: &'a Endpoint| {
            endpoint_candidates(endpoint, candidates)
                .iter()
                .map(move |candidate| target.session(endpoint, candidate, deadline))
        };
        profile.authorities().filter(|_| !profile.offline).flat_map(session)
    }

    /// Asks the endpoints in order, the next one beside one that is slow.
    async fn ask(
        &self,
        profile: &Arc<RegistryProfile>,
        image: &ImageRef,
        candidates: &[Candidate],
        deadline: Instant,
    ) -> Fact {
        let count = profile.authorities().count();
        let found = match profile.authorities().next() {
            Some(only) if count == 1 => {
                let target = Target { parts: &self.parts, profile, image };
                vec![target.ask_in_turn(only, candidates, 1, deadline).await]
            }
            _ => {
                let ask = |index| self.ask_beside_others(profile, image, candidates, index, deadline);
                match first_found(count, profile.head_start, ask).await {
                    Ok(found) => return found,
                    Err(facts) => facts,
                }
            }
        };
        name_cloud(conclude(profile.resolve_from, found), profile, image.domain())
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
            let target = Target { parts: &parts, profile: &profile, image: &image };
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
        let target = Target { parts: &self.parts, profile: &profile, image };
        let mut instead = Fact::unavailable(Unavailable::Dns);
        for endpoint in profile.authorities() {
            let mut heaviest = None;
            for candidate in endpoint_candidates(endpoint, candidates).iter() {
                let mut session = target.session(endpoint, candidate, deadline);
                let not_found = profile.not_found(endpoint, image.path());
                let fact = match tag_list::list_all(&mut session, not_found).await {
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
            instead = heaviest.map_or(instead, |(_, fact)| beside_absent(fact, absent(endpoint, candidates)));
        }
        Err(name_cloud(instead, &profile, image.domain()))
    }

    /// Asks if the registry serves the digest that the image names. Reviews do not ask, because a reference with a
    /// digest is decided without the registry; this is for people.
    pub async fn look_up_digest(
        &self,
        image: &ImageRef,
        candidates: &[Candidate],
        deadline: Instant,
    ) -> Fact {
        if image.digest().is_none() {
            return Fact::unavailable(Unavailable::Unreadable);
        }
        let profile = self.profile(image);
        if profile.offline {
            return Fact::Offline;
        }
        self.ask(&profile, image, candidates, deadline).await
    }

    /// Returns one page of the repository's tags, from the first endpoint and credential that gives one.
    pub(crate) async fn tags(
        &self,
        image: &ImageRef,
        candidates: &[Candidate],
        whose: Whose,
        deadline: Instant,
    ) -> Option<Tags> {
        let profile = self.parts.profiles.profile(image.domain());
        if profile.offline {
            return None;
        }
        let target = Target { parts: &self.parts, profile: &profile, image };
        let repository = image.repository();
        for endpoint in profile.authorities() {
            let asking = match (&endpoint.identity, whose) {
                (Identity::Own(_), Whose::Asker) => Candidate::only_anonymous(),
                _ => endpoint_candidates(endpoint, candidates),
            };
            for candidate in asking {
                let mut session = target.session(endpoint, candidate, deadline);
                let listing = tags::list(&mut session).await;
                if listing.shows() {
                    self.parts.shown.put(&session);
                }
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
        let profile = self.profile(image);
        if profile.offline {
            return Fact::Offline;
        }
        self.ask(&profile, image, candidates, deadline).await
    }
}

/// One repository of one registry.
#[derive(Clone, Copy)]
struct Target<'a> {
    parts: &'a Parts,
    profile: &'a RegistryProfile,
    image: &'a ImageRef,
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
        let Some(reference) = Reference::of(self.image) else {
            return Fact::unavailable(Unavailable::Unreadable);
        };
        let now = Instant::now();
        let share = deadline.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX).max(1);
        let fact = self.ask_endpoint(endpoint, reference, candidates, now + share).await;
        let step = Step::Concluded { endpoint: endpoint.root(), fact: &fact };
        self.parts.observer.observe(&Event::Step { registry: &self.profile.label, step });
        fact
    }

    async fn ask_endpoint(
        &self,
        endpoint: &'a Endpoint,
        reference: Reference<'_>,
        askers: &[Candidate],
        deadline: Instant,
    ) -> Fact {
        let candidates = endpoint_candidates(endpoint, askers);
        let mut best: Option<Fact> = None;
        for candidate in candidates.iter() {
            let mut fact = self.ask_as(endpoint, reference, candidate, deadline).await;
            if let (Fact::CredentialsRejected { .. }, Some(cloud)) = (&fact, &candidate.cloud)
                && let Some(fresh) = cloud.renewed(candidate.id, deadline).await
            {
                fact = self.ask_as(endpoint, reference, &fresh, deadline).await;
            }
            let Some(weight) = weight(&fact) else {
                return fact;
            };
            // Of two equal facts the later one is kept, because it names the secret that was rejected last.
            if best.as_ref().and_then(self::weight).is_none_or(|known| known <= weight) {
                best = Some(fact);
            }
        }
        let best = best.unwrap_or_else(|| Fact::MissingOrPrivate(Hidden::default()));
        beside_absent(best, absent(endpoint, askers))
    }

    async fn ask_as(
        &self,
        endpoint: &Endpoint,
        reference: Reference<'_>,
        candidate: &Candidate,
        deadline: Instant,
    ) -> Fact {
        let mut session = self.session(endpoint, candidate, deadline);
        let Head { fact, is_single } = self.ask_with(&mut session, reference).await;
        if matches!(fact, Fact::Present(_) | Fact::Artifact { .. } | Fact::Broken(_)) {
            self.parts.shown.put(&session);
        }
        match (fact, reference) {
            (Fact::Present(digest), Reference::Tag(tag)) => {
                let confirmations = &self.parts.confirmations;
                confirmations.confirm(self.profile, &mut session, tag, digest, is_single).await
            }
            (fact, _) => fact,
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
    async fn ask_with(&self, session: &mut Session<'_>, reference: Reference<'_>) -> Head {
        let told = |fact| Head { fact, is_single: false };
        let url = session.url(&["manifests", reference.as_str()]);
        let mut question = Question {
            purpose: Purpose::Manifest,
            method: Method::Head,
            url,
            accept: Some(manifest::ACCEPT),
            limit: manifest::BODY,
        };
        let head = match session.ask(&question).await {
            Ok(reply) => reply,
            Err(refusal) => return told(classify::refusal(&refusal, &session.asked_as())),
        };
        match head.answer.status {
            200 => {
                if let Some(head) = reference.of_head(&head.answer) {
                    return head;
                }
            }
            // GET would be answered alike.
            401 | 408 | 429 | 500 | 502..=599 | 100..=399 => {
                return told(classify::reply(&head, &session.asked_as()));
            }
            // The registry may not support HEAD, and the body of an error tells more than its status.
            _ => {}
        }
        question.method = Method::Get;
        told(self.ask_for_body(session, &question, reference).await)
    }

    async fn ask_for_body(
        &self,
        session: &mut Session<'_>,
        question: &Question,
        reference: Reference<'_>,
    ) -> Fact {
        match session.ask(question).await {
            Err(refusal) => classify::refusal(&refusal, &session.asked_as()),
            Ok(get) if get.answer.status == 200 => reference.of_body(&get.answer),
            Ok(get) if may_be_missing(&get.answer) => {
                let missing = Missing {
                    reference,
                    repository: self.image.repository(),
                    not_found: self.profile.not_found(session.endpoint(), self.image.path()),
                    pages: &self.parts.pages,
                    shown: &self.parts.shown,
                };
                missing.conclude(session, &get).await
            }
            Ok(get) => classify::reply(&get, &session.asked_as()),
        }
    }
}
