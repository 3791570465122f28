//! What `tagpin resolve` prints: the answer for a person, and as JSON whose fields are stable.

use serde::Serialize;

use crate::cli::Exit;
use crate::cli::asking;
use crate::cli::resolve::trace::Entry;
use tagpin_domain::fact::{Fact, Unavailable};
use tagpin_domain::image::ImageRef;
use tagpin_domain::platform::Platform;
use tagpin_registry::{DEPTH, ForPlatform as Found, NotInspected};

/// The answer about one reference.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    /// As typed.
    reference: String,
    /// Normalised, with the tag that is asked for.
    image: String,
    /// `Present`, `Offline`, or the code that a refusal would have.
    outcome: &'static str,
    digest: Option<String>,
    /// The reference as a pod would carry it.
    pinned: Option<String>,
    problem: Option<String>,
    remedy: Option<String>,
    /// Why the registry gave no usable answer.
    cause: Option<&'static str>,
    retry_after_seconds: Option<u64>,
    did_you_mean: Vec<String>,
    /// With `--platform`.
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<ForPlatform>,
    /// What the registry tells somebody without the credential that it refused.
    anonymously: Option<&'static str>,
    pub(super) steps: Vec<Entry>,
    #[serde(skip)]
    exit: Exit,
}

/// Which image a node of a platform gets.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ForPlatform {
    wanted: String,
    /// Its digest, when there is one.
    digest: Option<String>,
    /// What there is.
    has: Vec<String>,
}

impl Answer {
    pub(super) fn new(image: &ImageRef, fact: &Fact, similar: Vec<String>) -> Self {
        let digest = match fact {
            Fact::Present(digest) => Some(digest),
            _ => None,
        };
        let (problem, remedy) = asking::problem(image, fact).unzip();
        let cause = match fact {
            Fact::Unavailable { cause, .. } => Some(word(*cause)),
            _ => None,
        };
        Self {
            reference: image.original().to_owned(),
            image: with_tag(image),
            outcome: asking::outcome(fact),
            digest: digest.map(ToString::to_string),
            pinned: digest.map(|digest| image.pinned(digest)),
            problem,
            remedy,
            cause,
            retry_after_seconds: fact.retry_after().map(|wait| wait.as_secs()),
            did_you_mean: similar,
            platform: None,
            anonymously: None,
            steps: Vec::new(),
            exit: asking::exit(fact),
        }
    }

    /// Whether a list of tags would help.
    pub(super) const fn wants_similar(fact: &Fact) -> bool {
        matches!(fact, Fact::TagMissing | Fact::TagExpired)
    }

    /// Adds what a node of this platform gets.
    pub(super) fn tell_platform(&mut self, wanted: &Platform, found: Result<Found, NotInspected>) {
        const UNKNOWN: &str = "which platforms it is for could not be found out";
        let Found { digest, has } = match found {
            Ok(found) => found,
            Err(why) => {
                self.problem = Some(match &why {
                    NotInspected::Instead(_) => UNKNOWN.to_owned(),
                    NotInspected::TooDeep => {
                        format!("{UNKNOWN}: it has more than {DEPTH} indexes inside of one another")
                    }
                });
                self.cause = match &why {
                    NotInspected::Instead(Fact::Unavailable { cause, .. }) => Some(word(*cause)),
                    _ => None,
                };
                self.exit = Exit::CouldNotFindOut;
                return;
            }
        };
        let has: Vec<String> = has.iter().map(ToString::to_string).collect();
        if digest.is_none() {
            self.problem = Some(format!("there is no image for {wanted}: it has {}", has.join(", ")));
            self.exit = Exit::Violations;
        }
        let digest = digest.map(|digest| digest.to_string());
        self.platform = Some(ForPlatform { wanted: wanted.to_string(), digest, has });
    }

    /// Adds what the registry tells without the credential that it refused.
    pub(super) fn tell_anonymous(&mut self, fact: &Fact) {
        self.anonymously = Some(asking::outcome(fact));
    }

    pub(super) const fn exit(&self) -> Exit {
        self.exit
    }

    pub(super) fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    pub(super) fn text(&self) -> String {
        let mut lines = vec![self.image.clone()];
        lines.extend(self.steps.iter().map(|step| format!("  {}", step.line())));
        match (&self.pinned, &self.problem) {
            (Some(pinned), problem) => {
                lines.push(pinned.clone());
                lines.extend(problem.iter().map(|problem| format!("  {problem}")));
            }
            (None, Some(problem)) => {
                lines.push(format!("image \"{}\": {problem} [{}]", self.reference, self.outcome));
            }
            (None, None) => {}
        }
        if let Some(ForPlatform { wanted, digest, .. }) = &self.platform {
            lines.extend(digest.iter().map(|digest| format!("  {wanted}: {digest}")));
        }
        if self.anonymously == Some("Present") {
            lines.push("  without the credential it is there: the credential is the problem".to_owned());
        }
        if !self.did_you_mean.is_empty() {
            lines.push(format!("  did you mean: {}", self.did_you_mean.join(", ")));
        }
        lines.extend(self.retry_after_seconds.map(|wait| format!("  try again in {wait} s")));
        lines.extend(self.remedy.as_ref().map(|remedy| format!("  to do:  {remedy}")));
        lines.join("\n") + "\n"
    }
}

fn with_tag(image: &ImageRef) -> String {
    match (image.tag(), image.effective_tag()) {
        (None, Some(tag)) => format!("{}:{tag}", image.repository()),
        _ => image.canonical(),
    }
}

const fn word(cause: Unavailable) -> &'static str {
    match cause {
        Unavailable::Timeout => "Timeout",
        Unavailable::Dns => "Dns",
        Unavailable::Connect => "Connect",
        Unavailable::Tls => "Tls",
        Unavailable::Status(_) => "Status",
        Unavailable::Unreadable => "Unreadable",
        Unavailable::BreakerOpen => "BreakerOpen",
        Unavailable::NotByDigest => "NotByDigest",
        Unavailable::NoCredential => "NoCredential",
    }
}
