//! Turns a response that is not a manifest into a fact: by the status first, by a known code second, by a known
//! message last.

use std::time::Duration;

use crate::credential::{Candidate, Source};
use crate::observe::Failure;
use crate::protocol::codes::{Codes, codes, is_limit};
use crate::protocol::reply::{AskedAs, Proved, Refusal, Reply};
use crate::wire::redirect::Unanswered;
use crate::wire::retry::retry_after;
use tagpin_domain::fact::{Fact, Hidden, Position, Unavailable};

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
pub(crate) fn refusal(refusal: &Refusal, asked: &AskedAs<'_>) -> Fact {
    match refusal {
        Refusal::Unanswered(nothing) => match unanswered(nothing) {
            Fact::AddressForbidden(mut host) => {
                host.untrusted = host.position == Position::TokenService && asked.withheld.is_some();
                Fact::AddressForbidden(host)
            }
            fact => fact,
        },
        Refusal::Unreadable => Fact::unavailable(Unavailable::Unreadable),
        Refusal::Token { status: 401, with_credential: true, .. }
        | Refusal::Token { status: 403, with_credential: true, unknown: true, .. } => {
            rejected(asked.candidate)
        }
        Refusal::Token { status: 403, with_credential: true, .. } => Fact::AccessDenied(Hidden::default()),
        Refusal::Token { status: 401 | 403, with_credential: false, .. } => hidden(asked),
        Refusal::Token { status, retry_after, .. } => other_status(*status, *retry_after),
    }
}

/// Returns the fact for a final response that is neither 200 nor 404.
pub(crate) fn reply(reply: &Reply, asked: &AskedAs<'_>) -> Fact {
    use crate::protocol::challenge::TokenError::Invalid;
    let answer = &reply.answer;
    if is_limit(answer) {
        return other_status(429, retry_after(answer));
    }
    let said = if answer.status == 403 { codes(&answer.body) } else { Codes::default() };
    match (answer.status, reply.proof) {
        (401, Proved::Password) => rejected(asked.candidate),
        (401, Proved::Token) if reply.token_error == Some(Invalid) => rejected(asked.candidate),
        (401, _) | (403, Proved::Nothing | Proved::AnonymousToken) => hidden(asked),
        (403, Proved::Password | Proved::Token) if said.credential_expired => rejected(asked.candidate),
        (403, _) if said.may_not_exist => Fact::MissingOrPrivate(Hidden::default()),
        (403, _) => Fact::AccessDenied(Hidden::default()),
        (status, _) => other_status(status, retry_after(answer)),
    }
}

/// Returns the fact for an asker to whom the registry shows nothing.
pub(super) fn hidden(asked: &AskedAs<'_>) -> Fact {
    if let Some(realm) = &asked.withheld {
        return Fact::RealmNotTrusted(Box::new(realm.clone()));
    }
    asked.candidate.credential.absence().map_or(Fact::MissingOrPrivate(Hidden::default()), Fact::unavailable)
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
