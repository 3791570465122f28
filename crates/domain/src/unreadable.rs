//! Objects under review that cannot be read. The images of such an object are unknown, so it is refused
//! wherever an Enforce policy may apply to it.

use crate::requirement::SLOT_LIMIT;

/// The reason why an object cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// The admission review is too large.
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The object names more than [`SLOT_LIMIT`] images.
    TooManySlots,
    /// The admission review is not UTF-8.
    NotText,
    /// A field has the wrong type or occurs twice, or the JSON is broken.
    Malformed {
        /// The line of the object's JSON, counted from 1.
        line: usize,
        /// Number of bytes of that line before the place where reading stopped.
        column: usize,
    },
}

impl Unreadable {
    /// Returns the problem, as the end of a first line.
    #[must_use]
    pub fn problem(self) -> String {
        match self {
            Self::TooLarge { limit } => format!(
                "the object is too large to check: its admission review is larger than {} MiB",
                limit >> 20
            ),
            Self::TooManySlots => {
                format!("the object names more than {SLOT_LIMIT} images, which is too many to check")
            }
            Self::NotText => "the object cannot be checked: it is not UTF-8".to_owned(),
            Self::Malformed { line, column } => format!(
                "the object cannot be checked: a field has the wrong type or occurs twice (line {line}, column {column} \
                 of its JSON)"
            ),
        }
    }

    /// Returns the remedy for the author of the object.
    #[must_use]
    pub fn remedy(self) -> String {
        match self {
            Self::TooLarge { .. } => {
                "move long values of env, args and annotations to a ConfigMap or a Secret".to_owned()
            }
            Self::TooManySlots => format!(
                "split the object, so that each part has at most {SLOT_LIMIT} containers, init containers and image \
                 volumes"
            ),
            Self::NotText | Self::Malformed { .. } => {
                "ask the cluster admin to report this message: the API server never sends such an object"
                    .to_owned()
            }
        }
    }
}
