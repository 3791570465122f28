//! Every way to say no: the stable code, the first line and the remedy, side by side. It does not judge.

/// The stable word of a violation. It is the same in messages, audit annotations, metric labels, causes and JSON,
/// and is never renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// Not a reference that a node could pull, or a node-local image ID.
    ReferenceInvalid,
    /// The object names more than 64 different references.
    TooManyImages,
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
    pub const ALL: [Self; 16] = [
        Self::ReferenceInvalid,
        Self::TooManyImages,
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
