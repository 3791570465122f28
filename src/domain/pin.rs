//! The digest chosen for a slot of one workload revision: how it is looked up. It stores nothing.

use crate::domain::asker::Asker;
use crate::domain::digest::Digest;
use crate::domain::fact::LastKnown;
use crate::domain::image::ImageRef;
use crate::domain::slot::SlotKey;

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

/// The pins of sibling pods, from memory: it is asked on the admission path before any registry.
pub trait Pins: Send + Sync {
    /// The digest that the oldest pod of a revision carries by a pin of ours in this slot, for a reference as its author
    /// wrote it, without a digest.
    fn sibling(&self, revision: &Revision, slot: &SlotKey, reference: &str) -> Option<Digest>;
}

/// Digests that our own pins on pods remember, for when a registry can not be asked.
pub trait Seeds: Send + Sync {
    /// What this reference named by the pins of pods in the asker's namespace that use the same pull secrets; its age
    /// counts from the creation of the youngest pod that carries the digest.
    fn last_known(&self, image: &ImageRef, asker: &Asker) -> Option<LastKnown>;
}
