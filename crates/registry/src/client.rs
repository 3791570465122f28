//! The client: asks the endpoints of a registry, with each credential in turn, which digest a tag has.
//!
//! It keeps no answers, finds no credentials and limits nobody: caches and limits are decorators. It
//! trusts the registry for which digest a tag names, and nothing else.

use std::sync::{Arc, LazyLock};

use tokio::time::Instant;

use crate::Lookup;
use crate::classify::{self, Missing};
use crate::confirm::Confirmations;
use crate::credential::Candidate;
use crate::endpoint::{Endpoint, Identity, Profiles, RegistryProfile, ResolveFrom};
use crate::manifest;
use crate::observe::{Event, Method, Observer, Purpose};
use crate::redirect::Route;
use crate::session::{Question, Reply, Session};
use crate::tag_list::{self, TagList};
use crate::tags::{self, Listing, Pages, Tags};
use crate::token::Tokens;
use crate::transport::Transport;
use tagpin_domain::fact::{Fact, Unavailable};
use tagpin_domain::image::ImageRef;

/// Asks registries. Cheap to clone: clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    parts: Arc<Parts>,
}

struct Parts {
    transport: Arc<Transport>,
    profiles: Arc<dyn Profiles>,
    observer: Arc<dyn Observer>,
    tokens: Tokens,
    pages: Pages,
    confirmations: Confirmations,
}

impl Client {
    /// A client without connections yet.
    #[must_use]
    pub fn new(
        transport: impl Into<Arc<Transport>>,
        profiles: Arc<dyn Profiles>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let transport = transport.into();
        let (tokens, pages, confirmations) = (Tokens::new(), Pages::new(), Confirmations::new());
        let parts = Parts { transport, profiles, observer, tokens, pages, confirmations };
        Self { parts: Arc::new(parts) }
    }

    /// The page of tags that one of these credentials has seen a moment ago, if that is known.
    pub(super) fn known_tags(&self, image: &ImageRef, candidates: &[Candidate]) -> Option<Option<Tags>> {
        self.parts.pages.get(image.repository(), candidates)
    }

    /// What is known of the image's registry before it is asked.
    pub(super) fn profile(&self, image: &ImageRef) -> Arc<RegistryProfile> {
        self.parts.profiles.profile(image.domain())
    }

    /// A session with each endpoint that may say what tags name, for each credential that it gets to see.
    pub(super) fn sessions<'a>(
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

    /// Every tag of the repository, from the first endpoint and credential that lists them: for a person, as it may take
    /// ten pages.
    ///
    /// # Errors
    /// What the registry says instead.
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

    /// One page of the repository's tags, from the first endpoint and credential that gives one.
    pub(super) async fn tags(
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
                // What a mirror lists it lists for every asker.
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
        let target = Target { parts: &self.parts, profile: &profile, image, tag };
        target.ask(candidates, deadline).await
    }
}

/// Who shows nothing.
static ANONYMOUS: LazyLock<[Candidate; 1]> = LazyLock::new(|| [Candidate::anonymous()]);

/// One tag of one repository.
#[derive(Clone, Copy)]
struct Target<'a> {
    parts: &'a Parts,
    profile: &'a RegistryProfile,
    image: &'a ImageRef,
    tag: &'a str,
}

impl<'a> Target<'a> {
    /// Asks the endpoints in order, each with its share of the time, so that a dead mirror leaves some for the next.
    async fn ask(&self, candidates: &[Candidate], deadline: Instant) -> Fact {
        let endpoints: Vec<&Endpoint> = self.profile.authorities().collect();
        let mut facts = Vec::with_capacity(endpoints.len());
        let mut left = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
        for endpoint in endpoints {
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / left.max(1);
            left -= 1;
            let fact = self.ask_endpoint(endpoint, candidates, now + share).await;
            self.parts
                .observer
                .observe(&self.profile.label, &Event::Concluded { endpoint: endpoint.root(), fact: &fact });
            if matches!(fact, Fact::Present(_)) {
                return fact;
            }
            facts.push(fact);
        }
        conclude(self.profile.resolve_from, facts)
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
            if let (Fact::CredentialsRejected { .. }, Some(renew)) = (&fact, &candidate.renew)
                && let Some(fresh) = renew.renewed(candidate.id, deadline).await
            {
                fact = self.ask_as(endpoint, &fresh, deadline).await;
            }
            let Some(weight) = weight(&fact) else {
                return fact;
            };
            // Of equal ones the last: it names the secret that was rejected last.
            if best.as_ref().and_then(self::weight).is_none_or(|known| known <= weight) {
                best = Some(fact);
            }
        }
        best.unwrap_or(Fact::MissingOrPrivate)
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
            label: &self.profile.label,
            endpoint,
        };
        Session::new(route, &self.parts.tokens, candidate, self.image.path(), deadline)
    }

    /// HEAD, and GET where HEAD does not say it.
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
            // These say the same to GET.
            401 | 408 | 429 | 500 | 502..=599 => return classify::reply(&head, candidate),
            100..=399 => return classify::reply(&head, candidate),
            // HEAD may be what is not liked; and the body of an error says more than its status.
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
            // Pushed a moment ago, or not given to us: no proof that it is missing.
            Listing::Tags(tags) if tags.iter().any(|tag| tag == self.tag) => {
                Fact::unavailable(Unavailable::Unreadable)
            }
            Listing::Tags(_) => Fact::TagMissing,
            Listing::Unknown if definite => Fact::TagMissing,
            Listing::Unknown => classify::reply(get, candidate),
        }
    }
}

/// Which credentials an endpoint gets to see.
fn endpoint_candidates<'a>(endpoint: &'a Endpoint, askers: &'a [Candidate]) -> &'a [Candidate] {
    match &endpoint.identity {
        Identity::Asker => askers,
        Identity::Anonymous => ANONYMOUS.as_slice(),
        Identity::Own(candidate) => std::slice::from_ref(&**candidate),
    }
}

/// How much a fact about one credential says of what the next one would get: none when it says all there is to say,
/// else the more the heavier. A tag that one credential can not find may be there for another (kubelet tries them all).
const fn weight(fact: &Fact) -> Option<u8> {
    match fact {
        Fact::CredentialsRejected { .. } => Some(0),
        Fact::MissingOrPrivate => Some(1),
        Fact::RepositoryMissing => Some(2),
        Fact::AccessDenied => Some(3),
        Fact::TagMissing | Fact::TagExpired => Some(4),
        _ => None,
    }
}

/// What the endpoints together say, none of them having found the tag.
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
            // Somebody who may know could not say.
            return fact;
        }
        tag_missing |= fact != Fact::RepositoryMissing;
        decided = Some(if tag_missing { Fact::TagMissing } else { Fact::RepositoryMissing });
    }
    decided.unwrap_or(nowhere)
}
