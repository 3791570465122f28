//! What `tagpin resolve` prints: the answer for a person, and as JSON whose fields are stable.

use serde::Serialize;

use crate::cli::Exit;
use crate::cli::asking;
use crate::cli::resolve::trace::Step;
use crate::domain::fact::{Fact, Unavailable};
use crate::domain::image::ImageRef;

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
    steps: Vec<Step>,
    #[serde(skip)]
    exit: Exit,
}

impl Answer {
    pub(super) fn new(image: &ImageRef, fact: &Fact, similar: Vec<String>, steps: Vec<Step>) -> Self {
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
            retry_after_seconds: asking::retry_after(fact).map(|wait| wait.as_secs()),
            did_you_mean: similar,
            steps,
            exit: asking::exit(fact),
        }
    }

    /// Whether a list of tags would help.
    pub(super) const fn wants_similar(fact: &Fact) -> bool {
        matches!(fact, Fact::TagMissing | Fact::TagExpired)
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
            (Some(pinned), _) => lines.push(pinned.clone()),
            (None, Some(problem)) => {
                lines.push(format!("image \"{}\": {problem} [{}]", self.reference, self.outcome));
            }
            (None, None) => {}
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
    }
}
