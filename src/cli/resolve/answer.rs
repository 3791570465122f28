//! The output of `tagpin resolve`: for a person, and as JSON whose fields are stable.

use serde::Serialize;

use crate::cli::asking;
use crate::cli::exit::Exit;
use crate::cli::resolve::trace::Entry;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::{Fact, Unavailable};
use tagpin_domain::image::ImageRef;
use tagpin_domain::platform::Platform;
use tagpin_registry::{DEPTH, ForPlatform as Found, NotInspected, Profiles};

/// The answer about one reference.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    /// The reference as typed.
    reference: String,
    /// The normalised reference, with the tag that is looked up.
    image: String,
    /// `Present`, `Offline`, or the code of a denial.
    outcome: &'static str,
    digest: Option<String>,
    /// The reference with the digest, as a pod would carry it.
    pinned: Option<String>,
    problem: Option<String>,
    remedy: Option<String>,
    /// The reason why the registry gave no usable answer.
    cause: Option<&'static str>,
    retry_after_seconds: Option<u64>,
    did_you_mean: Vec<String>,
    /// The digest that the tag of a reference with another digest names now.
    #[serde(skip_serializing_if = "Option::is_none")]
    tag_names: Option<String>,
    /// The image for the platform, with `--platform`.
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<ForPlatform>,
    /// The answer of the registry without the credential that it refused.
    anonymously: Option<&'static str>,
    pub(super) steps: Vec<Entry>,
    #[serde(skip)]
    exit: Exit,
}

/// The image that a node of a platform gets.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ForPlatform {
    wanted: String,
    /// The digest, if there is such an image.
    digest: Option<String>,
    /// The platforms that the image has.
    has: Vec<String>,
}

impl Answer {
    pub(super) fn new(
        image: &ImageRef,
        fact: &Fact,
        registries: &dyn Profiles,
        similar: Vec<String>,
    ) -> Self {
        let digest = match fact {
            Fact::Present(digest) => Some(digest),
            _ => None,
        };
        let (problem, remedy) = asking::problem(image, fact, registries).unzip();
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
            tag_names: None,
            platform: None,
            anonymously: None,
            steps: Vec::new(),
            exit: asking::exit(fact),
        }
    }

    /// Returns true if a list of similar tags would help.
    pub(super) const fn wants_similar(fact: &Fact) -> bool {
        matches!(fact, Fact::TagMissing | Fact::TagExpired)
    }

    /// Adds the answer about the tag of a reference that has this digest too.
    pub(super) fn tell_tag(&mut self, digest: &Digest, fact: &Fact) {
        self.tag_names = match fact {
            Fact::Present(other) if other != digest => Some(other.to_string()),
            _ => None,
        };
    }

    /// Adds the image that a node of this platform gets.
    pub(super) fn tell_platform(&mut self, wanted: &Platform, found: Result<Found, NotInspected>) {
        const UNKNOWN: &str = "cannot find out the platforms of the image";
        let Found { digest, has } = match found {
            Ok(found) => found,
            Err(why) => {
                self.problem = Some(match &why {
                    NotInspected::Instead(_) => UNKNOWN.to_owned(),
                    NotInspected::TooDeep => {
                        format!("{UNKNOWN}: its indexes are nested more than {DEPTH} deep")
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

    /// Adds the answer of the registry without the credential that it refused.
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
        if let Some(other) = &self.tag_names {
            lines.push(format!("  the tag names {other} now; nodes pull the digest that is written"));
        }
        if let Some(ForPlatform { wanted, digest, .. }) = &self.platform {
            lines.extend(digest.iter().map(|digest| format!("  {wanted}: {digest}")));
        }
        if self.anonymously == Some("Present") {
            lines.push(
                "  the tag can be read without the credential: remove the credential or renew it".to_owned(),
            );
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
        Unavailable::PullSecret => "PullSecret",
        Unavailable::ServiceAccount => "ServiceAccount",
        Unavailable::NotInCache => "NotInCache",
        Unavailable::NoTagList => "NoTagList",
        Unavailable::Busy => "Busy",
        Unavailable::Proxy => "Proxy",
    }
}
