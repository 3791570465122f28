//! Error codes that registries and token services send in the body of an error.

use serde::Deserialize;

use crate::wire::message::HttpResponse;

/// The codes that decide something, among all codes of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Codes {
    pub(super) name_unknown: bool,
    pub(super) tag_expired: bool,
    /// MANIFEST_UNKNOWN because of the `Accept` header, as distribution and GHCR say; others do not say it.
    pub(super) not_acceptable: bool,
    /// ECR: DENIED, because the credential has expired.
    pub(super) credential_expired: bool,
    /// GHCR and GitLab at their token services: DENIED, because the credential is unknown.
    pub(super) credential_unknown: bool,
    /// GAR: DENIED, or it does not exist.
    pub(super) may_not_exist: bool,
    /// The rate limit is reached, which some registries and proxies report with a 400 or a 403.
    pub(super) limited: bool,
}

/// Words for a rate limit in the message of an error, in lower case.
const LIMITED: [&str; 5] =
    ["toomanyrequests", "too many requests", "rate exceeded", "rate limit", "quota exceeded"];

/// Returns true if a 400 or a 403 is about the rate limit.
pub(super) fn is_limit(answer: &HttpResponse) -> bool {
    matches!(answer.status, 400 | 403) && codes(&answer.body).limited
}

/// Returns true if the 403 of a token service is about the credential itself, and not about what it may read.
pub(super) fn credential_unknown(answer: &HttpResponse) -> bool {
    answer.status == 403 && codes(&answer.body).credential_unknown
}

/// Returns true if the token of the request has expired, as ECR reports it: with a 403, or with a 400 at its public
/// registry (aws/containers-roadmap#2835), and never with a challenge.
pub(super) fn token_expired(answer: &HttpResponse, host: &str) -> bool {
    match answer.status {
        400 => host == "public.ecr.aws" && !is_limit(answer),
        403 => codes(&answer.body).credential_expired,
        _ => false,
    }
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

/// Returns the known codes in the body of an error.
pub(super) fn codes(body: &[u8]) -> Codes {
    let mut codes = Codes::default();
    let Ok(body) = serde_json::from_slice::<Errors>(body) else {
        // ECR sent this text before it had codes.
        let text = String::from_utf8_lossy(body).to_ascii_lowercase();
        codes.credential_expired = text.starts_with("your authorization token has expired");
        // Further on in a page, the words may be about anything.
        codes.limited = LIMITED.iter().any(|words| text.trim_start().starts_with(words));
        return codes;
    };
    for error in &body.errors {
        let message = error.message.to_ascii_lowercase();
        let says = |words: &str| message.contains(words);
        codes.limited |= LIMITED.iter().any(|words| says(words));
        match error.code.as_str() {
            "TOOMANYREQUESTS" | "TOO_MANY_REQUESTS" => codes.limited = true,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_400_of_the_public_ecr_is_about_the_token_unless_it_is_about_the_limit() {
        let answer = |status: u16, body: &str| HttpResponse::of(status, &[], body.as_bytes());
        let limited = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"Rate exceeded"}]}"#;
        assert!(token_expired(&answer(400, ""), "public.ecr.aws"));
        assert!(!token_expired(&answer(400, limited), "public.ecr.aws"));
        assert!(!token_expired(&answer(400, ""), "registry.example"));
        let expired = r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired."}]}"#;
        assert!(token_expired(&answer(403, expired), "registry.example"));
        assert!(!token_expired(&answer(403, limited), "registry.example"));
    }
}
