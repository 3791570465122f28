//! The values that every contender reads from a review.

/// The annotations that have a meaning for tagpin.
pub(super) const OUR_ANNOTATIONS: [&str; 3] = ["tagpin.dev/original", "tagpin.dev/mark", "tagpin.dev/canary"];
/// The annotation that marks mirror pods, which stand for static pods.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
/// The group of every node's user.
pub(super) const NODES: &str = "system:nodes";

/// The values that every contender has to find in a review.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) uid: String,
    pub(super) user: String,
    pub(super) is_node: bool,
    pub(super) name: String,
    pub(super) controller: Option<String>,
    pub(super) labels: usize,
    pub(super) other_annotations: usize,
    pub(super) service_account: String,
    pub(super) pull_secrets: Vec<String>,
    /// List, position, name and reference of each image.
    pub(super) images: Vec<(usize, usize, String, String)>,
    pub(super) object_bytes: Option<usize>,
}
