//! A slot: one place that names an image, and the reference that is written there. Slots do not depend on
//! kinds of documents.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::image::{ImageRef, ReferenceError};

/// The role of an image in its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    /// A container of the workload.
    Container,
    /// A container that runs before the others, sidecars included.
    InitContainer,
    /// A container that is added to a running pod (`kubectl debug`).
    EphemeralContainer,
    /// An image that is mounted as a volume.
    ImageVolume,
}

impl Role {
    /// All roles, in the order in which slots are reported.
    pub const ALL: [Self; 4] =
        [Self::Container, Self::InitContainer, Self::EphemeralContainer, Self::ImageVolume];

    /// Returns the word of the role in the identity of a slot, which is also the list of the pod spec: `containers`.
    #[must_use]
    pub const fn list(self) -> &'static str {
        match self {
            Self::Container => "containers",
            Self::InitContainer => "initContainers",
            Self::EphemeralContainer => "ephemeralContainers",
            Self::ImageVolume => "volumes",
        }
    }

    /// Returns the role as people call it: `init container`.
    #[must_use]
    pub(crate) const fn noun(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::InitContainer => "init container",
            Self::EphemeralContainer => "ephemeral container",
            Self::ImageVolume => "image volume",
        }
    }
}

/// The identity of a slot inside its object: by name, never by position. Displayed as `containers/web`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotKey {
    /// The role of the image.
    pub role: Role,
    /// The name of the container or volume.
    pub name: Arc<str>,
}

impl SlotKey {
    /// Returns the text of the key: `containers/web`.
    #[must_use]
    pub fn text(&self) -> String {
        self.parts().concat()
    }

    /// Returns the parts of the text. They sort as the text does: no list's name is the beginning of another's.
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

/// The error for a text that is not `list/name` of a known list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a slot: expected containers/NAME, initContainers/NAME, ephemeralContainers/NAME or volumes/NAME"
)]
pub struct SlotKeyError;

impl FromStr for SlotKey {
    type Err = SlotKeyError;

    fn from_str(text: &str) -> Result<Self, SlotKeyError> {
        let (list, name) = text.split_once('/').ok_or(SlotKeyError)?;
        let role = Role::ALL.into_iter().find(|role| role.list() == list).ok_or(SlotKeyError)?;
        if name.is_empty() {
            return Err(SlotKeyError);
        }
        Ok(Self { role, name: name.into() })
    }
}

/// The path of a reference in its document: down to a list, an element of the list, and the string in that
/// element. The text of the path is built only when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Field {
    /// The fields from the document down to the object that holds the list: `spec`.
    pub root: &'static [&'static str],
    /// The list: `containers`.
    pub list: &'static str,
    /// The position in the list.
    pub index: usize,
    /// The fields from the element down to the reference: `image`.
    pub leaf: &'static [&'static str],
}

impl Field {
    /// Appends the JSON pointer (RFC 6901): `/spec/containers/0/image`.
    pub fn write_pointer(&self, pointer: &mut String) {
        for part in self.root.iter().chain([&self.list]) {
            pointer.push('/');
            pointer.push_str(part);
        }
        // Writing to memory cannot fail.
        let _ = write!(pointer, "/{}", self.index);
        for part in self.leaf {
            pointer.push('/');
            pointer.push_str(part);
        }
    }
}

/// Displayed as Kubernetes writes field paths: `spec.containers[0].image`.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.root {
            write!(f, "{part}.")?;
        }
        write!(f, "{}[{}]", self.list, self.index)?;
        for part in self.leaf {
            write!(f, ".{part}")?;
        }
        Ok(())
    }
}

/// The place of a slot in its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The identity of the slot inside its object.
    pub key: SlotKey,
    /// The path of the reference.
    pub field: Field,
}

/// One place that names an image, and the reference that is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The place in the document.
    pub place: Place,
    /// The reference exactly as written.
    pub reference: Arc<str>,
    /// The reference as a node understands it, or the reason why no node could pull it.
    pub image: Result<ImageRef, ReferenceError>,
    /// The written `imagePullPolicy` (image volume: `pullPolicy`).
    pub pull: PullPolicy,
    /// True for a container of a pod that names a runtime class, which may run more than container images.
    pub runtime_class: bool,
}

impl Slot {
    /// Returns a slot that holds this reference, without a runtime class.
    #[must_use]
    pub fn new(place: Place, reference: &str, pull: PullPolicy) -> Self {
        let reference = Arc::from(reference);
        let image = ImageRef::of(&reference);
        Self { place, reference, image, pull, runtime_class: false }
    }

    /// Returns the identity of the slot inside its object.
    #[must_use]
    pub const fn key(&self) -> &SlotKey {
        &self.place.key
    }

    /// Returns true if the node never pulls the image, so that it must have the image already.
    #[must_use]
    pub fn never_pulled(&self) -> bool {
        self.pull == PullPolicy::Never
    }

    /// Returns true if this slot asks a node for nothing that the earlier slot did not: the same reference, and no pull
    /// where the earlier slot allowed none.
    #[must_use]
    pub fn repeats(&self, earlier: &Self) -> bool {
        self.reference == earlier.reference && (self.never_pulled() || !earlier.never_pulled())
    }

    /// Returns true if a node that has the image by its tag runs it without asking the registry.
    #[must_use]
    pub fn uses_held(&self) -> bool {
        match self.pull {
            PullPolicy::Always => false,
            PullPolicy::IfNotPresent | PullPolicy::Never => true,
            PullPolicy::Unset => {
                self.image.as_ref().is_ok_and(|image| image.effective_tag() != Some("latest"))
            }
        }
    }

    /// Returns true if the slot is a volume, for which a node unpacks any artifact.
    #[must_use]
    pub(crate) fn mounts_artifacts(&self) -> bool {
        self.key().role == Role::ImageVolume
    }

    /// Returns the part of the reference that a node pulls the image by; none if the reference does not
    /// parse, or if the node must have the image already.
    #[must_use]
    pub fn pulled(&self) -> Option<Pulled> {
        let image = self.image.as_ref().ok().filter(|_| !self.never_pulled())?;
        Some(if image.digest().is_some() { Pulled::ByDigest } else { Pulled::ByTag })
    }
}

/// The rule by which a node pulls an image that it may have already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PullPolicy {
    /// Nothing is written, or a word that Kubernetes refuses. Kubernetes takes an omitted policy as `Always` if the tag
    /// is `latest` or omitted, and as `IfNotPresent` otherwise.
    #[default]
    Unset,
    /// The node asks the registry each time.
    Always,
    /// The node pulls the image only if it does not have it.
    IfNotPresent,
    /// The node uses the image that it has.
    Never,
}

impl PullPolicy {
    /// Returns the policy that this text names.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text {
            "Always" => Self::Always,
            "IfNotPresent" => Self::IfNotPresent,
            "Never" => Self::Never,
            _ => Self::Unset,
        }
    }
}

/// The part of a reference that a node pulls an image by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulled {
    /// The tag, written or implied.
    ByTag,
    /// The digest. A tag beside it is ignored.
    ByDigest,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a container of a pod.
    pub(crate) fn container(name: &str, index: usize, reference: &str) -> Slot {
        let field = Field { root: &["spec"], list: "containers", index, leaf: &["image"] };
        let key = SlotKey { role: Role::Container, name: name.into() };
        Slot::new(Place { key, field }, reference, PullPolicy::Unset)
    }

    #[test]
    fn a_field_is_written_as_a_pointer_and_as_kubernetes_does() {
        let written = |root, list, leaf| {
            let (field, mut pointer) = (Field { root, list, index: 2, leaf }, String::new());
            field.write_pointer(&mut pointer);
            (pointer, field.to_string())
        };
        for (root, list, leaf, pointer, field) in [
            (
                &["spec"][..],
                "containers",
                &["image"][..],
                "/spec/containers/2/image",
                "spec.containers[2].image",
            ),
            (
                &["spec", "jobTemplate", "spec", "template", "spec"],
                "initContainers",
                &["image"],
                "/spec/jobTemplate/spec/template/spec/initContainers/2/image",
                "spec.jobTemplate.spec.template.spec.initContainers[2].image",
            ),
            (
                &["template", "spec"],
                "volumes",
                &["image", "reference"],
                "/template/spec/volumes/2/image/reference",
                "template.spec.volumes[2].image.reference",
            ),
        ] {
            assert_eq!(written(root, list, leaf), (pointer.to_owned(), field.to_owned()));
        }
    }

    #[test]
    fn a_held_image_is_used_unless_the_node_asks_each_time() {
        for (reference, unset) in [
            ("web:1", true),
            ("web:latest", false),
            ("web", false),
            ("localhost:5000/web", false),
            ("WEB:1", false),
        ] {
            let held = |pull| Slot { pull, ..container("web", 0, reference) }.uses_held();
            let all = [PullPolicy::Unset, PullPolicy::Always, PullPolicy::IfNotPresent, PullPolicy::Never];
            assert_eq!(all.map(held), [unset, false, true, true], "{reference}");
        }
    }

    #[test]
    fn a_slot_repeats_an_earlier_one_unless_the_node_may_now_pull() {
        let slot = |reference, pull| Slot { pull, ..container("web", 0, reference) };
        let (never, unset, always) = (PullPolicy::Never, PullPolicy::Unset, PullPolicy::Always);
        for (earlier, now, repeats) in [
            (never, never, true),
            (never, unset, false),
            (never, PullPolicy::IfNotPresent, false),
            (never, always, false),
            (unset, always, true),
            (always, unset, true),
            (always, never, true),
        ] {
            let earlier = slot("web:1", earlier);
            assert_eq!(slot("web:1", now).repeats(&earlier), repeats, "{:?} then {now:?}", earlier.pull);
            assert!(!slot("web:2", now).repeats(&earlier));
        }
    }

    #[test]
    fn slot_names_are_read_back() {
        for role in Role::ALL {
            let key = SlotKey { role, name: "a/b".into() };
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for text in ["", "containers", "containers/", "/web", "Containers/web", "pods/web"] {
            assert_eq!(text.parse::<SlotKey>(), Err(SlotKeyError), "{text}");
        }
    }
}
