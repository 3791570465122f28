//! An object under review that cannot be read: why, and what its author reads. Nobody knows what such an object would
//! run, so it is refused wherever an Enforce policy may be about it.

use crate::denial::Wording;
use crate::requirement::SLOT_LIMIT;

/// The reason why an object cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// The review of it is larger than so many bytes.
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The object names more than [`SLOT_LIMIT`] images.
    TooManySlots,
    /// The review is not UTF-8.
    NotText,
    /// A field has another type than it should have, or stands there twice, or the JSON is broken.
    Malformed {
        /// Line of the object's JSON, from 1.
        line: usize,
        /// Bytes of that line up to where reading stopped.
        column: usize,
    },
}

impl Unreadable {
    /// The sentences for the author of the object.
    #[must_use]
    pub fn wording(self) -> Wording {
        let unexpected = "ask the cluster admin to report this message: the API server sends no such object";
        let (problem, remedy) = match self {
            Self::TooLarge { limit } => (
                format!(
                    "the object is too large to be checked: its review has more than {} MiB",
                    limit >> 20
                ),
                "move long values of env, args and annotations out of the object, to a ConfigMap or a Secret"
                    .into(),
            ),
            Self::TooManySlots => (
                format!("the object names more than {SLOT_LIMIT} images, which is too many to be checked"),
                format!(
                    "split the object, so that each has at most {SLOT_LIMIT} containers, init containers and image \
                     volumes"
                ),
            ),
            Self::NotText => ("the object is not UTF-8, so it cannot be checked".into(), unexpected.into()),
            Self::Malformed { line, column } => (
                format!(
                    "the object cannot be checked: a field has the wrong type or stands there twice (line {line}, \
                     column {column} of its JSON)"
                ),
                unexpected.into(),
            ),
        };
        Wording { problem, remedy }
    }
}
