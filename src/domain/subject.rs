//! What is reviewed: one object as far as policies look at it, slot by slot. It judges nothing.

use std::sync::Arc;

use crate::domain::asker::Asker;
use crate::domain::original::Originals;
use crate::domain::pin::Revision;
use crate::domain::policy::Labels;
use crate::domain::slot::{ImageSlot, Kind};

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
    /// The annotation names the slot, but the slot carries no digest: a later webhook undid the pin.
    pub undone: bool,
    /// The old object's string, when it is this slot's reference pinned by us: the author applied the same
    /// reference again, and /mutate puts the pin back.
    pub reapplied: Option<Arc<str>>,
}

impl SlotUnderReview {
    /// Compares a slot with the slot of the same name in the old object. The annotations are those of the new and
    /// of the old pod; workloads have none of ours.
    #[must_use]
    pub fn new(
        slot: ImageSlot,
        originals: &Originals,
        old: Option<(&ImageSlot, &Originals)>,
        carried: bool,
    ) -> Self {
        let changed = old.is_none_or(|(old, _)| old.reference != slot.reference);
        let reapplied = old
            .filter(|(old, originals)| originals.of(old) == Some(&*slot.reference))
            .map(|(old, _)| Arc::clone(&old.reference));
        let original = originals.of(&slot).map(Arc::from);
        let pinless = slot.image.as_ref().is_ok_and(|image| image.digest().is_none());
        let undone = pinless && originals.names(&slot.key);
        Self { slot, changed, carried, original, undone, reapplied }
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
    /// Pods are sent to be pinned before they are judged.
    pub pinning: bool,
    /// Every slot of the object.
    pub slots: Vec<SlotUnderReview>,
}
