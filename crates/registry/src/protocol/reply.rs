//! Requests of the protocol, and the replies or refusals that a session ends with.

use std::time::Duration;

use url::Url;

use crate::credential::Candidate;
use crate::observe::{Method, Purpose};
use crate::protocol::challenge::TokenError;
use crate::wire::message::HttpResponse;
use crate::wire::redirect::{Unanswered, number_before_window};
use tagpin_domain::fact::Realm;

/// A request of the protocol.
pub(crate) struct Question {
    pub(crate) purpose: Purpose,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) accept: Option<&'static str>,
    /// Maximum size of the body, in bytes.
    pub(crate) limit: usize,
}

/// The final response, after all authentication.
pub(crate) struct Reply {
    pub(crate) answer: HttpResponse,
    /// The authentication of the last request.
    pub(super) proof: Proved,
    /// True if another host than the endpoint's gave the response.
    pub(super) crossed: bool,
    /// The error that the registry reports for the token.
    pub(super) token_error: Option<TokenError>,
}

/// The identity under which a registry was asked.
pub(crate) struct AskedAs<'a> {
    pub(super) candidate: &'a Candidate,
    /// The token service that did not get the credential, because nobody trusts it with that.
    pub(super) withheld: Option<Realm>,
}

/// The authentication of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proved {
    /// No authentication.
    Nothing,
    /// User and password.
    Password,
    /// A token that was given to an anonymous asker.
    AnonymousToken,
    /// A token that was given for the credential.
    Token,
}

/// The reason why there is no answer about the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The registry, its token service or the target of a redirect did not respond.
    Unanswered(Unanswered),
    /// The token service gave no token.
    Token {
        status: u16,
        /// True if it was asked with the credential.
        with_credential: bool,
        /// True if it reports that it does not know this credential.
        unknown: bool,
        retry_after: Option<Duration>,
    },
    /// The token service must not be asked, or its response cannot be read.
    Unreadable,
}

impl Refusal {
    /// Returns true if a token service took the credential and gave no usable token for it.
    pub(super) const fn is_about_the_token(&self) -> bool {
        match self {
            Self::Token { status, with_credential, .. } => {
                *with_credential && matches!(status, 400..=407 | 409..=428 | 430..=499)
            }
            Self::Unreadable => true,
            Self::Unanswered(_) => false,
        }
    }
}

/// The number of pulls that a registry allows (`ratelimit-limit`, `ratelimit-remaining`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PullLimit {
    /// The pulls in each window.
    pub(crate) limit: u64,
    /// The pulls left in this window.
    pub(super) remaining: u64,
}

impl PullLimit {
    /// Returns true if less than a tenth would be left for the nodes, which share the address. Two replicas see the
    /// same count and do not know of each other, so each plans with half of it.
    pub(super) const fn is_low(self) -> bool {
        self.remaining / 2 < self.limit.div_ceil(10)
    }

    /// Returns the limit that a response reports.
    pub(super) fn of(answer: &HttpResponse) -> Option<Self> {
        let number = |name| answer.header(name).and_then(number_before_window);
        Some(Self { limit: number("ratelimit-limit")?, remaining: number("ratelimit-remaining")? })
    }
}
