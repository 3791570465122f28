//! Values of the `Authorization` header, made from credentials and tokens.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use crate::credential::Credential;
use crate::protocol::codes;
use crate::protocol::reply::{Proved, Refusal};
use crate::protocol::token::{Token, TokenKey};
use crate::wire::message::HttpResponse;
use crate::wire::retry::retry_after;

/// The secret of a candidate, by the way in which it is used.
pub(super) enum Own {
    /// User and password, as the value of the `Authorization` header.
    Password(SecretString),
    /// An identity token, for a token service.
    Identity(SecretString),
    /// A token for the registry.
    Registry(SecretString),
}

/// A value of the `Authorization` header, and what it proves.
pub(super) struct Proof {
    pub(super) header: SecretString,
    pub(super) proved: Proved,
    /// The key of the token, if it is one.
    pub(super) key: Option<TokenKey>,
    /// True if a part of it is from the cache, and not made for this challenge.
    pub(super) remembered: bool,
}

impl Own {
    /// Returns the secret of a credential, if it has one.
    pub(super) fn of(credential: &Credential) -> Option<Self> {
        match credential {
            Credential::Anonymous | Credential::NotGiven | Credential::NotRead | Credential::NotNamed => None,
            Credential::Basic { username, password } => {
                Some(Self::Password(basic_header(username, password)))
            }
            Credential::Identity(token) => Some(Self::Identity(token.clone())),
            Credential::Registry(token) => Some(Self::Registry(token.clone())),
        }
    }
}

/// Returns the `Authorization` header for a user and a password.
pub(super) fn basic_header(username: &str, password: &SecretString) -> SecretString {
    let plain = SecretString::from(format!("{username}:{}", password.expose_secret()));
    format!("Basic {}", STANDARD.encode(plain.expose_secret())).into()
}

/// Reads the response of a token service.
pub(super) fn read_token(answer: &HttpResponse, with_credential: bool) -> Result<Token, Refusal> {
    if answer.status == 200 {
        return Token::parse(&answer.body).map_err(|_| Refusal::Unreadable);
    }
    Err(Refusal::Token {
        status: if codes::is_limit(answer) { 429 } else { answer.status },
        with_credential,
        unknown: codes::credential_unknown(answer),
        retry_after: retry_after(answer),
    })
}

/// Returns the `Authorization` header for a token.
pub(super) fn bearer_header(token: &SecretString) -> SecretString {
    format!("Bearer {}", token.expose_secret()).into()
}
