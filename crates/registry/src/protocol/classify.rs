//! Turns a response that is not a manifest into a fact: by the status first, by a known code second, by a known
//! message last.

use std::time::Duration;

use crate::credential::{Candidate, Credential, Source};
use crate::observe::Failure;
use crate::protocol::codes::{Codes, codes};
use crate::protocol::reply::{Proved, Refusal, Reply};
use crate::wire::message::HttpResponse;
use crate::wire::redirect::Unanswered;
use crate::wire::retry::retry_after;
use tagpin_domain::fact::{Fact, Hidden, Unavailable};

/// The meaning of a 404 for a manifest, by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The repository does not exist.
    Repository,
    /// The tag existed and has expired.
    Tag,
    /// The tag or the repository does not exist; the list of tags tells which.
    Either,
    /// The registry has something, but does not serve it to tagpin.
    NotForUs,
}

/// Returns the fact for a request that got no response.
pub(super) fn unanswered(unanswered: &Unanswered) -> Fact {
    if let Some(host) = &unanswered.forbidden {
        return Fact::AddressForbidden(host.clone());
    }
    let cause = match unanswered.failure {
        Failure::Timeout => Unavailable::Timeout,
        Failure::Dns => Unavailable::Dns,
        Failure::Connect => Unavailable::Connect,
        Failure::Tls => Unavailable::Tls,
        Failure::Resting => Unavailable::BreakerOpen,
        Failure::Proxy => Unavailable::Proxy,
        Failure::Unreadable | Failure::Redirect | Failure::AddressForbidden | Failure::AddressBlocked => {
            Unavailable::Unreadable
        }
    };
    Fact::Unavailable { cause, retry_after: unanswered.rests, last_known: None }
}

/// Returns the fact for a registry that could not be asked with this credential.
pub(crate) fn refusal(refusal: &Refusal, candidate: &Candidate) -> Fact {
    match refusal {
        Refusal::Unanswered(nothing) => unanswered(nothing),
        Refusal::Unreadable => Fact::unavailable(Unavailable::Unreadable),
        Refusal::Token { status: 401, with_credential: true, .. }
        | Refusal::Token { status: 403, with_credential: true, unknown: true, .. } => rejected(candidate),
        Refusal::Token { status: 403, with_credential: true, .. } => Fact::AccessDenied(Hidden::default()),
        Refusal::Token { status: 401 | 403, with_credential: false, .. } => hidden(candidate),
        Refusal::Token { status, retry_after, .. } => other_status(*status, *retry_after),
    }
}

/// Returns the fact for a final response that is neither 200 nor 404.
pub(crate) fn reply(reply: &Reply, candidate: &Candidate) -> Fact {
    use crate::protocol::challenge::TokenError::Invalid;
    let answer = &reply.answer;
    let said = if answer.status == 403 { codes(&answer.body) } else { Codes::default() };
    match (answer.status, reply.proof) {
        (401, Proved::Password) => rejected(candidate),
        (401, Proved::Token) if reply.token_error == Some(Invalid) => rejected(candidate),
        (401, _) | (403, Proved::Nothing | Proved::AnonymousToken) => hidden(candidate),
        (403, Proved::Password | Proved::Token) if said.credential_expired => rejected(candidate),
        (403, _) if said.may_not_exist => Fact::MissingOrPrivate(Hidden::default()),
        (403, _) => Fact::AccessDenied(Hidden::default()),
        (status, _) => other_status(status, retry_after(answer)),
    }
}

/// Returns what is missing, as far as the response tells.
pub(super) fn missing(answer: &HttpResponse) -> Missing {
    let codes = codes(&answer.body);
    if codes.name_unknown {
        Missing::Repository
    } else if codes.tag_expired {
        Missing::Tag
    } else if codes.not_acceptable {
        Missing::NotForUs
    } else {
        Missing::Either
    }
}

/// Returns true for the 403 that Artifactory sends for a missing tag of a virtual repository
/// (go-containerregistry#1691).
pub(super) fn may_mean_missing(answer: &HttpResponse) -> bool {
    let artifactory =
        |value: &str| value.get(..11).is_some_and(|start| start.eq_ignore_ascii_case("artifactory"));
    answer.status == 403
        && (answer.header("x-artifactory-id").is_some() || answer.header("server").is_some_and(artifactory))
}

/// Returns the fact for an anonymous request that was refused.
fn hidden(candidate: &Candidate) -> Fact {
    match candidate.credential {
        Credential::NotGiven => Fact::unavailable(Unavailable::NoCredential),
        Credential::NotRead => Fact::unavailable(Unavailable::PullSecret),
        _ => Fact::MissingOrPrivate(Hidden::default()),
    }
}

fn rejected(candidate: &Candidate) -> Fact {
    let secret = match &candidate.source {
        Source::PullSecret(name) => Some(name.clone()),
        _ => None,
    };
    Fact::CredentialsRejected { secret }
}

fn other_status(status: u16, retry_after: Option<Duration>) -> Fact {
    match status {
        429 => Fact::RateLimited { retry_after, last_known: None },
        // Neither an answer nor a failure: a redirect without a target, a 204, an unexpected 304.
        100..=399 => Fact::Unavailable { cause: Unavailable::Unreadable, retry_after, last_known: None },
        _ => Fact::Unavailable { cause: Unavailable::Status(status), retry_after, last_known: None },
    }
}
