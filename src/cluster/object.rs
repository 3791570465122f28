//! What is remembered of one object that names images: a small part of it, without what the API server sent beside.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster::shelf::Shelved;
use crate::domain::original::{ANNOTATION, Originals};
use crate::domain::pin::Revision;
use crate::domain::policy::Labels;
use crate::domain::slot::{ImageSlot, Kind, SlotKey};
use crate::k8s::slim::{Slim, SlimKind};

/// The owner reference with `controller: true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerRef {
    /// The controller's kind when the slot table has it; none for custom resources.
    pub kind: Option<Kind>,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl ControllerRef {
    /// From the fields of an owner reference: `apps/v1`, `ReplicaSet`, `web-5d4f`, UID.
    #[must_use]
    pub fn new(api_version: &str, kind: &str, name: &str, uid: &str) -> Self {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        Self { kind: Kind::find(group, kind), name: name.to_owned(), uid: uid.to_owned() }
    }

    fn of(metadata: &ObjectMeta) -> Option<Self> {
        let mut owners = metadata.owner_references.iter().flatten();
        let owner = owners.find(|owner| owner.controller == Some(true))?;
        Some(Self::new(&owner.api_version, &owner.kind, &owner.name, &owner.uid))
    }
}

/// One slot as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Which slot.
    pub key: SlotKey,
    /// Position in its list.
    pub index: usize,
    /// Exactly what is written there.
    pub reference: String,
    /// The node takes what it has.
    pub never_pulled: bool,
}

impl Slot {
    /// With the reference parsed.
    #[must_use]
    pub fn image_slot(&self) -> ImageSlot {
        ImageSlot::new(self.key.role, &self.key.name, self.index, &self.reference, self.never_pulled)
    }
}

/// One object of a kind of the slot table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// When it was created, by the API server's clock.
    pub created: Timestamp,
    /// Who controls it.
    pub controller: Option<ControllerRef>,
    /// Labels of the pod template, or of the pod.
    pub labels: Labels,
    /// Every slot that names an image.
    pub slots: Vec<Slot>,
    /// Pods: what our annotation says of them.
    pub originals: Originals,
    /// The pull secrets that the pod or template names, in its order.
    pub pull_secrets: Vec<String>,
    /// The pod or Job has ended and will not run again.
    pub ended: bool,
}

impl Object {
    /// What is remembered of an object of this kind; none of one without a name, a namespace or a UID, which no API
    /// server sends.
    #[must_use]
    pub fn new(kind: Kind, slim: &Slim) -> Option<Self> {
        let metadata = &slim.metadata;
        let annotations = metadata.annotations.as_ref();
        let original = annotations.and_then(|all| all.get(ANNOTATION)).filter(|_| kind == Kind::Pod);
        let created = metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |created| created.0);
        Some(Self {
            kind,
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            created,
            controller: ControllerRef::of(metadata),
            labels: slim.labels(SlimKind::Object(kind)),
            slots: slots(slim, SlimKind::Object(kind)),
            originals: original.map(|text| Originals::parse(text)).unwrap_or_default(),
            pull_secrets: slim.pull_secrets(SlimKind::Object(kind)),
            ended: slim.ended(kind),
        })
    }

    /// The kind of its controller, when the slot table has it.
    #[must_use]
    pub fn controller_kind(&self) -> Option<Kind> {
        self.controller.as_ref()?.kind
    }

    /// The revision that a pod shares its digests with; none for bare pods.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        let controller = self.controller.as_ref()?;
        Some(Revision::of(&self.namespace, &controller.uid, |label| {
            self.labels.get(label).map(String::as_str)
        }))
    }
}

impl Shelved for Object {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn controller_uid(&self) -> Option<&str> {
        Some(self.controller.as_ref()?.uid.as_str())
    }
}

/// One ControllerRevision, as far as it names images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldRevision {
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// The StatefulSet or DaemonSet.
    pub controller: Option<ControllerRef>,
    /// The slots of the template that it keeps.
    pub slots: Vec<Slot>,
}

impl OldRevision {
    /// What is remembered of a ControllerRevision.
    #[must_use]
    pub fn new(slim: &Slim) -> Option<Self> {
        Some(Self {
            namespace: slim.metadata.namespace.clone()?,
            uid: slim.metadata.uid.clone()?,
            controller: ControllerRef::of(&slim.metadata),
            slots: slots(slim, SlimKind::ControllerRevision),
        })
    }
}

fn slots(slim: &Slim, kind: SlimKind) -> Vec<Slot> {
    let slots = slim.slots(kind).into_iter().map(|slot| Slot {
        key: SlotKey { role: slot.role, name: slot.name.into() },
        index: slot.index,
        reference: slot.reference.to_owned(),
        never_pulled: slot.never_pulled,
    });
    slots.collect()
}

impl Shelved for OldRevision {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn controller_uid(&self) -> Option<&str> {
        Some(self.controller.as_ref()?.uid.as_str())
    }
}
