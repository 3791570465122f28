//! Tokens of the distribution token protocol: the token services that may be asked, the requests to them, their
//! responses, and the tokens that are kept. It sends nothing itself.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::credential::CredentialId;
use crate::protocol::challenge::{Bearer, Challenge};
use crate::sharing::expiring::Expiring;
use tagpin_domain::image::ImageRef;

/// Minimum lifetime of a token, and the lifetime of one that names none (docker's token specification).
const SHORTEST: Duration = Duration::from_secs(60);
/// Maximum time for which a token is kept, whatever it says.
const LONGEST: Duration = Duration::from_secs(3600);
/// Time for which the challenge of a registry is remembered.
const CHALLENGE: Duration = Duration::from_secs(3600);
/// Maximum number of tokens that are kept.
const TOKENS: usize = 4096;
/// Maximum number of registries whose challenge is remembered.
const CHALLENGES: usize = 512;
/// Maximum length of a token, in bytes.
const TOKEN_LENGTH: usize = 16 * 1024;
/// The tokens and challenges that are remembered. A token is used only for the registry, scope and credential that it
/// was given for.
pub(super) struct Tokens {
    tokens: Expiring<TokenKey, SecretString>,
    challenges: Expiring<ChallengeKey, Challenge>,
}

/// The key of a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    /// The origin that the token is sent to.
    pub(super) registry: String,
    /// The URL that gave it, with service and scope.
    pub(crate) url: Url,
    /// The credential of the asker.
    pub(super) credential: CredentialId,
}

/// The key of a challenge.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ChallengeKey {
    /// The root of the endpoint.
    pub(super) root: Url,
    /// The credential of the asker.
    pub(super) credential: CredentialId,
    /// The repository, as the endpoint names it, if the registry calls it by another name in its challenge.
    pub(super) repository: Option<String>,
}

impl ChallengeKey {
    /// Returns the key for every repository of the registry.
    fn of_all(&self) -> Self {
        Self { repository: None, ..self.clone() }
    }
}

/// The reason why a token service is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RealmError {
    /// The realm is not a URL of a token service.
    #[error("the realm is not the URL of a token service")]
    Url,
    /// The realm is not https, although the registry is.
    #[error("the realm is not https")]
    Scheme,
}

/// The error for a token service's response without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token service's answer holds no token")]
pub(super) struct NoToken;

impl Tokens {
    pub(super) fn new() -> Self {
        Self { tokens: Expiring::new(TOKENS), challenges: Expiring::new(CHALLENGES) }
    }

    pub(super) fn get(&self, key: &TokenKey) -> Option<SecretString> {
        self.tokens.get(key, Instant::now())
    }

    pub(super) fn put(&self, key: TokenKey, token: &Token) {
        let now = Instant::now();
        self.tokens.put(key, token.value.clone(), now + token.life);
    }

    pub(super) fn forget(&self, key: &TokenKey) {
        self.tokens.remove(key);
    }

    /// Returns the challenge for the repository of the key, or else the one for all repositories.
    pub(super) fn challenge(&self, key: &ChallengeKey) -> Option<Challenge> {
        let now = Instant::now();
        self.challenges.get(key, now).or_else(|| self.challenges.get(&key.of_all(), now))
    }

    /// Remembers the challenge of a registry: for all repositories and without its scope, unless the scope calls the
    /// repository by another name, which only the registry knows.
    pub(super) fn remember(&self, key: ChallengeKey, challenge: &Challenge) {
        let until = Instant::now() + CHALLENGE;
        let Challenge::Bearer(bearer) = challenge else {
            return self.challenges.put(key.of_all(), Challenge::Basic, until);
        };
        let named = bearer.scope.as_deref().and_then(scope_repository);
        if named.is_some() && named != key.repository.as_deref() {
            return self.challenges.put(key, challenge.clone(), until);
        }
        let general = Bearer { scope: None, ..bearer.clone() };
        self.challenges.put(key.of_all(), Challenge::Bearer(general), until);
    }

    pub(super) fn forget_challenge(&self, key: &ChallengeKey) {
        self.challenges.remove(key);
        self.challenges.remove(&key.of_all());
    }
}

/// Returns the URL of the token service: the realm, relative to the URL that was asked. It may be http only if the
/// registry is configured with http.
///
/// # Errors
/// Returns an error if the realm is not a token service that may be asked.
pub(super) fn realm_url(bearer: &Bearer, asked: &Url, plain_http: bool) -> Result<Url, RealmError> {
    let url = asked.join(&bearer.realm).map_err(|_| RealmError::Url)?;
    if !url.has_host() || !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(RealmError::Url);
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if plain_http => Ok(url),
        "http" => Err(RealmError::Scheme),
        _ => Err(RealmError::Url),
    }
}

/// Returns the URL that gives a token: the token service, with service and scope added to its query.
pub(super) fn token_url(mut realm: Url, bearer: &Bearer, repository: &str) -> Url {
    let mut query = realm.query_pairs_mut();
    if let Some(service) = &bearer.service {
        query.append_pair("service", service);
    }
    for scope in scopes(bearer, repository) {
        query.append_pair("scope", &scope);
    }
    drop(query);
    realm
}

/// Returns the form that exchanges an identity token for a token (docker's OAuth 2 specification).
pub(super) fn token_form(bearer: &Bearer, repository: &str, identity: &SecretString) -> SecretString {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token");
    form.append_pair("service", bearer.service.as_deref().unwrap_or_default());
    form.append_pair("client_id", "tagpin");
    form.append_pair("scope", &scopes(bearer, repository).collect::<Vec<_>>().join(" "));
    form.append_pair("refresh_token", identity.expose_secret());
    form.finish().into()
}

/// Returns the scopes to ask for, the registry's own first. Some services read only the first scope, and the registry
/// may call the repository by another name than this endpoint does.
fn scopes<'a>(bearer: &'a Bearer, repository: &'a str) -> impl Iterator<Item = String> {
    let named = bearer.scope.as_deref().and_then(scope_repository).filter(move |named| *named != repository);
    named.into_iter().chain([repository]).map(|repository| format!("repository:{repository}:pull"))
}

/// Returns the repository of `repository:NAME:…`, if it is a valid one.
fn scope_repository(scope: &str) -> Option<&str> {
    let (name, _) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    let image = ImageRef::parse(&format!("scope.invalid/{name}")).ok()?;
    (image.tag().is_none() && image.digest().is_none()).then_some(name)
}

/// A token, and the time for which it is kept.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) value: SecretString,
    pub(super) life: Duration,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Option<String>,
    token: Option<String>,
    expires_in: Option<serde_json::Value>,
}

impl Token {
    /// Reads the response of a token service. The token itself is opaque and is not read.
    ///
    /// # Errors
    /// Returns an error if it holds no token that can be sent in a header.
    pub(super) fn parse(body: &[u8]) -> Result<Self, NoToken> {
        let answer: TokenAnswer = serde_json::from_slice(body).map_err(|_| NoToken)?;
        let usable = |token: &String| {
            !token.is_empty() && token.len() <= TOKEN_LENGTH && token.bytes().all(|b| b.is_ascii_graphic())
        };
        let value = answer.access_token.filter(usable).or(answer.token.filter(usable)).ok_or(NoToken)?;
        let said = answer.expires_in.and_then(|value| value.as_u64()).map(Duration::from_secs);
        let life = said.unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST);
        Ok(Self { value: value.into(), life: life - life / 10 })
    }
}

#[cfg(test)]
mod tests;
