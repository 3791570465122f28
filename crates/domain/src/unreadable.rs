//! Objects under review that cannot be read, or that the policies cannot be compared with. It is unknown whether such an
//! object keeps the policies, so it is refused wherever an Enforce policy may apply to it.

use crate::policy::PolicyKind;
use crate::requirement::SLOT_LIMIT;

/// The reason why an object cannot be read or checked.
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
    /// The globs and exceptions of the policies of this kind need more steps than they may take for one object.
    TooMuchWork {
        /// The kind of the policies.
        policies: PolicyKind,
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
            Self::TooMuchWork { policies } => {
                let policies = match policies {
                    PolicyKind::ClusterImagePolicy => "ClusterImagePolicies",
                    PolicyKind::ImagePolicy => "ImagePolicies",
                };
                format!(
                    "the object cannot be checked: to compare its images with the {policies} takes too much work"
                )
            }
        }
    }

    /// Returns the remedy for the author of the object, for a message that names the policies before.
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
            Self::TooMuchWork { .. } => {
                "ask the owner of the first policy for fewer globs, and for fewer * in each; or split the object, so that \
                 each part names fewer images"
                    .to_owned()
            }
        }
    }
}
