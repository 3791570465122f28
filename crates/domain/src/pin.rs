//! The revision of a workload, whose pods share one digest for each slot.

/// What the pods of one workload revision share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The namespace of the pods.
    pub namespace: String,
    /// The UID of the pods' direct controller.
    pub controller: String,
    /// `pod-template-hash`, `controller-revision-hash`, or empty where the controller is the revision (a Job).
    pub hash: String,
}

impl Revision {
    /// The revision of a pod that has a controller with this UID, by the pod's own labels.
    #[must_use]
    pub fn of<L: AsRef<str>>(namespace: &str, controller: &str, label: impl Fn(&str) -> Option<L>) -> Self {
        let hash = ["pod-template-hash", "controller-revision-hash"].into_iter().find_map(label);
        Self {
            namespace: namespace.to_owned(),
            controller: controller.to_owned(),
            hash: hash.map(|hash| hash.as_ref().to_owned()).unwrap_or_default(),
        }
    }
}
