//! What is reviewed: one object as far as policies look at it, slot by slot. It judges nothing.

use std::sync::Arc;

use crate::asker::Asker;
use crate::digest::Digest;
use crate::mark::{Mark, Marks, Provenance};
use crate::original::Originals;
use crate::pin::Revision;
use crate::policy::Labels;
use crate::slot::{ImageSlot, Kind, SlotKey};

/// Which question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// What to pin: slots that will be refused stay as they are.
    Mutate,
    /// What to say: both strings of a pinned slot are judged and the stricter wins.
    Validate,
}

/// The top-level validated owner of the object, for `match.kinds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopOwner {
    /// This kind (the object itself when nothing validated owns it).
    Known(Kind),
    /// An owner is named that could not be found in time: every `kinds` matches.
    Unknown,
}

/// Who controls the pod directly, for `pin.owners`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// Nobody: a bare pod, or a workload.
    None,
    /// A kind that is validated itself.
    BuiltIn,
    /// A custom resource.
    Foreign,
}

/// What suggestions may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suggestions {
    /// None: nobody reads them (children).
    Off,
    /// Only what is cached (dry runs).
    Cached,
    /// Within the budget.
    Ask,
}

/// One slot of the object under review, and how it came to be what it is.
#[derive(Debug, Clone)]
pub struct SlotUnderReview {
    /// The slot as the object has it now.
    pub slot: ImageSlot,
    /// The string differs from the old object's (always on CREATE).
    pub changed: bool,
    /// Another revision of the same workload carries this reference in this slot.
    pub carried: bool,
    /// The reference that our valid annotation entry gives for this slot: the slot is that plus `@` and a digest.
    pub original: Option<Arc<str>>,
    /// We pinned the slot, but it carries no digest any more: a later webhook undid the pin.
    pub undone: bool,
    /// The old object's string, when it is this slot's reference pinned by us: the author applied the same
    /// reference again, and /mutate puts the pin back.
    pub reapplied: Option<Arc<str>>,
    /// The mark of the pin that the slot carries, or gets back.
    pub mark: Option<Mark>,
}

/// The content of our annotations on one pod, and its proof.
#[derive(Debug, Clone, Copy)]
pub struct Annotated<'a> {
    /// The slots that we pinned.
    pub originals: &'a Originals,
    /// The marks of these pins.
    pub marks: &'a Marks,
    /// The facts that the marks are checked against.
    pub provenance: Provenance<'a>,
}

impl Annotated<'_> {
    /// The mark that goes with this digest.
    fn mark_of(&self, slot: &SlotKey, digest: &Digest) -> Option<Mark> {
        self.marks.of(slot).filter(|mark| mark.digest == *digest)
    }
}

impl SlotUnderReview {
    /// A slot of an object that is new, or of one that runs already; workloads have no annotations of ours.
    #[must_use]
    pub fn new(slot: ImageSlot, annotated: Annotated<'_>, carried: bool) -> Self {
        let pin = annotated.originals.pin_of(&slot);
        let mark = pin.as_ref().and_then(|(_, digest)| annotated.mark_of(&slot.key, digest));
        let original = pin.map(|(original, _)| Arc::from(original));
        let pinless = slot.image.as_ref().is_ok_and(|image| image.digest().is_none());
        let named = annotated.originals.named(&slot.key).filter(|_| pinless);
        let undone = named.is_some_and(|original| {
            let mark = annotated.marks.of(&slot.key);
            annotated.provenance.proves(&slot.key, original, mark.as_ref())
        });
        Self { slot, changed: true, carried, original, undone, reapplied: None, mark }
    }

    /// The same, beside the slot of the same name in the old object.
    #[must_use]
    pub fn after(mut self, old: &ImageSlot, annotated: Annotated<'_>) -> Self {
        self.changed = old.reference != self.slot.reference;
        let pin = annotated.originals.pin_of(old).filter(|(original, _)| *original == &*self.slot.reference);
        if let Some((original, digest)) = pin {
            let mark = annotated.mark_of(&old.key, &digest);
            if annotated.provenance.proves(&old.key, original, mark.as_ref()) {
                (self.reapplied, self.mark) = (Some(Arc::clone(&old.reference)), mark);
            }
        }
        self
    }

    /// What the author wrote: the original of a pinned slot, else the slot's own string.
    #[must_use]
    pub fn written(&self) -> &Arc<str> {
        self.original.as_ref().unwrap_or(&self.slot.reference)
    }
}

/// What is reviewed: one object, as far as policies look at it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The object's kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// The namespace's labels; empty when the namespace is not in the store.
    pub namespace_labels: Labels,
    /// Labels of the pod template, or of the bare pod.
    pub labels: Labels,
    /// For `match.kinds`.
    pub top_owner: TopOwner,
    /// For `pin.owners`.
    pub controller: Controller,
    /// Made by a built-in controller's own identity for a kind that we validate.
    pub child: bool,
    /// The revision whose pods share a digest; none for bare pods and workloads.
    pub revision: Option<Revision>,
    /// Who asks the registry.
    pub asker: Asker,
    /// What suggestions may cost.
    pub suggestions: Suggestions,
    /// Every slot of the object.
    pub slots: Vec<SlotUnderReview>,
}
