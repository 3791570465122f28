//! What the client did, step by step, kept for printing.

use parking_lot::Mutex;
use serde::Serialize;

use crate::cli::asking::outcome;
use tagpin_registry::{Event, Observer, Step};

/// Keeps the steps.
pub(super) struct Trace {
    /// With headers.
    headers: bool,
    steps: Mutex<Vec<Entry>>,
}

/// One step; the names of its fields are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(super) enum Entry {
    /// A request, and what became of it.
    Request {
        /// `manifest`, `tags` or `token`.
        purpose: &'static str,
        method: &'static str,
        /// A URL without its query, or the host of one that the registry named.
        target: String,
        /// Where its credential came from.
        credential: Option<String>,
        status: Option<u16>,
        failure: Option<&'static str>,
        milliseconds: Option<u64>,
        /// What is left of the registry's own limit, as it says.
        remaining: Option<u64>,
        /// With `--trace`: `name: value`, without secrets.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        sent: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        received: Vec<String>,
    },
    /// The registry wants to know who asks.
    Challenge { scheme: &'static str, realm: Option<String> },
    /// The credential was not shown to the token service.
    CredentialWithheld { realm: String },
    /// The token service may not be asked.
    RealmRefused,
    /// What the tag names was asked for by digest, and is there.
    Confirmed { digest: String, platforms: Vec<String> },
    /// It was not, because the registry's limit leaves too few pulls for the nodes.
    ConfirmationSpared,
    /// What one endpoint says.
    Endpoint { endpoint: String, outcome: &'static str },
}

impl Trace {
    /// The steps so far.
    pub(super) fn steps(&self) -> Vec<Entry> {
        self.steps.lock().clone()
    }
}

impl Trace {
    /// Keeps headers too, if these are wanted.
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
            Step::Concluded { endpoint, fact } => {
                Entry::Endpoint { endpoint: endpoint.to_string(), outcome: outcome(fact) }
            }
        };
        steps.push(entry);
    }
}

impl Entry {
    /// One line for a person.
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
                format!("  it wants a token of {realm}")
            }
            Self::Challenge { scheme: "basic", .. } => "  it wants a user and a password".to_owned(),
            Self::Challenge { .. } => "  it wants something that we do not have".to_owned(),
            Self::CredentialWithheld { realm } => {
                format!("  the credential is not for {realm}, another host: a token is asked for without it")
            }
            Self::RealmRefused => "  its token service is no https URL: it is not asked".to_owned(),
            Self::Confirmed { digest, platforms } if platforms.is_empty() => {
                format!("  it serves {digest} by digest")
            }
            Self::Confirmed { digest, platforms } => {
                format!("  it serves {digest} by digest, for {}", platforms.join(", "))
            }
            Self::ConfirmationSpared => {
                "  not asked for by digest: its limit leaves too few pulls for the nodes".to_owned()
            }
            Self::Endpoint { endpoint, outcome } => format!("{endpoint} says {outcome}"),
        }
    }
}
