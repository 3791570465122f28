//! The mistakes that a reference can have.

use crate::digest::DigestError;

/// The reason why no node could pull a reference, and the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct ReferenceError {
    /// The mistake.
    pub kind: ReferenceErrorKind,
    /// The byte offset in the text at which the mistake was noticed.
    pub offset: usize,
}

/// The mistakes in references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceErrorKind {
    /// Nothing is written.
    #[error("the image reference is empty")]
    Empty,
    /// 64 hexadecimal characters: an image ID, not a name.
    #[error("64 hexadecimal characters are an image ID, not a name that can be pulled")]
    ImageId,
    /// `sha256:…`: names whatever the node has under that ID.
    #[error("this is the ID of an image on one node, which cannot be checked")]
    NodeLocalId,
    /// A URL instead of a reference.
    #[error("an image reference does not start with {0}")]
    Scheme(&'static str),
    /// Upper case in the repository name.
    #[error("the repository name must be lower case")]
    UpperCase,
    /// The host part is not a host and port, or no program can connect to it.
    #[error("the registry host is not valid: write HOST or HOST:PORT")]
    Domain,
    /// The host is a spelling of an IP address that programs read differently.
    #[error("the registry host is an unusual spelling of an IP address; write it as a.b.c.d")]
    AmbiguousAddress,
    /// The repository path does not match the grammar.
    #[error(
        "the repository name is not valid: each part between slashes has a-z and 0-9, joined by single . _ __ or -"
    )]
    Path,
    /// The path is longer than 255 bytes.
    #[error("the repository name is longer than 255 bytes")]
    TooLong,
    /// A colon without a tag.
    #[error("the tag is empty: write it after the colon")]
    TagEmpty,
    /// A second colon.
    #[error("two colons follow the repository name, but a tag has no colon in it")]
    TwoColons,
    /// The tag does not match the grammar.
    #[error(
        "the tag is not valid: it has 1 to 128 letters, digits, _ . or -, and does not start with . or -"
    )]
    Tag,
    /// The digest is not valid.
    #[error("{0}")]
    Digest(DigestError),
}

/// Returns the error for a mistake at this byte offset.
pub(super) const fn err(kind: ReferenceErrorKind, offset: usize) -> ReferenceError {
    ReferenceError { kind, offset }
}
