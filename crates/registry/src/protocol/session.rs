//! A session with one endpoint, for one credential and one repository. It authenticates when the registry asks for
//! it, renews a token once, and retries once. The module `classify` interprets the final response.

use std::borrow::Cow;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::credential::{Candidate, Credential, CredentialId};
use crate::observe::{Failure, Method, Purpose, Scheme, Step};
use crate::protocol::challenge::{Bearer, Challenge, Challenges, TokenError};
use crate::protocol::codes;
use crate::protocol::proof::{Own, Proof, basic_header, bearer_header, read_token};
use crate::protocol::reply::{Proved, PullLimit, Question, Refusal, Reply};
use crate::protocol::token::{
    ChallengeKey, RealmError, Token, TokenKey, Tokens, may_see_credential, realm_url, token_form, token_url,
};
use crate::wire::message::{Body, HttpResponse};
use crate::wire::redirect::{Follow, Followed, Request, Route, Unanswered, host_of};
use crate::wire::retry::{WORTH, pause_before_retry};

/// Maximum size of a token service's response, in bytes.
const TOKEN_BODY: usize = 64 * 1024;
/// Maximum time of a response that is retried. A slower one would take as long again.
const QUICK: Duration = Duration::from_secs(1);

/// A session with one endpoint.
pub(crate) struct Session<'a> {
    route: Route<'a>,
    path: &'a str,
    tokens: &'a Tokens,
    candidate: &'a Candidate,
    repository: Cow<'a, str>,
    deadline: Instant,
    /// True once a request has been retried.
    retried: bool,
    /// True once a token has been renewed.
    renewed: bool,
    proof: Option<Proof>,
    pull_limit: Option<PullLimit>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        route: Route<'a>,
        tokens: &'a Tokens,
        candidate: &'a Candidate,
        path: &'a str,
        deadline: Instant,
    ) -> Self {
        let repository = route.endpoint.repository(path);
        Self {
            route,
            path,
            tokens,
            candidate,
            repository,
            deadline,
            retried: false,
            renewed: false,
            proof: None,
            pull_limit: None,
        }
    }

    /// Returns the path of the repository, as the image names it.
    pub(super) const fn path(&self) -> &'a str {
        self.path
    }

    /// Returns the path of the repository at this endpoint.
    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the candidate that asks.
    pub(crate) const fn candidate(&self) -> &'a Candidate {
        self.candidate
    }

    /// Returns the origin of the endpoint and the credential, for which a limit or an answer is valid.
    pub(super) fn scope(&self) -> (String, CredentialId) {
        (self.route.endpoint.root().origin().ascii_serialization(), self.candidate.id)
    }

    /// Returns the number of pulls that the registry allowed last.
    pub(super) const fn pull_limit(&self) -> Option<PullLimit> {
        self.pull_limit
    }

    pub(super) fn observe(&self, step: Step<'_>) {
        self.route.observe(step);
    }

    /// Returns the URL of the repository at this endpoint, followed by these segments:
    /// `…/v2/library/nginx/manifests/1.29`.
    pub(crate) fn url(&self, rest: &[&str]) -> Url {
        let mut url = self.route.endpoint.root().clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(self.repository.split('/')).extend(rest);
        }
        if let Some(namespace) = &self.route.endpoint.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }

    /// Sends a request and authenticates as far as the registry wants it and the credential goes.
    pub(crate) async fn ask(&mut self, question: &Question) -> Result<Reply, Refusal> {
        if self.proof.is_none() {
            self.proof = self.remembered_proof().await?;
        }
        loop {
            let followed = self.send(question).await?;
            let answer = &followed.answer;
            self.pull_limit = PullLimit::of(answer).or(self.pull_limit);
            if codes::token_expired(answer, host_of(&followed.url)) && self.drop_token() {
                self.proof = self.remembered_proof().await?;
                continue;
            }
            if answer.status != 401 {
                return Ok(self.reply(followed, None));
            }
            let challenges = Challenges::parse(answer.headers("www-authenticate"));
            if followed.crossed {
                return self.ask_elsewhere(question, followed, challenges).await;
            }
            let error = challenges.error;
            if !self.worth_another_proof(error) {
                return Ok(self.reply(followed, error));
            }
            let challenge = challenges.preferred(matches!(self.own(), Some(Own::Password(_))));
            self.challenged(challenge.as_ref(), &followed.url);
            let Some(challenge) = challenge else {
                return Ok(self.reply(followed, error));
            };
            self.proof = Some(self.prove(&challenge, &followed.url, false).await?);
            self.tokens.remember(self.challenge_key(), &challenge);
        }
    }

    /// Returns true if another proof may be accepted instead of the one that was not, and forgets that one. A proof
    /// made for this very challenge gets no second chance, unless the registry calls its token invalid. There is one
    /// renewal in all.
    fn worth_another_proof(&mut self, error: Option<TokenError>) -> bool {
        let Some(proof) = self.proof.as_ref() else {
            return true;
        };
        if let Some(key) = &proof.key {
            self.tokens.forget(key);
        }
        let invalid = proof.key.is_some() && error == Some(TokenError::Invalid);
        if self.renewed || !(proof.remembered || invalid) {
            return false;
        }
        self.tokens.forget_challenge(&self.challenge_key());
        self.renewed = true;
        self.proof = None;
        true
    }

    /// Forgets a token that may have expired. Returns false if there is none, or if it has been renewed already.
    fn drop_token(&mut self) -> bool {
        let Some(key) = self.proof.as_ref().and_then(|proof| proof.key.as_ref()) else {
            return false;
        };
        self.tokens.forget(key);
        !std::mem::replace(&mut self.renewed, true)
    }

    fn reply(&self, followed: Followed, token_error: Option<TokenError>) -> Reply {
        let proved = self.proof.as_ref().map_or(Proved::Nothing, |proof| proof.proved);
        Reply { answer: followed.answer, proof: proved, token_error }
    }

    /// Returns the proof that this registry wanted the last time, so that it need not ask again. If the token service
    /// refuses, the registry is asked without a proof first.
    async fn remembered_proof(&self) -> Result<Option<Proof>, Refusal> {
        let Some(challenge) = self.tokens.challenge(&self.challenge_key()) else {
            return Ok(None);
        };
        let root = self.route.endpoint.root();
        match self.prove(&challenge, root, true).await {
            Ok(proof) => Ok(Some(proof)),
            Err(Refusal::Unanswered(unanswered)) => Err(Refusal::Unanswered(unanswered)),
            Err(_) => {
                self.tokens.forget_challenge(&self.challenge_key());
                Ok(None)
            }
        }
    }

    async fn prove(&self, challenge: &Challenge, asked: &Url, remembered: bool) -> Result<Proof, Refusal> {
        match (challenge, self.own()) {
            (Challenge::Basic, Some(Own::Password(header))) => {
                Ok(Proof { header, proved: Proved::Password, key: None, remembered })
            }
            // `Challenges::preferred` never offers this.
            (Challenge::Basic, _) => Err(Refusal::Unreadable),
            // The token is for the registry itself, so no token service has to see it.
            (Challenge::Bearer(_), Some(Own::Registry(token))) => {
                Ok(Proof { header: bearer_header(&token), proved: Proved::Token, key: None, remembered })
            }
            (Challenge::Bearer(bearer), own) => {
                let mut proof = self.token(bearer, asked, own).await?;
                proof.remembered |= remembered;
                Ok(proof)
            }
        }
    }

    /// Returns a token, from the cache or new. The candidate's own secret is sent only to a token service that may
    /// see it.
    async fn token(&self, bearer: &Bearer, asked: &Url, own: Option<Own>) -> Result<Proof, Refusal> {
        let plain_http = self.route.endpoint.plain_http();
        let realm = realm_url(bearer, asked, plain_http).map_err(|_: RealmError| {
            self.observe(Step::RealmRefused);
            Refusal::Unreadable
        })?;
        let own = own.filter(|_| {
            let may = may_see_credential(&realm, asked, &self.route.endpoint.trusted_realms);
            if !may {
                self.observe(Step::Withheld { realm: host_of(&realm) });
            }
            may
        });
        let (credential, proved) = match own {
            Some(_) => (self.candidate.id, Proved::Token),
            None => (CredentialId::of(&Credential::Anonymous), Proved::AnonymousToken),
        };
        let registry = asked.origin().ascii_serialization();
        let url = token_url(realm.clone(), bearer, &self.repository);
        let key = TokenKey { registry, url, credential };
        if let Some(token) = self.tokens.get(&key) {
            return Ok(Proof { header: bearer_header(&token), proved, key: Some(key), remembered: true });
        }
        let token = match &own {
            Some(Own::Identity(identity)) => self.exchanged(&key, realm, bearer, identity).await?,
            Some(Own::Password(header)) => self.given(&key, Some(header)).await?,
            Some(Own::Registry(_)) | None => self.given(&key, None).await?,
        };
        self.tokens.put(key.clone(), &token);
        Ok(Proof { header: bearer_header(&token.value), proved, key: Some(key), remembered: false })
    }

    /// Exchanges an identity token for a token. A service without POST gets it as a password.
    async fn exchanged(
        &self,
        key: &TokenKey,
        realm: Url,
        bearer: &Bearer,
        identity: &SecretString,
    ) -> Result<Token, Refusal> {
        let form = Body::form(token_form(bearer, &self.repository, identity));
        let answer = self.ask_service(realm, Some(&form), None, true).await?;
        if !matches!(answer.status, 404 | 405) {
            return read_token(&answer, true);
        }
        self.given(key, Some(&basic_header("<token>", identity))).await
    }

    async fn given(&self, key: &TokenKey, password: Option<&SecretString>) -> Result<Token, Refusal> {
        let answer = self.ask_service(key.url.clone(), None, password, password.is_some()).await?;
        read_token(&answer, password.is_some())
    }

    async fn ask_service(
        &self,
        url: Url,
        body: Option<&Body>,
        authorization: Option<&SecretString>,
        with_credential: bool,
    ) -> Result<HttpResponse, Refusal> {
        let request = Request {
            purpose: Purpose::Token,
            method: if body.is_some() { Method::Post } else { Method::Get },
            url,
            own: false,
            accept: None,
            body,
            authorization,
            source: with_credential.then_some(&self.candidate.source),
            follow: Follow::SameHost,
            limit: TOKEN_BODY,
        };
        Ok(self.route.follow(&request, self.deadline).await.map_err(Refusal::Unanswered)?.answer)
    }

    /// Asks a host that a redirect led to and that wants a token of its own. It gets an anonymous token and nothing
    /// else.
    async fn ask_elsewhere(
        &self,
        question: &Question,
        followed: Followed,
        challenges: Challenges,
    ) -> Result<Reply, Refusal> {
        let there = followed.url.clone();
        let challenge = challenges.preferred(false);
        self.challenged(challenge.as_ref(), &there);
        let Some(Challenge::Bearer(bearer)) = challenge else {
            return Ok(Reply { answer: followed.answer, proof: Proved::Nothing, token_error: None });
        };
        let proof = self.token(&bearer, &there, None).await?;
        let followed = self.send_once(question, there, Some(&proof)).await.map_err(Refusal::Unanswered)?;
        let token_error = Challenges::parse(followed.answer.headers("www-authenticate")).error;
        Ok(Reply { answer: followed.answer, proof: proof.proved, token_error })
    }

    /// Sends a request, and sends it again if a retry may help and fits into the deadline.
    async fn send(&mut self, question: &Question) -> Result<Followed, Refusal> {
        let url = question.url.clone();
        let start = Instant::now();
        let first = self.send_once(question, url, self.proof.as_ref()).await;
        let quick = start.elapsed() < QUICK;
        let pause = first
            .as_ref()
            .ok()
            .and_then(|followed| pause_before_retry(&followed.answer))
            .filter(|pause| quick && Instant::now() + *pause + WORTH < self.deadline);
        let result = match pause {
            Some(pause) if !self.retried => {
                self.retried = true;
                sleep(pause).await;
                match self.send_once(question, question.url.clone(), self.proof.as_ref()).await {
                    // The first response says more than that the host rests because of it.
                    Err(Unanswered { failure: Failure::Resting, .. }) => first,
                    second => second,
                }
            }
            _ => first,
        };
        result.map_err(Refusal::Unanswered)
    }

    async fn send_once(
        &self,
        question: &Question,
        url: Url,
        proof: Option<&Proof>,
    ) -> Result<Followed, Unanswered> {
        let credential = proof.filter(|proof| proof.proved != Proved::AnonymousToken);
        let request = Request {
            purpose: question.purpose,
            method: question.method,
            own: url == question.url,
            url,
            accept: question.accept,
            body: None,
            authorization: proof.map(|proof| &proof.header),
            source: credential.map(|_| &self.candidate.source),
            follow: Follow::Anywhere,
            limit: question.limit,
        };
        self.route.follow(&request, self.deadline).await
    }

    /// Returns the secret of the candidate.
    fn own(&self) -> Option<Own> {
        Own::of(&self.candidate.credential)
    }

    fn challenge_key(&self) -> ChallengeKey {
        ChallengeKey { root: self.route.endpoint.root().clone(), credential: self.candidate.id }
    }

    fn challenged(&self, challenge: Option<&Challenge>, asked: &Url) {
        let realm = match challenge {
            Some(Challenge::Bearer(bearer)) => asked.join(&bearer.realm).ok(),
            _ => None,
        };
        let scheme = match challenge {
            None => Scheme::Other,
            Some(Challenge::Basic) => Scheme::Basic,
            Some(Challenge::Bearer(_)) => Scheme::Bearer,
        };
        self.observe(Step::Challenged { scheme, realm: realm.as_ref().map(host_of) });
    }
}
