//! The revision of a workload, whose pods share one digest for each slot.

/// The labels that tell the revisions of a controller apart, in the order in which they count: the label of
/// ReplicaSets, and the label of StatefulSets and DaemonSets.
pub const REVISION_LABELS: [&str; 2] = ["pod-template-hash", CONTROLLER_REVISION_HASH];
/// The label that tells the revisions of a StatefulSet or DaemonSet apart: the name of the ControllerRevision, or the
/// value that this label has there.
pub const CONTROLLER_REVISION_HASH: &str = "controller-revision-hash";

/// The identity that the pods of one workload revision share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The namespace of the pods.
    pub namespace: String,
    /// The UID of the pods' direct controller.
    pub controller: String,
    /// The value of one of the [`REVISION_LABELS`]; empty where the controller is the revision (a Job).
    pub hash: String,
}
