//! Every way to say no: the stable code, the first line and the remedy, side by side. It does not judge, and
//! it lays out no message; `message` does.

use std::fmt;

use crate::fact::{Broken, Fact, Unavailable};
use crate::hint;
use crate::image::{ImageRef, ReferenceErrorKind};
use crate::policy::Rule;
use crate::requirement::{REFERENCE_LIMIT, SLOT_LIMIT};

/// Characters of a name that are shown (Kubernetes names are at most 253).
const NAME_LIMIT: usize = 253;
/// Characters of a host or repository that are shown.
const HOST_LIMIT: usize = 255;

/// The stable word of a violation. It is the same in messages, audit annotations, metric labels, causes and JSON,
/// and is never renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// Not a reference that a node could pull, or a node-local image ID.
    ReferenceInvalid,
    /// The object names more than 64 different references, or more than 1000 in all.
    TooManyImages,
    /// The object cannot be read, as it is too large or names too many images.
    ReviewUnreadable,
    /// The tag is forbidden.
    TagForbidden,
    /// No tag is written.
    TagNotExplicit,
    /// The repository has no such tag.
    TagNotFound,
    /// The registry has no such repository.
    RepositoryNotFound,
    /// The registry does not tell which of the two it is.
    RepositoryMissingOrPrivate,
    /// The credentials are good, the right is missing.
    AccessDenied,
    /// The credentials are not good.
    CredentialsRejected,
    /// The registry asks to come back later.
    RateLimited,
    /// The registry gave no usable answer.
    RegistryUnavailable,
    /// The host or its address may not be reached.
    RegistryForbidden,
    /// The content does not hash to its digest.
    RegistryAnswerInvalid,
    /// The manifest is none that a node can run.
    ManifestUnsupported,
    /// The pod arrives without the pin that is known for it.
    NotPinned,
    /// A later webhook undid the pin.
    PinUndone,
}

impl Code {
    /// All codes.
    pub const ALL: [Self; 17] = [
        Self::ReferenceInvalid,
        Self::TooManyImages,
        Self::ReviewUnreadable,
        Self::TagForbidden,
        Self::TagNotExplicit,
        Self::TagNotFound,
        Self::RepositoryNotFound,
        Self::RepositoryMissingOrPrivate,
        Self::AccessDenied,
        Self::CredentialsRejected,
        Self::RateLimited,
        Self::RegistryUnavailable,
        Self::RegistryForbidden,
        Self::RegistryAnswerInvalid,
        Self::ManifestUnsupported,
        Self::NotPinned,
        Self::PinUndone,
    ];

    /// The word itself.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReferenceInvalid => "ReferenceInvalid",
            Self::TooManyImages => "TooManyImages",
            Self::ReviewUnreadable => "ReviewUnreadable",
            Self::TagForbidden => "TagForbidden",
            Self::TagNotExplicit => "TagNotExplicit",
            Self::TagNotFound => "TagNotFound",
            Self::RepositoryNotFound => "RepositoryNotFound",
            Self::RepositoryMissingOrPrivate => "RepositoryMissingOrPrivate",
            Self::AccessDenied => "AccessDenied",
            Self::CredentialsRejected => "CredentialsRejected",
            Self::RateLimited => "RateLimited",
            Self::RegistryUnavailable => "RegistryUnavailable",
            Self::RegistryForbidden => "RegistryForbidden",
            Self::RegistryAnswerInvalid => "RegistryAnswerInvalid",
            Self::ManifestUnsupported => "ManifestUnsupported",
            Self::NotPinned => "NotPinned",
            Self::PinUndone => "PinUndone",
        }
    }
}

impl Code {
    /// The rule of a policy that it belongs to.
    #[must_use]
    pub const fn rule(self) -> Rule {
        match self {
            Self::ReferenceInvalid | Self::TooManyImages | Self::ReviewUnreadable => Rule::Reference,
            Self::TagForbidden | Self::TagNotExplicit => Rule::Tags,
            Self::TagNotFound
            | Self::RepositoryNotFound
            | Self::RepositoryMissingOrPrivate
            | Self::AccessDenied
            | Self::CredentialsRejected
            | Self::RateLimited
            | Self::RegistryUnavailable
            | Self::RegistryForbidden
            | Self::RegistryAnswerInvalid
            | Self::ManifestUnsupported => Rule::Existence,
            Self::NotPinned | Self::PinUndone => Rule::Pin,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong with a slot: a value with a code; its sentences are made when somebody reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// [`Code::ReferenceInvalid`]
    ReferenceInvalid(ReferenceErrorKind),
    /// [`Code::TooManyImages`]
    TooManyImages,
    /// [`Code::TagForbidden`]
    TagForbidden,
    /// [`Code::TagNotExplicit`]
    TagNotExplicit,
    /// [`Code::TagNotFound`]
    TagNotFound,
    /// [`Code::TagNotFound`]
    TagExpired,
    /// [`Code::RepositoryNotFound`]
    RepositoryNotFound,
    /// [`Code::RepositoryMissingOrPrivate`]
    RepositoryMissingOrPrivate,
    /// [`Code::AccessDenied`]
    AccessDenied,
    /// [`Code::CredentialsRejected`]
    CredentialsRejected {
        /// The pull secret that was rejected last, when one was used.
        secret: Option<String>,
    },
    /// [`Code::RateLimited`]
    RateLimited,
    /// [`Code::RegistryUnavailable`]
    RegistryUnavailable(Unavailable),
    /// [`Code::RegistryForbidden`]
    RegistryForbidden {
        /// The host that may not be reached.
        host: String,
    },
    /// [`Code::RegistryAnswerInvalid`]
    RegistryAnswerInvalid,
    /// [`Code::ManifestUnsupported`]
    Schema1,
    /// [`Code::ManifestUnsupported`]
    NotAnImage,
    /// [`Code::NotPinned`]
    NotPinned,
    /// [`Code::PinUndone`]
    PinUndone,
}

/// What a person reads of one violation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wording {
    /// The end of the first line: `tag "latest" is forbidden`.
    pub problem: String,
    /// What to do next, or whom to ask.
    pub remedy: String,
}

impl Violation {
    /// What a fact violates for somebody who needs the image; nothing when it is there or was not asked for.
    #[must_use]
    pub fn of(fact: &Fact) -> Option<Self> {
        Some(match fact {
            Fact::Present(_) | Fact::Offline => return None,
            Fact::TagMissing => Self::TagNotFound,
            Fact::TagExpired => Self::TagExpired,
            Fact::RepositoryMissing => Self::RepositoryNotFound,
            Fact::Broken(Broken::HashMismatch) => Self::RegistryAnswerInvalid,
            Fact::Broken(Broken::Schema1) => Self::Schema1,
            Fact::Broken(Broken::NotAnImage) => Self::NotAnImage,
            Fact::MissingOrPrivate => Self::RepositoryMissingOrPrivate,
            Fact::AccessDenied => Self::AccessDenied,
            Fact::CredentialsRejected { secret } => Self::CredentialsRejected { secret: secret.clone() },
            Fact::AddressForbidden { host } => Self::RegistryForbidden { host: host.clone() },
            Fact::RateLimited { .. } => Self::RateLimited,
            Fact::Unavailable { cause, .. } => Self::RegistryUnavailable(*cause),
        })
    }

    /// The stable word.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::ReferenceInvalid(_) => Code::ReferenceInvalid,
            Self::TooManyImages => Code::TooManyImages,
            Self::TagForbidden => Code::TagForbidden,
            Self::TagNotExplicit => Code::TagNotExplicit,
            Self::TagNotFound | Self::TagExpired => Code::TagNotFound,
            Self::RepositoryNotFound => Code::RepositoryNotFound,
            Self::RepositoryMissingOrPrivate => Code::RepositoryMissingOrPrivate,
            Self::AccessDenied => Code::AccessDenied,
            Self::CredentialsRejected { .. } => Code::CredentialsRejected,
            Self::RateLimited => Code::RateLimited,
            Self::RegistryUnavailable(_) => Code::RegistryUnavailable,
            Self::RegistryForbidden { .. } => Code::RegistryForbidden,
            Self::RegistryAnswerInvalid => Code::RegistryAnswerInvalid,
            Self::Schema1 | Self::NotAnImage => Code::ManifestUnsupported,
            Self::NotPinned => Code::NotPinned,
            Self::PinUndone => Code::PinUndone,
        }
    }

    /// The sentences, about the reference as the author wrote it. They hold nothing that a registry wrote.
    #[must_use]
    pub fn wording(&self, reference: &str) -> Wording {
        let named = Named::of(reference);
        let Named { name, tag, repository, host, .. } = &named;
        let (problem, remedy) = match self {
            Self::ReferenceInvalid(kind) => (
                kind.to_string(),
                match kind {
                    ReferenceErrorKind::UpperCase => "write the repository's name in lower case".into(),
                    _ => "write REPOSITORY:TAG or HOST/REPOSITORY:TAG, as nginx:1.29.3".into(),
                },
            ),
            Self::TooManyImages => (
                format!(
                    "the object names more than {REFERENCE_LIMIT} different images, or more than {SLOT_LIMIT} in all; \
                     this is beyond them"
                ),
                format!("split the object, so that each names at most {REFERENCE_LIMIT} different images"),
            ),
            Self::TagForbidden if named.tag_is_omitted => (
                format!("no tag is written, that means \"{tag}\", which is forbidden"),
                format!("write the tag of a version, as {name}:VERSION"),
            ),
            Self::TagForbidden => (
                format!("tag \"{tag}\" is forbidden"),
                format!("write the tag of a version, as {name}:VERSION"),
            ),
            Self::TagNotExplicit => {
                ("no tag is written".into(), format!("write the tag that you mean, as {name}:VERSION"))
            }
            Self::TagNotFound => (
                format!("tag \"{tag}\" does not exist in {repository}"),
                "check the tag; when it was pushed a moment ago, apply again in 10 s".into(),
            ),
            Self::TagExpired => (
                format!("tag \"{tag}\" was in {repository}, and was deleted there or has expired"),
                "write a tag that is there; who runs the repository may be able to bring this one back"
                    .into(),
            ),
            Self::RepositoryNotFound => (
                format!("{repository} does not exist"),
                "check the name; when it was pushed a moment ago, apply again in 10 s".into(),
            ),
            Self::RepositoryMissingOrPrivate => (
                format!("{repository} does not exist or is private"),
                format!(
                    "check the name; if it is private, give the pod or its service account a pull secret for {host} \
                     (imagePullSecrets)"
                ),
            ),
            Self::AccessDenied => (
                format!("{host} does not let the credentials of this pod read {repository}"),
                format!("ask the owner of {repository} to let the user of the pull secret read it"),
            ),
            Self::CredentialsRejected { secret: Some(secret) } => {
                let secret = shown(secret, NAME_LIMIT);
                (
                    format!("{host} rejected the credentials of pull secret \"{secret}\""),
                    format!(
                        "renew the pull secret \"{secret}\" for {host}; it is used for public images too"
                    ),
                )
            }
            Self::CredentialsRejected { secret: None } => (
                format!("{host} rejected the credentials that are configured for it"),
                format!(
                    "ask the cluster admin to renew the credentials of the entry for {host} in `registries:`"
                ),
            ),
            Self::RateLimited => (
                format!("{host} limits how often it may be asked, and the limit is reached"),
                format!("wait, or give the pod a pull secret for {host}: its user has a limit of its own"),
            ),
            Self::RegistryUnavailable(cause) => unavailable(*cause, &named),
            Self::RegistryForbidden { host } => {
                let host = shown(host, HOST_LIMIT);
                (
                    format!("tagpin may not reach {host}"),
                    format!(
                        "ask the cluster admin to add registries: [{{ match: \"{host}\", allowPrivate: true }}] \
                         to the values of tagpin"
                    ),
                )
            }
            Self::RegistryAnswerInvalid => (
                format!("what {host} serves does not have the digest that it says"),
                format!("push the image again; if that does not help, ask who runs {host}"),
            ),
            Self::Schema1 => (
                "the image has a manifest of schema 1, which nodes do not run".into(),
                "build and push it again with a current tool".into(),
            ),
            Self::NotAnImage => (
                "this is not an image that a node can run".into(),
                "check the name: charts, signatures and other artifacts are no container images".into(),
            ),
            Self::NotPinned => (
                "the pod arrived without the digest that is known for it".into(),
                "apply it again; if that does not help, ask the cluster admin whether pin.tagpin.dev answers"
                    .into(),
            ),
            Self::PinUndone => (
                "a webhook that ran after pin.tagpin.dev removed the digest".into(),
                "ask the cluster admin which webhook rewrites images: it must come before zz-tagpin by name"
                    .into(),
            ),
        };
        hint::add(self.code(), reference, Wording { problem, remedy })
    }
}

fn unavailable(cause: Unavailable, named: &Named) -> (String, String) {
    let host = &named.host;
    let reason = match cause {
        Unavailable::Timeout => "it did not answer in time".into(),
        Unavailable::Dns => "its name does not resolve".into(),
        Unavailable::Connect => "no connection to it holds".into(),
        Unavailable::Tls => "its certificate is not trusted, or it does not speak TLS".into(),
        Unavailable::Status(status) => format!("it answered with status {status}"),
        Unavailable::Unreadable => "its answer is none that a registry gives".into(),
        Unavailable::BreakerOpen => "it failed a moment ago and is not asked again yet".into(),
        Unavailable::NotByDigest => "it has the tag and does not give by digest what that names".into(),
        Unavailable::NoCredential => "the cloud that gives tagpin's credential for it gave none".into(),
    };
    let remedy = match cause {
        Unavailable::Dns => format!("check how {host} is written, and that its name resolves on the nodes"),
        Unavailable::Tls => format!(
            "ask the cluster admin to add registries: [{{ match: \"{host}\", tls: {{ caFile: PATH }} }}] to the \
             values of tagpin"
        ),
        Unavailable::Unreadable => format!("check that {host} is a registry"),
        Unavailable::NotByDigest => {
            format!("pull it once by tag if {host} is a cache of another registry, then try again")
        }
        Unavailable::NoCredential => {
            "ask the cluster admin why: the log of tagpin says it (no credential of the cloud)".into()
        }
        _ => format!("check that {host} runs and that the nodes reach it"),
    };
    (format!("{host} could not be asked: {reason}"), remedy)
}

/// The names in a sentence: parts of the reference that the grammar allows, cut to a limit.
#[derive(Debug)]
struct Named {
    name: String,
    tag: String,
    tag_is_omitted: bool,
    repository: String,
    host: String,
}

impl Named {
    fn of(reference: &str) -> Self {
        match ImageRef::parse(reference) {
            Ok(image) => Self {
                name: shown(image.written_name(), HOST_LIMIT),
                tag: image.effective_tag().unwrap_or_default().to_owned(),
                tag_is_omitted: image.tag().is_none(),
                repository: shown(image.repository(), HOST_LIMIT),
                host: shown(image.domain(), HOST_LIMIT),
            },
            Err(_) => Self {
                name: "NAME".into(),
                tag: String::new(),
                tag_is_omitted: true,
                repository: "the repository".into(),
                host: "the registry".into(),
            },
        }
    }
}

/// A text that others chose, fit for one line: what is not printable ASCII is escaped, quotes too,
/// and it is cut to `limit` characters.
#[must_use]
pub fn shown(text: &str, limit: usize) -> String {
    let mut line = String::with_capacity(text.len().min(limit) + 3);
    for character in text.chars() {
        let start = line.len();
        match character {
            '"' | '\\' => line.extend(['\\', character]),
            ' '..='~' => line.push(character),
            _ => line.extend(character.escape_default()),
        }
        if line.len() > limit {
            line.truncate(start);
            line.push_str("...");
            break;
        }
    }
    line
}
