//! The page `GET /findings/TOKEN` of a replica: what it refused and left unpinned most often. It names users, so only the
//! holder of the door's token gets it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use tagpin_domain::policy::PolicyId;

use crate::image_policy::Refused;

mod unpinned;

pub use unpinned::{PINS_OLDER, TO_FIND_THE_WEBHOOK, TO_MAKE_ROOM};

/// Path of the page, which ends with the token.
pub const FINDINGS: &str = "/findings";
/// Number of refusals from which a user is refused again and again.
pub const AGAIN: u32 = 10;
/// Reason of an image whose pod is older than the policy.
pub const OLDER_THAN_POLICY: &str = "OlderThanPolicy";
/// Reason of an image whose pod a custom resource controls.
pub const FOREIGN_OWNER: &str = "ForeignOwner";
/// Reason of an image of which no replica remembers a reason.
pub const NOT_REMEMBERED: &str = "NotRemembered";
/// Maximum number of characters of an image on the page and in a status.
pub const IMAGE_SHOWN: usize = 512;
/// Maximum number of characters of a user name on the page and in a status.
pub const USER_SHOWN: usize = 253;

/// The content of the page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Page {
    /// The most frequent refusals.
    pub refused: Vec<RefusedBy>,
    /// Reasons why images of pods got no digest.
    pub unpinned: Vec<LeftUnpinned>,
}

/// Requests that one policy refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedBy {
    /// The namespace of the policy; none for a `ClusterImagePolicy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_namespace: Option<String>,
    /// The name of the policy.
    pub policy: String,
    /// The requests.
    #[serde(flatten)]
    pub refused: Refused,
}

impl RefusedBy {
    /// Returns the identity of the policy.
    #[must_use]
    pub fn id(&self) -> PolicyId {
        PolicyId { namespace: self.policy_namespace.clone(), name: self.policy.clone() }
    }
}

/// The reason why an image of a pod got no digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftUnpinned {
    /// The namespace of the pod.
    pub namespace: String,
    /// The name of the container or volume.
    pub slot: String,
    /// The image as its author wrote it.
    pub image: String,
    /// The code of the reason.
    pub code: String,
    /// Time of the last such pod.
    pub last: Timestamp,
}
