//! What is remembered of one object that names images: a small part of it, without what the API server sent beside.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::shelf::Shelved;
use tagpin_domain::mark::{self, Claim, KeyId, Keys, Marks, Seal};
use tagpin_domain::original::{self, Originals};
use tagpin_domain::pin::Revision;
use tagpin_domain::policy::Labels;
use tagpin_domain::slot::{ImageSlot, Kind, SlotKey};
use tagpin_objects::slim::{Slim, SlimKind};

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

/// The mark of one slot's pin, without what the slot itself says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotMark {
    /// Position in the object's slots.
    slot: usize,
    key: KeyId,
    seal: Seal,
    /// The owner that the mark names, when that is not the controller.
    other_owner: Option<Box<str>>,
}

/// The proof that a pin of a pod is ours. Where pins differ, the better proof counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// The mark names this pod's controller, or there is no key yet.
    Mark,
    /// The pod is older than the first mark. It counts for a controller that is older than the pod.
    Age,
    /// The mark names another owner. It counts for a controller that is younger than the pod, and so adopted it.
    MarkOfAnotherOwner,
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
    /// Pods: the marks of their pins.
    pub marks: Vec<SlotMark>,
    /// Number of writes of the spec: 1 for one that is as it was created; 0 where the API server does not count.
    pub generation: i64,
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
        let ours = |key| annotations.and_then(|all| all.get(key)).filter(|_| kind == Kind::Pod);
        let originals = ours(original::ANNOTATION).map(|text| Originals::parse(text)).unwrap_or_default();
        let marks = ours(mark::ANNOTATION).map(|text| Marks::parse(text)).unwrap_or_default();
        let controller = ControllerRef::of(metadata);
        let slots = slots(slim, SlimKind::Object(kind));
        // An object without a time of creation is older than nothing.
        let created = metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |created| created.0);
        Some(Self {
            kind,
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            created,
            labels: slim.labels(SlimKind::Object(kind)),
            marks: slot_marks(&slots, &originals, &marks, controller.as_ref()),
            generation: metadata.generation.unwrap_or_default(),
            controller,
            slots,
            originals,
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
        Some(self.revision_of(&self.controller.as_ref()?.uid))
    }

    fn revision_of(&self, controller: &str) -> Revision {
        Revision::of(&self.namespace, controller, |label| self.labels.get(label).map(String::as_str))
    }

    /// Returns true if the pins of this pod count without a mark: there is no key, or the pod is older than the first
    /// mark and nobody has written its spec since. The API server counts writes of the spec from Kubernetes 1.33 on;
    /// nobody can choose that count or the time of creation.
    #[must_use]
    pub fn needs_no_mark(&self, keys: Option<&Keys>) -> bool {
        keys.is_none_or(|keys| self.created < keys.since() && self.generation <= 1)
    }

    /// Returns the proof that the pin in the slot at this position is ours; none when nothing proves it.
    #[must_use]
    pub fn proof(&self, slot: usize, keys: Option<&Keys>) -> Option<Proof> {
        let held = self.slots.get(slot)?.image_slot();
        let (reference, digest) = self.originals.pin_of(&held)?;
        let Some(keys) = keys else { return Some(Proof::Mark) };
        if self.needs_no_mark(Some(keys)) {
            return Some(Proof::Age);
        }
        let mark = self.marks.iter().find(|mark| mark.slot == slot)?;
        let (proof, owner) = match &mark.other_owner {
            None => (Proof::Mark, self.controller.as_ref().map_or("", |controller| &controller.uid)),
            Some(owner) => (Proof::MarkOfAnotherOwner, &**owner),
        };
        let revision = (!owner.is_empty()).then(|| self.revision_of(owner));
        let claim = Claim::new(&self.namespace, revision.as_ref(), &held.key, reference, &digest);
        keys.verify(&claim, mark.key, mark.seal).then_some(proof)
    }

    /// Returns the keys that its marks were made with.
    pub fn mark_keys(&self) -> impl Iterator<Item = KeyId> {
        self.marks.iter().map(|mark| mark.key)
    }
}

/// The marks of the slots that carry the digest that their mark names.
fn slot_marks(
    slots: &[Slot],
    originals: &Originals,
    marks: &Marks,
    controller: Option<&ControllerRef>,
) -> Vec<SlotMark> {
    let owner = controller.map_or("", |controller| &controller.uid);
    let of = |(position, slot): (usize, &Slot)| {
        let mark = marks.of(&slot.key)?;
        let (_, digest) = originals.pin_of(&slot.image_slot())?;
        (digest == mark.digest).then(|| SlotMark {
            slot: position,
            key: mark.key,
            seal: mark.seal,
            other_owner: Some(mark.owner).filter(|marked| **marked != *owner),
        })
    };
    slots.iter().enumerate().filter_map(of).collect()
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
