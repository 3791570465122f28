//! Keeps the steps of the client for printing.

use parking_lot::Mutex;
use serde::Serialize;

use crate::cli::asking::outcome;
use tagpin_registry::{Event, Observer, Step};

/// Collects the steps of the client.
pub(super) struct Trace {
    /// True to keep headers too.
    headers: bool,
    steps: Mutex<Vec<Entry>>,
}

/// One step; the names of its fields are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(super) enum Entry {
    /// A request and its result.
    Request {
        /// `manifest`, `tags` or `token`.
        purpose: &'static str,
        method: &'static str,
        /// A URL without its query, or the host of a URL that the registry named.
        target: String,
        /// The source of the credential.
        credential: Option<String>,
        status: Option<u16>,
        failure: Option<&'static str>,
        milliseconds: Option<u64>,
        /// The requests that the registry's own limit still allows.
        remaining: Option<u64>,
        /// With `--trace`: `name: value`, without secrets.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        sent: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        received: Vec<String>,
    },
    /// The registry asked for authentication.
    Challenge { scheme: &'static str, realm: Option<String> },
    /// The credential was withheld from the token service.
    CredentialWithheld { realm: String },
    /// The token service must not be asked.
    RealmRefused,
    /// The registry serves the digest by digest.
    Confirmed { digest: String, platforms: Vec<String> },
    /// The digest was not confirmed, because the registry's limit leaves too few pulls for the nodes.
    ConfirmationSpared,
    /// An endpoint was not asked, because its host failed a moment ago.
    EndpointSkipped { endpoint: String, seconds: u64 },
    /// The final answer of one endpoint.
    Endpoint { endpoint: String, outcome: &'static str },
}

impl Trace {
    /// Returns the steps so far.
    pub(super) fn steps(&self) -> Vec<Entry> {
        self.steps.lock().clone()
    }
}

impl Trace {
    /// Creates an empty trace, with or without headers.
    pub(super) fn new(headers: bool) -> Self {
        Self { headers, steps: Mutex::default() }
    }
}

impl Observer for Trace {
    fn wants_headers(&self) -> bool {
        self.headers
    }

    fn observe(&self, event: &Event<'_>) {
        let Event::Step { step, .. } = event else { return };
        let mut steps = self.steps.lock();
        let entry = match *step {
            Step::Asked { purpose, method, target, credential } => Entry::Request {
                purpose: purpose.word(),
                method: method.word(),
                target: target.to_string(),
                credential: credential.map(ToString::to_string),
                status: None,
                failure: None,
                milliseconds: None,
                remaining: None,
                sent: Vec::new(),
                received: Vec::new(),
            },
            Step::Headers { received: back, headers } => {
                if let Some(Entry::Request { sent, received, .. }) = steps.last_mut() {
                    let lines = headers.iter().map(|(name, value)| format!("{name}: {value}"));
                    if back { received } else { sent }.extend(lines);
                }
                return;
            }
            Step::Answered { status: answered, took, remaining: left, .. } => {
                if let Some(Entry::Request { status, milliseconds, remaining, .. }) = steps.last_mut() {
                    *status = Some(answered);
                    *remaining = left;
                    *milliseconds = u64::try_from(took.as_millis()).ok();
                }
                return;
            }
            Step::Failed { failure: failed, took, .. } => {
                if let Some(Entry::Request { failure, milliseconds, .. }) = steps.last_mut() {
                    *failure = Some(failed.word());
                    *milliseconds = u64::try_from(took.as_millis()).ok();
                }
                return;
            }
            Step::Challenged { scheme, realm } => {
                Entry::Challenge { scheme: scheme.word(), realm: realm.map(str::to_owned) }
            }
            Step::Withheld { realm } => Entry::CredentialWithheld { realm: realm.to_owned() },
            Step::RealmRefused => Entry::RealmRefused,
            Step::Confirmed { digest, platforms } => {
                Entry::Confirmed { digest: digest.to_string(), platforms: platforms.to_vec() }
            }
            Step::Spared => Entry::ConfirmationSpared,
            Step::EndpointSkipped { endpoint, left } => {
                Entry::EndpointSkipped { endpoint: endpoint.to_string(), seconds: left.as_secs() }
            }
            Step::Concluded { endpoint, fact } => {
                Entry::Endpoint { endpoint: endpoint.to_string(), outcome: outcome(fact) }
            }
        };
        steps.push(entry);
    }
}

impl Entry {
    /// Returns one line for a person, and lines for headers.
    pub(super) fn line(&self) -> String {
        match self {
            Self::Request {
                purpose,
                method,
                target,
                credential,
                status,
                failure,
                milliseconds,
                remaining,
                sent,
                received,
            } => {
                let what = match *purpose {
                    "token" => format!("{method} a token from {target}"),
                    _ => format!("{method} {target}"),
                };
                let who = credential.as_ref().map_or_else(String::new, |source| format!(" as {source}"));
                let end = match (status, failure) {
                    (Some(status), _) => format!("{status} in {} ms", milliseconds.unwrap_or_default()),
                    (None, Some(failure)) => {
                        format!("no answer ({failure}) in {} ms", milliseconds.unwrap_or_default())
                    }
                    (None, None) => "no answer in time".to_owned(),
                };
                let left = remaining.map_or_else(String::new, |left| format!(", {left} pulls left"));
                let mut lines = vec![format!("{what}{who}: {end}{left}")];
                lines.extend(sent.iter().map(|line| format!("    > {line}")));
                lines.extend(received.iter().map(|line| format!("    < {line}")));
                lines.join("\n  ")
            }
            Self::Challenge { scheme: "bearer", realm: Some(realm) } => {
                format!("  the registry asks for a token from {realm}")
            }
            Self::Challenge { scheme: "basic", .. } => {
                "  the registry asks for a user and a password".to_owned()
            }
            Self::Challenge { .. } => {
                "  the registry asks for an authentication that tagpin does not support".to_owned()
            }
            Self::CredentialWithheld { realm } => {
                format!(
                    "  the credential is withheld from {realm}, which is another host: a token is requested without it"
                )
            }
            Self::RealmRefused => {
                "  the token service is not asked: its address is not an https URL".to_owned()
            }
            Self::Confirmed { digest, platforms } if platforms.is_empty() => {
                format!("  the registry serves {digest} by digest")
            }
            Self::Confirmed { digest, platforms } => {
                format!("  the registry serves {digest} by digest, for {}", platforms.join(", "))
            }
            Self::ConfirmationSpared => {
                "  the digest is not confirmed: the registry's limit leaves too few pulls for the nodes"
                    .to_owned()
            }
            Self::EndpointSkipped { endpoint, seconds } => {
                format!("{endpoint} failed a moment ago and is not asked for {seconds} s")
            }
            Self::Endpoint { endpoint, outcome } => format!("{endpoint} says {outcome}"),
        }
    }
}
