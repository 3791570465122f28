//! From an answer that is not a manifest to a fact: the status first, a known code second, a known message last.

use std::time::Duration;

use serde::Deserialize;

use crate::credential::{Candidate, Credential, Source};
use crate::observe::Failure;
use crate::redirect::Unanswered;
use crate::retry::retry_after;
use crate::session::{Proved, Refusal, Reply};
use crate::transport::Answer;
use tagpin_domain::fact::{Fact, Unavailable};

/// What a 404 of a manifest says by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// There is no such repository.
    Repository,
    /// The tag was there.
    Tag,
    /// One of the two; the list of tags tells which.
    Either,
    /// Something is there that the registry will not give us.
    NotForUs,
}

/// The codes that decide something, of all that are in a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Codes {
    name_unknown: bool,
    tag_expired: bool,
    /// MANIFEST_UNKNOWN because of what we accept: distribution and GHCR say so, others do not.
    not_acceptable: bool,
    /// ECR: DENIED because of the credential's age.
    credential_expired: bool,
    /// GHCR and GitLab at their token services: DENIED because the credential is none of theirs.
    credential_unknown: bool,
    /// GAR: DENIED, or there is nothing.
    may_not_exist: bool,
}

/// Nothing came back.
pub(super) fn unanswered(unanswered: &Unanswered) -> Fact {
    let cause = match unanswered.failure {
        Failure::AddressForbidden => return Fact::AddressForbidden { host: unanswered.host.clone() },
        Failure::Timeout => Unavailable::Timeout,
        Failure::Dns => Unavailable::Dns,
        Failure::Connect => Unavailable::Connect,
        Failure::Tls => Unavailable::Tls,
        Failure::Unreadable | Failure::Redirect => Unavailable::Unreadable,
    };
    Fact::unavailable(cause)
}

/// The registry could not be asked with this credential.
pub(super) fn refusal(refusal: &Refusal, candidate: &Candidate) -> Fact {
    match refusal {
        Refusal::Unanswered(nothing) => unanswered(nothing),
        Refusal::Unreadable => Fact::unavailable(Unavailable::Unreadable),
        Refusal::Token { status: 401, with_credential: true, .. }
        | Refusal::Token { status: 403, with_credential: true, unknown: true, .. } => rejected(candidate),
        Refusal::Token { status: 403, with_credential: true, .. } => Fact::AccessDenied,
        Refusal::Token { status: 401 | 403, with_credential: false, .. } => hidden(candidate),
        Refusal::Token { status, retry_after, .. } => other_status(*status, *retry_after),
    }
}

/// Whether the 403 of a token service is about the credential itself, and not about what it may read.
pub(super) fn credential_unknown(answer: &Answer) -> bool {
    answer.status == 403 && codes(&answer.body).credential_unknown
}

/// Whether the token of this request has expired, as ECR says it: it answers 403, and 400 where it is public
/// (aws/containers-roadmap#2835), and never with a challenge.
pub(super) fn token_expired(answer: &Answer, host: &str) -> bool {
    match answer.status {
        400 => host == "public.ecr.aws",
        403 => codes(&answer.body).credential_expired,
        _ => false,
    }
}

/// The final answer, when it is neither 200 nor 404.
pub(super) fn reply(reply: &Reply, candidate: &Candidate) -> Fact {
    use crate::challenge::TokenError::Invalid;
    let answer = &reply.answer;
    let said = if answer.status == 403 { codes(&answer.body) } else { Codes::default() };
    match (answer.status, reply.proof) {
        (401, Proved::Password) => rejected(candidate),
        (401, Proved::Token) if reply.token_error == Some(Invalid) => rejected(candidate),
        (401, _) | (403, Proved::Nothing | Proved::AnonymousToken) => hidden(candidate),
        (403, Proved::Password | Proved::Token) if said.credential_expired => rejected(candidate),
        (403, _) if said.may_not_exist => Fact::MissingOrPrivate,
        (403, _) => Fact::AccessDenied,
        (status, _) => other_status(status, retry_after(answer)),
    }
}

/// What is missing, as far as the answer says.
pub(super) fn missing(answer: &Answer) -> Missing {
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

/// Artifactory answers 403 for a missing tag of a virtual repository (go-containerregistry#1691).
pub(super) fn may_mean_missing(answer: &Answer) -> bool {
    let artifactory =
        |value: &str| value.get(..11).is_some_and(|start| start.eq_ignore_ascii_case("artifactory"));
    answer.status == 403
        && (answer.header("x-artifactory-id").is_some() || answer.header("server").is_some_and(artifactory))
}

/// Not shown to who asks so.
const fn hidden(candidate: &Candidate) -> Fact {
    match candidate.credential {
        Credential::NotGiven => Fact::unavailable(Unavailable::NoCredential),
        _ => Fact::MissingOrPrivate,
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
    let cause = match status {
        429 => return Fact::RateLimited { retry_after, last_known: None },
        // Neither an answer nor a failure: a redirect that is none, a 204, a 304 that nobody asked for.
        100..=399 => Unavailable::Unreadable,
        _ => Unavailable::Status(status),
    };
    Fact::Unavailable { cause, retry_after, last_known: None }
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

fn codes(body: &[u8]) -> Codes {
    let mut codes = Codes::default();
    let Ok(body) = serde_json::from_slice::<Errors>(body) else {
        // ECR said it so, before it had codes.
        let text = String::from_utf8_lossy(body).to_ascii_lowercase();
        codes.credential_expired = text.starts_with("your authorization token has expired");
        return codes;
    };
    for error in &body.errors {
        let message = error.message.to_ascii_lowercase();
        let says = |words: &str| message.contains(words);
        match error.code.as_str() {
            "NAME_UNKNOWN" => codes.name_unknown = true,
            "TAG_EXPIRED" => codes.tag_expired = true,
            "MANIFEST_UNKNOWN" if says("accept header") => codes.not_acceptable = true,
            "DENIED" if says("authorization token has expired") => codes.credential_expired = true,
            "DENIED" if says("or it may not exist") => codes.may_not_exist = true,
            "DENIED" if message == "denied" || says("http basic: access denied") => {
                codes.credential_unknown = true;
            }
            _ => {}
        }
    }
    codes
}
