//! The part of a reference that a registry is asked for: a tag, or a digest.

use crate::protocol::manifest::{self, Head};
use crate::wire::message::HttpResponse;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::Fact;
use tagpin_domain::image::ImageRef;

/// The part of a reference that the registry is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reference<'a> {
    Tag(&'a str),
    Digest(&'a Digest),
}

impl<'a> Reference<'a> {
    /// Returns the digest of the image, or else its tag; none if it has neither.
    pub(super) fn of(image: &'a ImageRef) -> Option<Self> {
        image.digest().map(Self::Digest).or_else(|| image.effective_tag().map(Self::Tag))
    }

    /// Returns the text in the URL of the manifest.
    pub(super) fn as_str(self) -> &'a str {
        match self {
            Self::Tag(tag) => tag,
            Self::Digest(digest) => digest.as_str(),
        }
    }

    /// Returns the fact that the repository does not have it.
    pub(super) const fn missing(self) -> Fact {
        match self {
            Self::Tag(_) => Fact::TagMissing,
            Self::Digest(_) => Fact::DigestMissing,
        }
    }

    /// Returns the result of a 200 to HEAD; none if only the body can tell.
    pub(super) fn of_head(self, answer: &HttpResponse) -> Option<Head> {
        let head = manifest::of_head(answer)?;
        match (self, &head.fact) {
            // The header is wrong, or the content is.
            (Self::Digest(asked), Fact::Present(named)) if asked != named => None,
            _ => Some(head),
        }
    }

    /// Returns the fact of a 200 to GET.
    pub(super) fn of_body(self, answer: &HttpResponse) -> Fact {
        match self {
            Self::Tag(_) => manifest::of_body(answer),
            Self::Digest(digest) => match manifest::of_digest(answer, digest) {
                Ok(_) => Fact::Present(digest.clone()),
                Err(fact) => fact,
            },
        }
    }
}
