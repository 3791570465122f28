//! Asks the token service that a registry names, and withholds the credential from one that may not see it.

use secrecy::SecretString;
use url::Url;

use crate::credential::{Credential, CredentialId};
use crate::observe::{Event, Method, Purpose, Step, Unused};
use crate::protocol::challenge::Bearer;
use crate::protocol::proof::{Own, Proof, basic_header, bearer_header, read_token};
use crate::protocol::realms::may_see_credential;
use crate::protocol::reply::{Proved, Refusal};
use crate::protocol::session::Session;
use crate::protocol::token::{RealmError, Token, TokenKey, realm_url, token_form, token_url};
use crate::wire::message::{Body, HttpResponse};
use crate::wire::redirect::{Follow, Request, host_of};

/// Maximum size of a token service's response, in bytes.
const TOKEN_BODY: usize = 64 * 1024;

impl Session<'_> {
    /// Returns true if the token service of a challenge may see the credential.
    pub(super) fn may_see(&self, bearer: &Bearer, asked: &Url) -> bool {
        let endpoint = self.route.endpoint;
        realm_url(bearer, asked, endpoint.plain_http())
            .is_ok_and(|realm| may_see_credential(&realm, asked, &endpoint.trusted_realms))
    }

    /// Remembers that the credential was kept from a token service.
    fn withhold(&self, realm: &Url) {
        let host = host_of(realm);
        self.observe(Step::Withheld { realm: host });
        if self.withheld.set(host.to_owned()).is_ok() {
            let Self { route, .. } = self;
            route.observer.observe(&Event::CredentialUnused {
                registry: route.label,
                host: route.registry,
                reason: Unused::Realm,
                about: host,
            });
        }
    }

    /// Returns a token, from the cache or new. The candidate's own secret is sent only to a token service that may
    /// see it.
    pub(super) async fn token(
        &self,
        bearer: &Bearer,
        asked: &Url,
        own: Option<Own>,
    ) -> Result<Proof, Refusal> {
        let plain_http = self.route.endpoint.plain_http();
        let realm = realm_url(bearer, asked, plain_http).map_err(|_: RealmError| {
            self.observe(Step::RealmRefused);
            Refusal::Unreadable
        })?;
        let own = own.filter(|_| {
            let may = may_see_credential(&realm, asked, &self.route.endpoint.trusted_realms);
            if !may {
                self.withhold(&realm);
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
}
