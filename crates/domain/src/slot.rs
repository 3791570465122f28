//! The places in an object that name images, and THE table of kinds that have them.
//!
//! Everything that must know "where is the pod spec of a CronJob" reads this table:
//! admission, the watches, the webhook rules and the match conditions.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::image::{ImageRef, ReferenceError};

/// A place that names an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SlotRole {
    /// The image of a container.
    Container,
    /// The image of an init container, sidecars included.
    InitContainer,
    /// The image of an ephemeral container.
    EphemeralContainer,
    /// The reference of an image volume.
    ImageVolume,
}

impl SlotRole {
    /// All roles, in the order in which slots are reported.
    pub const ALL: [Self; 4] =
        [Self::Container, Self::InitContainer, Self::EphemeralContainer, Self::ImageVolume];

    /// The list of the pod spec that holds such slots: `containers`.
    #[must_use]
    pub const fn list(self) -> &'static str {
        match self {
            Self::Container => "containers",
            Self::InitContainer => "initContainers",
            Self::EphemeralContainer => "ephemeralContainers",
            Self::ImageVolume => "volumes",
        }
    }

    /// The path of the reference inside one element of that list.
    #[must_use]
    pub const fn path(self) -> &'static [&'static str] {
        match self {
            Self::Container | Self::InitContainer | Self::EphemeralContainer => &["image"],
            Self::ImageVolume => &["image", "reference"],
        }
    }

    /// As a person calls it: `init container`.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::InitContainer => "init container",
            Self::EphemeralContainer => "ephemeral container",
            Self::ImageVolume => "image volume",
        }
    }
}

impl SlotRole {
    /// Writes the JSON pointer of a reference in an object of this kind (RFC 6901): `/spec/containers/0/image`.
    pub fn write_pointer(self, kind: Kind, index: usize, pointer: &mut String) {
        for part in kind.pod_spec_path() {
            pointer.push('/');
            pointer.push_str(part);
        }
        pointer.push('/');
        pointer.push_str(self.list());
        pointer.push('/');
        // Writing to memory can not fail.
        let _ = write!(pointer, "{index}");
        for part in self.path() {
            pointer.push('/');
            pointer.push_str(part);
        }
    }

    /// The field path as Kubernetes writes it in causes: `spec.containers[0].image`.
    #[must_use]
    pub fn field(self, kind: Kind, index: usize) -> String {
        format!("{}.{}[{index}].{}", kind.pod_spec_path().join("."), self.list(), self.path().join("."))
    }
}

/// A slot's identity inside its object: by name, never by position. Displayed as `containers/web`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotKey {
    /// Which list.
    pub role: SlotRole,
    /// The container's or volume's name.
    pub name: Arc<str>,
}

impl SlotKey {
    /// As it is displayed: `containers/web`.
    #[must_use]
    pub fn text(&self) -> String {
        self.parts().concat()
    }

    /// The parts of the text. They sort as the text does: no list's name is the beginning of another's.
    #[must_use]
    pub fn parts(&self) -> [&str; 3] {
        [self.role.list(), "/", &self.name]
    }
}

impl fmt::Display for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// The text is not `list/name` of a known list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a slot: expected containers/NAME, initContainers/NAME, ephemeralContainers/NAME or volumes/NAME"
)]
pub struct SlotKeyError;

impl FromStr for SlotKey {
    type Err = SlotKeyError;

    fn from_str(text: &str) -> Result<Self, SlotKeyError> {
        let (list, name) = text.split_once('/').ok_or(SlotKeyError)?;
        let role = SlotRole::ALL.into_iter().find(|role| role.list() == list).ok_or(SlotKeyError)?;
        if name.is_empty() {
            return Err(SlotKeyError);
        }
        Ok(Self { role, name: name.into() })
    }
}

/// One place that names an image, and what is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSlot {
    /// Which slot of the object.
    pub key: SlotKey,
    /// Position in its list; with the kind it gives the JSON pointer and the field path.
    pub index: usize,
    /// The reference exactly as written.
    pub reference: Arc<str>,
    /// What it means to a node, or why no node could pull it.
    pub image: Result<ImageRef, ReferenceError>,
    /// `imagePullPolicy: Never` (image volume: `pullPolicy: Never`): the node takes what it has.
    pub never_pulled: bool,
}

impl ImageSlot {
    /// A slot holding this reference.
    #[must_use]
    pub fn new(role: SlotRole, name: &str, index: usize, reference: &str, never_pulled: bool) -> Self {
        let reference = Arc::from(reference);
        let image = ImageRef::of(&reference);
        Self { key: SlotKey { role, name: name.into() }, index, reference, image, never_pulled }
    }

    /// Returns what a node pulls the image by; none if the reference does not parse, or if the node must have the image
    /// already.
    #[must_use]
    pub fn pulled(&self) -> Option<Pulled> {
        let image = self.image.as_ref().ok().filter(|_| !self.never_pulled)?;
        Some(if image.digest().is_some() { Pulled::ByDigest } else { Pulled::ByTag })
    }
}

/// The part of a reference that a node pulls an image by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulled {
    /// The tag, written or implied.
    ByTag,
    /// The digest. A tag beside it is not looked at.
    ByDigest,
}

/// The kinds that hold a pod spec and that we validate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// core/v1
    Pod,
    /// apps/v1
    Deployment,
    /// apps/v1
    StatefulSet,
    /// apps/v1
    DaemonSet,
    /// apps/v1
    ReplicaSet,
    /// core/v1
    ReplicationController,
    /// batch/v1
    Job,
    /// batch/v1
    CronJob,
    /// core/v1
    PodTemplate,
}

impl Kind {
    /// Every kind of the table.
    pub const ALL: [Self; 9] = [
        Self::Pod,
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::ReplicaSet,
        Self::ReplicationController,
        Self::Job,
        Self::CronJob,
        Self::PodTemplate,
    ];

    /// The API group; the core group is empty. All kinds are of version `v1`.
    #[must_use]
    pub const fn group(self) -> &'static str {
        match self {
            Self::Pod | Self::ReplicationController | Self::PodTemplate => "",
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::ReplicaSet => "apps",
            Self::Job | Self::CronJob => "batch",
        }
    }

    /// The kind's name: `Deployment`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::ReplicationController => "ReplicationController",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::PodTemplate => "PodTemplate",
        }
    }

    /// The plural resource name: `deployments`.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Pod => "pods",
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
            Self::ReplicaSet => "replicasets",
            Self::ReplicationController => "replicationcontrollers",
            Self::Job => "jobs",
            Self::CronJob => "cronjobs",
            Self::PodTemplate => "podtemplates",
        }
    }

    /// Where the object that carries the pod's labels and annotations is: the pod template, or the pod itself.
    #[must_use]
    pub const fn template_path(self) -> &'static [&'static str] {
        match self {
            Self::Pod => &[],
            Self::Deployment
            | Self::StatefulSet
            | Self::DaemonSet
            | Self::ReplicaSet
            | Self::ReplicationController
            | Self::Job => &["spec", "template"],
            Self::CronJob => &["spec", "jobTemplate", "spec", "template"],
            Self::PodTemplate => &["template"],
        }
    }

    /// Where the pod spec is.
    #[must_use]
    pub const fn pod_spec_path(self) -> &'static [&'static str] {
        match self {
            Self::Pod => &["spec"],
            Self::Deployment
            | Self::StatefulSet
            | Self::DaemonSet
            | Self::ReplicaSet
            | Self::ReplicationController
            | Self::Job => &["spec", "template", "spec"],
            Self::CronJob => &["spec", "jobTemplate", "spec", "template", "spec"],
            Self::PodTemplate => &["template", "spec"],
        }
    }

    /// The kind of this group and name, when the table has it.
    #[must_use]
    pub fn find(group: &str, name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name && kind.group() == group)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_found_in_each_kind() {
        let at = |role: SlotRole, kind| {
            let mut pointer = String::new();
            role.write_pointer(kind, 2, &mut pointer);
            (pointer, role.field(kind, 2))
        };
        for (role, kind, pointer, field) in [
            (SlotRole::Container, Kind::Pod, "/spec/containers/2/image", "spec.containers[2].image"),
            (
                SlotRole::InitContainer,
                Kind::CronJob,
                "/spec/jobTemplate/spec/template/spec/initContainers/2/image",
                "spec.jobTemplate.spec.template.spec.initContainers[2].image",
            ),
            (
                SlotRole::ImageVolume,
                Kind::PodTemplate,
                "/template/spec/volumes/2/image/reference",
                "template.spec.volumes[2].image.reference",
            ),
        ] {
            assert_eq!(at(role, kind), (pointer.to_owned(), field.to_owned()));
        }
    }

    #[test]
    fn slot_names_are_read_back() {
        for role in SlotRole::ALL {
            let key = SlotKey { role, name: "a/b".into() };
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for text in ["", "containers", "containers/", "/web", "Containers/web", "pods/web"] {
            assert_eq!(text.parse::<SlotKey>(), Err(SlotKeyError), "{text}");
        }
    }

    #[test]
    fn a_kind_is_found_by_group_and_name_together() {
        for kind in Kind::ALL {
            assert_eq!(Kind::find(kind.group(), kind.name()), Some(kind));
        }
        assert_eq!(Kind::find("", "Deployment"), None);
        assert_eq!(Kind::find("apps", "deployment"), None);
        assert_eq!(Kind::find("apps.kruise.io", "StatefulSet"), None);
    }
}
