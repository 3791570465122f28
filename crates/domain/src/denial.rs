//! Every violation and its stable code. `verdict` judges; `wording` has the sentences.

use std::fmt;

use crate::check::Rule;
use crate::fact::{Broken, Fact, ForbiddenHost, Hidden, Realm, Unavailable};
use crate::image::ReferenceErrorKind;

/// The stable word for a violation. It is the same in messages, audit annotations, metric labels, causes and JSON,
/// and is never renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// No node could pull the reference, or it is an image ID of one node.
    ReferenceInvalid,
    /// The object names more than 64 different references, or more than 1000 images in all.
    TooManyImages,
    /// The object is malformed, too large or names too many images, so that tagpin cannot read it.
    ReviewUnreadable,
    /// The tag is forbidden.
    TagForbidden,
    /// No tag is written.
    TagNotExplicit,
    /// The repository has no such tag.
    TagNotFound,
    /// The repository has no such digest.
    DigestNotFound,
    /// The image is in the archive of the registry.
    ImageArchived,
    /// The registry has no such repository.
    RepositoryNotFound,
    /// The registry does not tell whether the repository is missing or private.
    RepositoryMissingOrPrivate,
    /// The registry accepts the credentials, which may not read the repository.
    AccessDenied,
    /// The registry rejects the credentials.
    CredentialsRejected,
    /// The rate limit of the registry is reached.
    RateLimited,
    /// The registry gave no usable answer.
    RegistryUnavailable,
    /// tagpin may not reach the host or its address.
    RegistryForbidden,
    /// The content does not hash to its digest.
    RegistryAnswerInvalid,
    /// No node can run what the manifest describes.
    ManifestUnsupported,
    /// The pod arrives without a digest that is known.
    NotPinned,
    /// The annotations of the pod leave no room for the pin.
    AnnotationsFull,
    /// A later webhook undid the pin.
    PinUndone,
}

impl Code {
    /// All codes, in the order in which the documentation lists them.
    pub const ALL: [Self; 20] = [
        Self::ReferenceInvalid,
        Self::TooManyImages,
        Self::ReviewUnreadable,
        Self::TagForbidden,
        Self::TagNotExplicit,
        Self::TagNotFound,
        Self::DigestNotFound,
        Self::ImageArchived,
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
        Self::AnnotationsFull,
        Self::PinUndone,
    ];

    /// Returns the word for the code: `TagForbidden`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReferenceInvalid => "ReferenceInvalid",
            Self::TooManyImages => "TooManyImages",
            Self::ReviewUnreadable => "ReviewUnreadable",
            Self::TagForbidden => "TagForbidden",
            Self::TagNotExplicit => "TagNotExplicit",
            Self::TagNotFound => "TagNotFound",
            Self::DigestNotFound => "DigestNotFound",
            Self::ImageArchived => "ImageArchived",
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
            Self::AnnotationsFull => "AnnotationsFull",
            Self::PinUndone => "PinUndone",
        }
    }
}

impl Code {
    /// Returns the rule of a policy that the code belongs to.
    #[must_use]
    pub const fn rule(self) -> Rule {
        match self {
            Self::ReferenceInvalid | Self::TooManyImages | Self::ReviewUnreadable => Rule::Reference,
            Self::TagForbidden | Self::TagNotExplicit => Rule::Tags,
            Self::TagNotFound
            | Self::DigestNotFound
            | Self::ImageArchived
            | Self::RepositoryNotFound
            | Self::RepositoryMissingOrPrivate
            | Self::AccessDenied
            | Self::CredentialsRejected
            | Self::RateLimited
            | Self::RegistryUnavailable
            | Self::RegistryForbidden
            | Self::RegistryAnswerInvalid
            | Self::ManifestUnsupported => Rule::Existence,
            Self::NotPinned | Self::AnnotationsFull | Self::PinUndone => Rule::Pin,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One problem of one slot. Its sentences are built only when they are read.
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
    /// [`Code::TagNotFound`]: a node has the image, and may run it.
    TagOnlyOnNodes,
    /// [`Code::DigestNotFound`]
    DigestNotFound,
    /// [`Code::ImageArchived`]
    ImageArchived {
        /// True while the registry restores the image.
        restoring: bool,
    },
    /// [`Code::RepositoryNotFound`]
    RepositoryNotFound,
    /// [`Code::RepositoryNotFound`]: a node has the image, and may run it.
    RepositoryOnlyOnNodes,
    /// [`Code::RepositoryMissingOrPrivate`]
    RepositoryMissingOrPrivate(Hidden),
    /// [`Code::AccessDenied`]
    AccessDenied(Hidden),
    /// [`Code::CredentialsRejected`]
    CredentialsRejected {
        /// The pull secret that was rejected last, if one was used.
        secret: Option<String>,
    },
    /// [`Code::RateLimited`]
    RateLimited,
    /// [`Code::RegistryUnavailable`]
    RegistryUnavailable(Unavailable),
    /// [`Code::RegistryForbidden`]
    RegistryForbidden(Box<ForbiddenHost>),
    /// [`Code::RegistryForbidden`]
    RealmNotTrusted(Box<Realm>),
    /// [`Code::RegistryAnswerInvalid`]
    RegistryAnswerInvalid,
    /// [`Code::ManifestUnsupported`]
    Schema1,
    /// [`Code::ManifestUnsupported`]
    NotAnImage,
    /// [`Code::NotPinned`]
    NotPinned,
    /// [`Code::AnnotationsFull`]
    AnnotationsFull {
        /// Number of bytes by which the annotations would be too large with the pin.
        excess: usize,
    },
    /// [`Code::PinUndone`]
    PinUndone,
}

impl Violation {
    /// Returns the violation that a fact means for somebody who needs the image; none if the tag exists or no
    /// registry was asked.
    #[must_use]
    pub fn of(fact: &Fact) -> Option<Self> {
        Some(match fact {
            Fact::Present(_) | Fact::Offline => return None,
            Fact::TagMissing => Self::TagNotFound,
            Fact::TagExpired => Self::TagExpired,
            Fact::DigestMissing => Self::DigestNotFound,
            Fact::Archived { restoring } => Self::ImageArchived { restoring: *restoring },
            Fact::RepositoryMissing => Self::RepositoryNotFound,
            Fact::Broken(Broken::HashMismatch) => Self::RegistryAnswerInvalid,
            Fact::Broken(Broken::Schema1) => Self::Schema1,
            Fact::Broken(Broken::NotAnImage) | Fact::Artifact { .. } => Self::NotAnImage,
            Fact::MissingOrPrivate(hidden) => Self::RepositoryMissingOrPrivate(hidden.clone()),
            Fact::AccessDenied(hidden) => Self::AccessDenied(hidden.clone()),
            Fact::CredentialsRejected { secret } => Self::CredentialsRejected { secret: secret.clone() },
            Fact::AddressForbidden(host) => Self::RegistryForbidden(host.clone()),
            Fact::RealmNotTrusted(realm) => Self::RealmNotTrusted(realm.clone()),
            Fact::RateLimited { .. } => Self::RateLimited,
            Fact::Unavailable { cause, .. } => Self::RegistryUnavailable(*cause),
        })
    }

    /// Returns the violation that remains when a node has the image; none if that changes nothing.
    #[must_use]
    pub(crate) const fn on_a_node(&self) -> Option<Self> {
        match self {
            Self::TagNotFound | Self::TagExpired => Some(Self::TagOnlyOnNodes),
            Self::RepositoryNotFound => Some(Self::RepositoryOnlyOnNodes),
            _ => None,
        }
    }

    /// Returns the code of the violation.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::ReferenceInvalid(_) => Code::ReferenceInvalid,
            Self::TooManyImages => Code::TooManyImages,
            Self::TagForbidden => Code::TagForbidden,
            Self::TagNotExplicit => Code::TagNotExplicit,
            Self::TagNotFound | Self::TagExpired | Self::TagOnlyOnNodes => Code::TagNotFound,
            Self::DigestNotFound => Code::DigestNotFound,
            Self::ImageArchived { .. } => Code::ImageArchived,
            Self::RepositoryNotFound | Self::RepositoryOnlyOnNodes => Code::RepositoryNotFound,
            Self::RepositoryMissingOrPrivate(_) => Code::RepositoryMissingOrPrivate,
            Self::AccessDenied(_) => Code::AccessDenied,
            Self::CredentialsRejected { .. } => Code::CredentialsRejected,
            Self::RateLimited => Code::RateLimited,
            Self::RegistryUnavailable(_) => Code::RegistryUnavailable,
            Self::RegistryForbidden(_) | Self::RealmNotTrusted(_) => Code::RegistryForbidden,
            Self::RegistryAnswerInvalid => Code::RegistryAnswerInvalid,
            Self::Schema1 | Self::NotAnImage => Code::ManifestUnsupported,
            Self::NotPinned => Code::NotPinned,
            Self::AnnotationsFull { .. } => Code::AnnotationsFull,
            Self::PinUndone => Code::PinUndone,
        }
    }
}

/// Returns a text that others wrote, in a form that fits into one line: quotes and everything that is not
/// printable ASCII are escaped, and the text is cut to `limit` characters.
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
