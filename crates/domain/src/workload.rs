//! A workload: one object that names images, whatever document or store it was read from.

use std::collections::BTreeMap;

use crate::kind::Kind;
use crate::mark::Marks;
use crate::original::Originals;
use crate::pin::Revision;
use crate::slot::Slot;

pub use foreign::{ForeignKind, Served, is_custom_group};
pub use owners::Ascent;

mod foreign;
mod owners;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// The owner reference with `controller: true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerRef {
    /// The controller's kind if it is validated; none for custom resources.
    pub kind: Option<Kind>,
    /// The controller's kind if it is not validated.
    pub foreign: Option<Box<ForeignKind>>,
    /// The controller's name.
    pub name: String,
    /// The controller's UID.
    pub uid: String,
}

/// The label by which the API server names each namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// A fact that may not be known in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known<T> {
    /// The fact.
    Yes(T),
    /// The fact is not known.
    Unknown,
}

/// Labels, of which some may not be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelSet {
    /// The labels that are known.
    pub known: Labels,
    /// True if there are no others.
    pub whole: bool,
}

impl Default for LabelSet {
    fn default() -> Self {
        Self::whole(Labels::new())
    }
}

impl LabelSet {
    /// Returns labels beside which there are no others.
    #[must_use]
    pub const fn whole(known: Labels) -> Self {
        Self { known, whole: true }
    }

    /// Returns the labels of the namespace with this name. If nothing has reported them, only the label that the API
    /// server sets is known.
    #[must_use]
    pub fn of_namespace(name: &str, labels: Option<Labels>) -> Self {
        let by_name = || Labels::from([(NAMESPACE_NAME.to_owned(), name.to_owned())]);
        Self { whole: labels.is_some(), known: labels.unwrap_or_else(by_name) }
    }
}

/// One object that names images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The kind of the object.
    pub kind: Kind,
    /// True for a pod, which is pinned; every other object holds a template of pods.
    pub is_pod: bool,
    /// The namespace of the object.
    pub namespace: String,
    /// The name of the object; empty while the API server has still to generate it.
    pub name: String,
    /// The UID of the object; empty before it is stored.
    pub uid: String,
    /// The labels of the pod template, or of the pod, as far as they are kept.
    pub labels: LabelSet,
    /// The controller of the object.
    pub controller: Option<ControllerRef>,
    /// The value of the label that tells the revisions of a pod's controller apart
    /// ([`REVISION_LABELS`](crate::pin::REVISION_LABELS)); empty if there is none.
    pub revision_hash: String,
    /// The service account of the pods; empty means `default`.
    pub service_account: String,
    /// The pull secrets that the pod or template names, in their order.
    pub pull_secrets: Vec<String>,
    /// Every slot that names an image.
    pub slots: Vec<Slot>,
    /// The pins that tagpin's annotation on a pod records.
    pub originals: Originals,
    /// The marks of these pins.
    pub marks: Marks,
}

impl Workload {
    /// Returns a workload without slots, controller, labels or pins.
    #[must_use]
    pub fn new(kind: Kind, is_pod: bool, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            is_pod,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: String::new(),
            labels: LabelSet::default(),
            controller: None,
            revision_hash: String::new(),
            service_account: String::new(),
            pull_secrets: Vec::new(),
            slots: Vec::new(),
            originals: Originals::default(),
            marks: Marks::default(),
        }
    }

    /// Returns the revision whose pods share digests with this pod; none for bare pods and for templates.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        let controller = self.controller.as_ref().filter(|_| self.is_pod)?;
        Some(self.revision_of(&controller.uid))
    }

    /// Returns the revision that the pod would have under the controller with this UID.
    #[must_use]
    pub fn revision_of(&self, controller: &str) -> Revision {
        Revision {
            namespace: self.namespace.clone(),
            controller: controller.to_owned(),
            hash: self.revision_hash.clone(),
        }
    }

    /// Returns the kind of the controller if it is validated.
    #[must_use]
    pub fn controller_kind(&self) -> Option<Kind> {
        self.controller.as_ref()?.kind
    }
}
