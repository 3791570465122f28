//! A session with one endpoint, for one credential and one repository. It authenticates when the registry asks for
//! it, renews a token once, and retries once. The module `classify` interprets the final response.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use url::Url;

use crate::credential::{Candidate, Credential, CredentialId};
use crate::observe::{Failure, Scheme, Step};
use crate::profile::endpoint::Endpoint;
use crate::protocol::challenge::{Challenge, Challenges, TokenError};
use crate::protocol::codes;
use crate::protocol::proof::{Own, Proof, bearer_header};
use crate::protocol::reply::{AskedAs, Proved, PullLimit, Question, Refusal, Reply};
use crate::protocol::token::{ChallengeKey, Tokens};
use crate::wire::redirect::{Follow, Followed, Request, Route, Unanswered, host_of};
use crate::wire::retry::{WORTH, pause_before_retry};
use tagpin_domain::fact::Realm;

mod token_service;

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
    /// The host of the token service that the credential was kept from.
    withheld: OnceLock<String>,
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
            withheld: OnceLock::new(),
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

    /// Returns the identity under which the registry was asked.
    pub(crate) fn asked_as(&self) -> AskedAs<'a> {
        let realm = |realm: &String| Realm {
            registry: self.route.registry.to_owned(),
            realm: realm.clone(),
            entry: self.route.entry.cloned(),
        };
        AskedAs { candidate: self.candidate, withheld: self.withheld.get().map(realm) }
    }

    /// Returns the endpoint.
    pub(super) const fn endpoint(&self) -> &'a Endpoint {
        self.route.endpoint
    }

    /// Returns the repository with the origin of the endpoint, and the credential, for which an answer is valid.
    pub(super) fn place(&self) -> (String, CredentialId) {
        let (origin, credential) = self.scope();
        (format!("{origin}/{}", self.repository), credential)
    }

    /// Returns the origin of the endpoint and the credential, for which a limit is valid.
    pub(super) fn scope(&self) -> (String, CredentialId) {
        (self.route.endpoint.root().origin().ascii_serialization(), self.candidate.id)
    }

    /// Returns the number of pulls that the registry allowed last.
    pub(super) const fn pull_limit(&self) -> Option<PullLimit> {
        self.pull_limit
    }

    /// Returns the time until the deadline.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
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
            let challenge =
                challenges.choose(self.has_password(), |bearer| self.may_see(bearer, &followed.url));
            self.challenged(challenge.as_ref(), &followed.url);
            let Some(challenge) = challenge else {
                return Ok(self.reply(followed, error));
            };
            let (proof, met) = self.meet(challenge, challenges.basic, &followed.url).await?;
            self.proof = Some(proof);
            self.tokens.remember(self.challenge_key(), &met);
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
        Reply { answer: followed.answer, proof: proved, crossed: followed.crossed, token_error }
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

    /// Meets a challenge, and returns the proof and the challenge that was met. If the registry takes passwords itself
    /// too, it gets the one that its token service does not take (goharbor/harbor#3114, go-gitea/gitea#31002).
    async fn meet(
        &self,
        challenge: Challenge,
        takes_passwords: bool,
        asked: &Url,
    ) -> Result<(Proof, Challenge), Refusal> {
        match self.prove(&challenge, asked, false).await {
            Err(refusal) if takes_passwords && self.has_password() && refusal.is_about_the_token() => {
                self.challenged(Some(&Challenge::Basic), asked);
                Ok((self.prove(&Challenge::Basic, asked, false).await?, Challenge::Basic))
            }
            proof => Ok((proof?, challenge)),
        }
    }

    async fn prove(&self, challenge: &Challenge, asked: &Url, remembered: bool) -> Result<Proof, Refusal> {
        match (challenge, self.own()) {
            (Challenge::Basic, Some(Own::Password(header))) => {
                Ok(Proof { header, proved: Proved::Password, key: None, remembered })
            }
            // `Challenges::choose` never offers this.
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

    /// Asks a host that a redirect led to and that wants a token of its own. It gets an anonymous token and nothing
    /// else.
    async fn ask_elsewhere(
        &self,
        question: &Question,
        followed: Followed,
        challenges: Challenges,
    ) -> Result<Reply, Refusal> {
        let there = followed.url.clone();
        let challenge = challenges.choose(false, |_| false);
        self.challenged(challenge.as_ref(), &there);
        let Some(Challenge::Bearer(bearer)) = challenge else {
            let (answer, proof) = (followed.answer, Proved::Nothing);
            return Ok(Reply { answer, proof, crossed: true, token_error: None });
        };
        let proof = self.token(&bearer, &there, None).await?;
        let followed = self.send_once(question, there, Some(&proof)).await.map_err(Refusal::Unanswered)?;
        let token_error = Challenges::parse(followed.answer.headers("www-authenticate")).error;
        Ok(Reply { answer: followed.answer, proof: proof.proved, crossed: true, token_error })
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

    fn has_password(&self) -> bool {
        matches!(self.candidate.credential, Credential::Basic { .. })
    }

    /// Returns the secret of the candidate.
    fn own(&self) -> Option<Own> {
        Own::of(&self.candidate.credential)
    }

    fn challenge_key(&self) -> ChallengeKey {
        ChallengeKey {
            root: self.route.endpoint.root().clone(),
            credential: self.candidate.id,
            repository: Some(self.repository.clone().into_owned()),
        }
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
