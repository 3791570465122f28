//! One object of the cluster that names images, reduced to the small part that is kept.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::budget::{Budget, Charge};
use crate::item::Unreadable;
use crate::metadata::{KeptLabels, LABELS};
use crate::shelf::Shelved;
use crate::slim::Slim;
use tagpin_domain::mark::{self, Claim, KeyId, Keys, Marks, Seal};
use tagpin_domain::original::{self, Originals};
use tagpin_domain::pin::{CONTROLLER_REVISION_HASH, REVISION_LABELS};
use tagpin_domain::slot::Slot;
use tagpin_domain::workload::{ControllerRef, LabelSet, Labels, Workload};
use tagpin_json::Malformed;
use tagpin_objects::kinds::{CONTROLLER_REVISIONS, DAEMON_SET, Kinds, Row, STATEFUL_SET};
use tagpin_objects::reader::Template;

/// The mark of one slot's pin, without the facts that the slot itself holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlotMark {
    /// Position in the object's slots.
    slot: usize,
    key: KeyId,
    seal: Seal,
    /// The owner that the mark names, if it is not the controller.
    other_owner: Option<Box<str>>,
}

/// The proof that tagpin made a pin of a pod, the strongest first. Where pins differ, the strongest proof
/// counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// The mark names this pod's controller, or there is no key yet.
    Mark,
    /// The pod is older than the first mark. This proof does not count for a controller that is younger than
    /// the pod.
    Age,
    /// The mark names another owner. This proof counts for a controller that is younger than the pod and so
    /// adopted it.
    MarkOfAnotherOwner,
}

/// One object of a kind in the table of kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The object, without the marks of its pins.
    pub workload: Workload,
    /// Creation time, by the API server's clock.
    pub created: Timestamp,
    /// Number of writes of the spec: 1 for a spec that was never changed, 0 if the API server does not count.
    pub generation: i64,
    /// True for a pod or Job that has ended and will not run again.
    pub ended: bool,
    /// The marks of a pod's pins.
    marks: Vec<SlotMark>,
    /// Number of bytes of tagpin's annotations.
    annotated: usize,
    charge: Charge,
}

impl Stored {
    /// Returns the part of an object of this kind that is kept; none for an object without a name, a
    /// namespace or a UID, which no API server sends.
    ///
    /// # Errors
    /// Fails if the pod template cannot be read.
    pub fn new(kinds: &Kinds, row: &'static Row, slim: &Slim) -> Result<Option<Self>, Box<Unreadable>> {
        let metadata = &slim.metadata;
        let (Some(namespace), Some(name), Some(uid)) = (&metadata.namespace, &metadata.name, &metadata.uid)
        else {
            return Ok(None);
        };
        let template = template(row, slim)?;
        let labels = match row.is_pod() {
            true => metadata.label_set(),
            false => template_labels(&template),
        };
        let annotations = metadata.annotations.as_ref();
        let ours = |key| annotations.and_then(|all| all.get(key)).filter(|_| row.is_pod());
        let originals = ours(original::ANNOTATION).map(|text| Originals::parse(text)).unwrap_or_default();
        let marks = ours(mark::ANNOTATION).map(|text| Marks::parse(text)).unwrap_or_default();
        let revision_hash = REVISION_LABELS.into_iter().find_map(|label| labels.known.get(label)).cloned();
        let workload = Workload {
            uid: uid.clone(),
            labels,
            controller: controller(kinds, metadata),
            revision_hash: revision_hash.filter(|_| row.is_pod()).unwrap_or_default(),
            service_account: template.service_account().to_owned(),
            pull_secrets: template.pull_secrets().to_vec(),
            slots: template.slots(row),
            originals,
            ..Workload::new(row.kind, row.is_pod(), namespace, name)
        };
        Ok(Some(Self {
            marks: slot_marks(&workload, &marks),
            annotated: [original::ANNOTATION, mark::ANNOTATION]
                .into_iter()
                .filter_map(ours)
                .map(String::len)
                .sum(),
            charge: Charge::default(),
            workload,
            // An object without a creation time counts as the youngest.
            created: metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |created| created.0),
            generation: metadata.generation.unwrap_or_default(),
            ended: slim.ended(row),
        }))
    }

    /// Returns the object with room for it in the budget. `before` is the version that is held now.
    ///
    /// # Errors
    /// Fails if there is no room.
    pub(crate) fn charged(
        self,
        budget: &Budget,
        before: Option<&Self>,
        metadata: &ObjectMeta,
    ) -> Result<Self, Box<Unreadable>> {
        let before = before.map(|before| &before.charge);
        let charge = budget.take(&self.workload.namespace, self.bytes(), before);
        let charge = charge.map_err(|refused| Box::new(Unreadable::without_room(metadata, refused)))?;
        Ok(Self { charge, ..self })
    }

    /// Returns about the number of bytes that the object takes in the stores.
    fn bytes(&self) -> usize {
        let Workload { namespace, name, uid, labels, controller, revision_hash, service_account, .. } =
            &self.workload;
        let texts =
            [namespace, name, revision_hash, service_account].map(String::len).into_iter().sum::<usize>();
        let secrets = self.workload.pull_secrets.iter().map(|secret| TEXT + secret.len()).sum::<usize>();
        let annotated = self.annotated * ANNOTATED + self.marks.len() * size_of::<SlotMark>();
        let parts = [texts, secrets, annotated, label_bytes(&labels.known), slot_bytes(&self.workload.slots)];
        size_of::<Self>() + shelf_bytes(uid, controller.as_ref()) + parts.into_iter().sum::<usize>()
    }

    /// Returns true if the pins of this pod count without a mark: there is no key, or the pod is older than
    /// the first mark and nobody has written its spec since. The API server counts writes of the spec from
    /// Kubernetes 1.33 on. Nobody can choose that count or the creation time.
    #[must_use]
    pub(crate) fn needs_no_mark(&self, keys: Option<&Keys>) -> bool {
        keys.is_none_or(|keys| self.created < keys.since() && self.generation <= 1)
    }

    /// Returns the proof that tagpin made the pin in the slot at this position; none if nothing proves it.
    #[must_use]
    pub(crate) fn proof(&self, slot: usize, keys: Option<&Keys>) -> Option<Proof> {
        let workload = &self.workload;
        let held = workload.slots.get(slot)?;
        let (reference, digest) = workload.originals.pin_of(held)?;
        let Some(keys) = keys else { return Some(Proof::Mark) };
        if self.needs_no_mark(Some(keys)) {
            return Some(Proof::Age);
        }
        let mark = self.marks.iter().find(|mark| mark.slot == slot)?;
        let (proof, owner) = match &mark.other_owner {
            None => (Proof::Mark, workload.controller.as_ref().map_or("", |controller| &controller.uid)),
            Some(owner) => (Proof::MarkOfAnotherOwner, &**owner),
        };
        let revision = (!owner.is_empty()).then(|| workload.revision_of(owner));
        let claim = Claim::new(&workload.namespace, revision.as_ref(), held.key(), reference, &digest);
        keys.verify(&claim, mark.key, mark.seal).then_some(proof)
    }

    /// Returns the keys with which the object's marks were made.
    pub(crate) fn mark_keys(&self) -> impl Iterator<Item = KeyId> {
        self.marks.iter().map(|mark| mark.key)
    }
}

/// Returns the marks of the slots whose image has the digest that the mark names.
fn slot_marks(workload: &Workload, marks: &Marks) -> Vec<SlotMark> {
    let owner = workload.controller.as_ref().map_or("", |controller| &controller.uid);
    let of = |(position, slot): (usize, &Slot)| {
        let mark = marks.of(slot.key())?;
        let (_, digest) = workload.originals.pin_of(slot)?;
        (digest == mark.digest).then(|| SlotMark {
            slot: position,
            key: mark.key,
            seal: mark.seal,
            other_owner: Some(mark.owner).filter(|marked| **marked != *owner),
        })
    };
    workload.slots.iter().enumerate().filter_map(of).collect()
}

fn controller(kinds: &Kinds, metadata: &ObjectMeta) -> Option<ControllerRef> {
    let mut owners = metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    Some(kinds.controller(&owner.api_version, &owner.kind, &owner.name, &owner.uid))
}

/// Number of bytes that a text takes beside its characters.
const TEXT: usize = 32;
/// Number of bytes of the places of an object in the maps of a store.
const PLACE: usize = 256;
/// Number of bytes of a node of a map of labels, and the number of labels in a node that is half full.
const NODE: (usize, usize) = (560, 6);
/// Number of bytes for each byte of tagpin's annotations: the entries, and the keys under which pins are found.
const ANNOTATED: usize = 4;

/// Returns the number of bytes that labels take.
pub(crate) fn label_bytes(labels: &Labels) -> usize {
    let (node, labels_of_node) = NODE;
    let texts = labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    labels.len().div_ceil(labels_of_node) * node + texts
}

/// Returns the number of bytes that slots take.
fn slot_bytes(slots: &[Slot]) -> usize {
    let bytes = |slot: &Slot| {
        // The reference and its normalised name, and a digest, which has a text of its own.
        let reference = 2 * (TEXT + slot.reference.len());
        size_of::<Slot>() + TEXT + slot.key().name.len() + reference
    };
    slots.iter().map(bytes).sum()
}

/// Returns the number of bytes that the place of an object with this UID and controller takes.
fn shelf_bytes(uid: &str, controller: Option<&ControllerRef>) -> usize {
    let owner = controller.map_or(0, |owner| 2 * (TEXT + owner.uid.len()) + TEXT + owner.name.len());
    PLACE + 3 * (TEXT + uid.len()) + owner
}

/// Returns the labels of a template up to the limit.
fn template_labels(template: &Template<'_>) -> LabelSet {
    let mut kept = KeptLabels::default();
    template.each_label(&mut |key, value| kept.add(key, value, LABELS));
    LabelSet { known: kept.labels, whole: !kept.cut }
}

fn template<'a>(row: &Row, slim: &'a Slim) -> Result<Template<'a>, Box<Unreadable>> {
    let Some((name, json)) = slim.template_field(row) else { return Ok(Template::default()) };
    Template::of_field(row, json).map_err(|Malformed { line, column }| {
        Box::new(Unreadable::of_field(&slim.metadata, name, json, line, column))
    })
}

impl Shelved for Stored {
    fn uid(&self) -> &str {
        &self.workload.uid
    }

    fn controller_uid(&self) -> Option<&str> {
        Some(self.workload.controller.as_ref()?.uid.as_str())
    }
}

/// One ControllerRevision, reduced to the images that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldRevision {
    /// The namespace.
    pub namespace: String,
    /// The UID.
    pub uid: String,
    /// The StatefulSet or DaemonSet that the revision belongs to.
    pub controller: Option<ControllerRef>,
    /// The label value of the revision's pods, as the built-in controllers write it.
    pub(crate) hash: Option<Box<str>>,
    /// The slots of the template that the revision keeps.
    pub slots: Vec<Slot>,
    /// The labels of that template, as far as they are kept.
    pub(crate) labels: LabelSet,
    charge: Charge,
}

impl OldRevision {
    /// Returns the part of a ControllerRevision that is kept. Its data can be any JSON: the controllers of
    /// custom resources keep revisions of their own making. Data of another shape has no slots.
    #[must_use]
    pub fn new(kinds: &Kinds, slim: &Slim) -> Option<Self> {
        let (row, metadata) = (&CONTROLLER_REVISIONS, &slim.metadata);
        let controller = controller(kinds, metadata);
        let hash = match controller.as_ref().and_then(|controller| controller.kind) {
            Some(STATEFUL_SET) => metadata.name.as_ref(),
            Some(DAEMON_SET) => {
                metadata.labels.as_ref().and_then(|labels| labels.get(CONTROLLER_REVISION_HASH))
            }
            _ => None,
        };
        let template = template(row, slim).unwrap_or_default();
        let labels = template_labels(&template);
        Some(Self {
            namespace: metadata.namespace.clone()?,
            uid: metadata.uid.clone()?,
            hash: hash.map(|hash| hash.as_str().into()),
            controller,
            slots: template.slots(row),
            labels,
            charge: Charge::default(),
        })
    }

    /// Returns the revision with room for it in the budget. `before` is the version that is held now.
    ///
    /// # Errors
    /// Fails if there is no room.
    pub(crate) fn charged(
        self,
        budget: &Budget,
        before: Option<&Self>,
        metadata: &ObjectMeta,
    ) -> Result<Self, Box<Unreadable>> {
        let Self { namespace, uid, controller, hash, slots, labels, .. } = &self;
        let texts = namespace.len() + hash.as_ref().map_or(0, |hash| hash.len());
        let parts =
            [texts, shelf_bytes(uid, controller.as_ref()), label_bytes(&labels.known), slot_bytes(slots)];
        let bytes = size_of::<Self>() + parts.iter().sum::<usize>();
        let charge = budget.take(namespace, bytes, before.map(|before| &before.charge));
        let charge = charge.map_err(|refused| Box::new(Unreadable::without_room(metadata, refused)))?;
        Ok(Self { charge, ..self })
    }
}

impl Shelved for OldRevision {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn controller_uid(&self) -> Option<&str> {
        Some(self.controller.as_ref()?.uid.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use allocation_counter::measure;
    use serde_json::{Value, json};
    use tagpin_objects::kinds::{DEPLOYMENT, PODS};

    use super::*;
    use crate::shelf::Shelf;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Returns an ordinary pod with this many containers.
    fn pod(containers: usize) -> Value {
        let name = |number: usize| format!("container-{number}");
        let image = |number: usize| format!("registry.example.com/team/service-{number}:v1.2.3");
        let pinned: Vec<_> = (0..containers)
            .map(|number| json!({ "name": name(number), "image": format!("{}@sha256:{HEX}", image(number)) }))
            .collect();
        let originals: Value = (0..containers)
            .map(|number| (format!("containers/{}", name(number)), json!(image(number))))
            .collect();
        let labels = json!({ "app.kubernetes.io/name": "service", "app.kubernetes.io/instance": "shop", "pod-template-hash": "5d4f8c7b9" });
        let owner = json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "service-5d4f8c7b9", "uid": HEX.get(..36), "controller": true }]);
        json!({
            "metadata": {
                "name": "service-5d4f8c7b9-x2v7p", "namespace": "shop", "uid": HEX.get(28..), "labels": labels, "ownerReferences": owner,
                "annotations": { original::ANNOTATION: originals.to_string() },
            },
            "spec": { "containers": pinned, "imagePullSecrets": [{ "name": "pull" }] },
        })
    }

    fn template(labels: usize, images: usize) -> Value {
        let labels: Value = (0..labels).map(|number| (format!("l{number}"), json!("v"))).collect();
        let image = |number| json!({ "name": format!("c{number}"), "image": format!("a/b:{number}") });
        let spec = json!({ "containers": (0..images).map(image).collect::<Vec<_>>() });
        json!({
            "metadata": { "name": "t", "namespace": "shop", "uid": "u" },
            "spec": { "template": { "metadata": { "labels": labels }, "spec": spec } },
        })
    }

    /// Returns the bytes that an object is counted with, and those that it takes in memory.
    fn counted_and_taken(row: &'static Row, object: &Value) -> (usize, usize) {
        let kinds = Kinds::default();
        let text = object.to_string();
        let (mut shelf, mut counted) = (Shelf::default(), 0);
        let allocated = measure(|| {
            let slim = serde_json::from_str::<Slim>(&text).unwrap();
            let stored = Stored::new(&kinds, row, &slim).unwrap().unwrap();
            counted = stored.bytes();
            shelf.put(Arc::new(stored));
        });
        (counted, usize::try_from(allocated.bytes_current).unwrap())
    }

    #[test]
    fn an_object_is_counted_with_about_the_memory_that_it_takes() {
        let kinds = Kinds::default();
        let deployment = kinds.row(DEPLOYMENT).unwrap();
        let mut wrong = Vec::new();
        for (name, row, object) in [
            ("pod of one", &PODS, pod(1)),
            ("pod of three", &PODS, pod(3)),
            ("pod of thirty", &PODS, pod(30)),
            ("bare", &PODS, json!({ "metadata": { "name": "a", "namespace": "b", "uid": "c" } })),
            ("template", deployment, template(10, 2)),
            ("template of labels", deployment, template(100_000, 1)),
            ("template of images", deployment, template(1, 900)),
        ] {
            let (counted, taken) = counted_and_taken(row, &object);
            println!("{name}: counted {counted}, taken {taken}");
            if counted * 10 < taken * 9 || counted > taken * 3 {
                wrong.push((name, counted, taken));
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
