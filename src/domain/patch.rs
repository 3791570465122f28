//! Verdicts become replacements: which strings of a pod to write, and what its annotation then says. It knows no
//! JSON patch; `admission` does.

use crate::domain::original::Originals;
use crate::domain::slot::Kind;
use crate::domain::subject::Subject;
use crate::domain::verdict::Verdict;

/// One reference to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// Where it stands (RFC 6901): `/spec/containers/0/image`.
    pub pointer: String,
    /// The new reference.
    pub value: String,
}

/// What becomes of the annotation [`ANNOTATION`](crate::domain::original::ANNOTATION).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Annotation {
    /// It stays as it is, there or not.
    #[default]
    Keep,
    /// It gets this value.
    Set(String),
    /// It goes.
    Remove,
}

/// What /mutate writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    /// In slot order.
    pub replacements: Vec<Replacement>,
    /// For whole pods; the API server drops it on `pods/ephemeralcontainers`.
    pub annotation: Annotation,
}

/// The patch of a pod: new pins, pins put back under a reference that was applied again, and the annotation with
/// these and the entries that still hold. `verdicts` are those of [`Phase::Mutate`](crate::domain::subject::Phase),
/// `annotation` is the pod's present value. Other kinds are never patched.
#[must_use]
pub fn patch(subject: &Subject, verdicts: &[Verdict], annotation: Option<&str>) -> Patch {
    if subject.kind != Kind::Pod {
        return Patch::default();
    }
    let mut replacements = Vec::new();
    let mut originals = Originals::default();
    let mut verdicts = verdicts.iter().peekable();
    for slot in &subject.slots {
        let key = &slot.slot.key;
        // Both lists are in slot order; positions are unique where names of an object not yet validated may not be.
        let verdict = verdicts.next_if(|next| next.slot.role == key.role && next.index == slot.slot.index);
        let pinned = || {
            let digest = &verdict?.pinned.as_ref()?.digest;
            Some(slot.slot.image.as_ref().ok()?.pinned(digest))
        };
        if let Some(value) = slot.reapplied.clone().or_else(pinned) {
            replacements
                .push(Replacement { pointer: key.role.pointer(subject.kind, slot.slot.index), value });
            originals.insert(key, &slot.slot.reference);
        } else if let Some(original) = &slot.original {
            originals.insert(key, original);
        }
    }
    let wanted = (!originals.is_empty()).then(|| originals.to_json());
    let annotation = match (wanted, annotation) {
        (Some(wanted), Some(present)) if wanted == present => Annotation::Keep,
        (Some(wanted), _) => Annotation::Set(wanted),
        (None, Some(_)) => Annotation::Remove,
        (None, None) => Annotation::Keep,
    };
    Patch { replacements, annotation }
}
