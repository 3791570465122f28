//! The subject of a review: a workload and the facts around it, as far as policies depend on them. Nothing is
//! judged here.

use std::collections::HashMap;
use std::sync::Arc;

use crate::asker::{Asker, Requester, Secrets};
use crate::digest::Digest;
use crate::kind::Kind;
use crate::mark::{Keys, Mark, Marks, Provenance};
use crate::original::Originals;
use crate::pin::Revision;
use crate::policy::Identities;
use crate::slot::{Slot, SlotKey};
use crate::workload::{Known, LabelSet, Labels, Workload};

/// The phase of admission that a review is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Chooses the digests to write. Slots that will be refused stay as they are.
    Mutate,
    /// Decides whether the object is admitted. Both references of a pinned slot are judged, and the stricter
    /// judgement counts.
    Validate,
}

/// The top-level validated owner of the object, for `match.kinds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopOwner {
    /// This kind: the object's own kind if no validated object owns it.
    Known(Kind),
    /// An owner is named that could not be found in time, so every `kinds` matches.
    Unknown,
}

/// The direct controller of a pod, for `pin.owners`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// No controller: the object is a bare pod or a workload.
    None,
    /// A kind that is validated itself.
    BuiltIn,
    /// A custom resource, or a StatefulSet that a custom resource controls.
    Foreign,
}

/// The effort that suggestions may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suggestions {
    /// No suggestions, because nobody reads them (children).
    Off,
    /// Only suggestions from the cache (dry runs).
    Cached,
    /// Suggestions from look-ups within the budget.
    Ask,
}

/// One slot of the object under review, and the history of its reference.
#[derive(Debug, Clone)]
pub struct SlotUnderReview {
    /// The slot as the object has it now.
    pub slot: Slot,
    /// True unless the slot repeats the old object's slot ([`Slot::repeats`]); always true on CREATE.
    pub changed: bool,
    /// The labels of the other revisions of the same workload whose slot this one repeats, as far as policies select by
    /// them. A revision counts only for the policies that select its labels, because no other judged it.
    pub carried: Vec<Labels>,
    /// The reference in tagpin's valid annotation entry for this slot. The slot's reference is that one plus
    /// `@` and a digest.
    pub original: Option<Arc<str>>,
    /// True if tagpin pinned the slot, but it carries no digest any more, because a later webhook undid the
    /// pin.
    pub undone: bool,
    /// The old object's reference, if it is this slot's reference pinned by tagpin. The author has then
    /// applied the same reference again, and `/mutate` restores the pin.
    pub reapplied: Option<Arc<str>>,
    /// The mark of the pin that the slot carries or gets back.
    pub mark: Option<Mark>,
}

/// The content of tagpin's annotations on one pod, and the facts that prove it.
#[derive(Debug, Clone, Copy)]
struct Annotated<'a> {
    originals: &'a Originals,
    marks: &'a Marks,
    /// The facts that the marks are checked against.
    provenance: Provenance<'a>,
}

impl Annotated<'_> {
    /// Returns the mark of this slot, if it is for this digest.
    fn mark_of(&self, slot: &SlotKey, digest: &Digest) -> Option<Mark> {
        self.marks.of(slot).filter(|mark| mark.digest == *digest)
    }
}

impl SlotUnderReview {
    /// Returns a slot of a new object. Workloads have no annotations of tagpin.
    fn new(slot: Slot, annotated: Annotated<'_>) -> Self {
        let pin = annotated.originals.pin_of(&slot);
        let mark = pin.as_ref().and_then(|(_, digest)| annotated.mark_of(slot.key(), digest));
        let original = pin.map(|(original, _)| Arc::from(original));
        let pinless = slot.image.as_ref().is_ok_and(|image| image.digest().is_none());
        let named = annotated.originals.named(slot.key()).filter(|_| pinless);
        let undone = named.is_some_and(|original| {
            let mark = annotated.marks.of(slot.key());
            annotated.provenance.proves(slot.key(), original, mark.as_ref())
        });
        Self { slot, changed: true, carried: Vec::new(), original, undone, reapplied: None, mark }
    }

    /// Compares the slot with the slot of the same name in the old object. The old pin is not given back to a slot that
    /// the node may pull only now.
    fn compare(&mut self, old: &Slot, annotated: Annotated<'_>) {
        self.changed = !self.slot.repeats(old);
        let pulled_only_now = old.never_pulled() && !self.slot.never_pulled();
        let pin = annotated.originals.pin_of(old);
        let pin = pin.filter(|(original, _)| *original == &*self.slot.reference && !pulled_only_now);
        if let Some((original, digest)) = pin {
            let mark = annotated.mark_of(old.key(), &digest);
            if annotated.provenance.proves(old.key(), original, mark.as_ref()) {
                (self.reapplied, self.mark) = (Some(Arc::clone(&old.reference)), mark);
            }
        }
    }

    /// Returns the reference that the author wrote: the original of a pinned slot, else the slot's own string.
    #[must_use]
    pub fn written(&self) -> &Arc<str> {
        self.original.as_ref().unwrap_or(&self.slot.reference)
    }
}

/// The facts about a workload that are not in the object itself.
#[derive(Debug, Clone)]
pub struct Surrounding<'a> {
    /// The namespace's labels, as far as they are known.
    pub namespace_labels: LabelSet,
    /// The top-level validated owner.
    pub top_owner: TopOwner,
    /// The pull secrets of the service account, for pods that name none themselves.
    pub account_secrets: Known<Vec<String>>,
    /// The identity that sent the request. An owner reference proves nothing, because anybody can copy it.
    pub by: Requester,
    /// The identities of exceptions that the requester belongs to.
    pub named: Vec<Arc<Identities>>,
    /// True if a custom resource controls the pod, or the StatefulSet of the pod.
    pub foreign: bool,
    /// The effort that suggestions may cost if anybody reads them.
    pub suggestions: Suggestions,
    /// The keys that prove a pin; none while there is no key.
    pub keys: Option<&'a Keys>,
}

impl Surrounding<'_> {
    /// Returns the facts around a workload that was found in a store instead of a request. What a store holds under a
    /// controller counts as made by that controller.
    #[must_use]
    pub fn unasked(namespace_labels: LabelSet, top_owner: TopOwner) -> Self {
        Self {
            namespace_labels,
            top_owner,
            account_secrets: Known::Unknown,
            by: Requester { controller: true, ..Requester::default() },
            named: Vec::new(),
            foreign: false,
            suggestions: Suggestions::Off,
            keys: None,
        }
    }
}

/// The object before the update that is reviewed.
#[derive(Clone, Copy)]
pub struct Before<'a> {
    /// The old object.
    pub workload: &'a Workload,
    /// True if the pins of the old object count without a mark, because it is older than the first key.
    pub needs_no_mark: bool,
    /// Returns for each of these slots the labels of the other revisions of the workload whose slot it repeats.
    pub carries: &'a dyn Fn(&[&Slot]) -> Vec<Vec<Labels>>,
}

/// The subject of a review: one object, as far as policies depend on it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The object's kind.
    pub kind: Kind,
    /// True for a pod.
    pub is_pod: bool,
    /// The object's namespace.
    pub namespace: String,
    /// The namespace's labels, as far as they are known.
    pub namespace_labels: LabelSet,
    /// Labels of the pod template, or of the bare pod, as far as they are known.
    pub labels: LabelSet,
    /// The top-level validated owner, for `match.kinds`.
    pub top_owner: TopOwner,
    /// The direct controller, for `pin.owners`.
    pub controller: Controller,
    /// True if a built-in controller's own identity made the object for an object of a validated kind.
    pub child: bool,
    /// The identities of exceptions that the requester belongs to; empty if nobody asks.
    pub named: Vec<Arc<Identities>>,
    /// The revision whose pods share a digest; none for bare pods and workloads.
    pub revision: Option<Revision>,
    /// The identity that the registry is asked for.
    pub asker: Asker,
    /// The effort that suggestions may cost.
    pub suggestions: Suggestions,
    /// Every slot of the object.
    pub slots: Vec<SlotUnderReview>,
}

impl Subject {
    /// Joins a workload and the facts around it. With an old object, each slot is compared with the slot of
    /// the same name there, whatever their positions are.
    #[must_use]
    pub fn of(workload: Workload, surrounding: Surrounding<'_>, before: Option<Before<'_>>) -> Self {
        let revision = revision(&workload, surrounding.foreign);
        let Workload {
            kind,
            is_pod,
            namespace,
            labels,
            controller,
            pull_secrets,
            slots,
            originals,
            marks,
            ..
        } = workload;
        let Surrounding {
            namespace_labels,
            top_owner,
            account_secrets,
            by,
            named,
            foreign,
            suggestions,
            keys,
        } = surrounding;
        let provenance =
            Provenance { keys, namespace: &namespace, revision: revision.as_ref(), older: false };
        let annotated = Annotated { originals: &originals, marks: &marks, provenance };
        let new = |slot| SlotUnderReview::new(slot, annotated);
        let slots = match before {
            None => slots.into_iter().map(new).collect(),
            Some(before) => before.compare(slots.into_iter().map(new).collect(), provenance, foreign),
        };
        let validated_owner = controller.as_ref().is_some_and(|owner| owner.kind.is_some());
        let child = validated_owner && by.controller;
        Self {
            kind,
            is_pod,
            namespace_labels,
            labels,
            top_owner,
            controller: match &controller {
                Some(_) if is_pod && foreign => Controller::Foreign,
                Some(_) if is_pod && validated_owner => Controller::BuiltIn,
                _ => Controller::None,
            },
            child,
            named,
            revision,
            asker: Asker {
                namespace: namespace.clone(),
                secrets: match account_secrets {
                    _ if !pull_secrets.is_empty() => Secrets::Known(pull_secrets),
                    Known::Yes(secrets) => Secrets::Known(secrets),
                    Known::Unknown => Secrets::Unknown,
                },
            },
            suggestions: if child { Suggestions::Off } else { suggestions },
            slots,
            namespace,
        }
    }
}

impl Subject {
    /// Returns the revision whose first pod must not get an answer that is older than the revision; none for bare
    /// pods, and for pods of a custom resource that labels no revisions.
    #[must_use]
    pub fn fresh_revision(&self) -> Option<&Revision> {
        let labelled = |revision: &&Revision| !revision.hash.is_empty();
        self.revision.as_ref().filter(|revision| self.controller == Controller::BuiltIn || labelled(revision))
    }
}

impl<'a> Before<'a> {
    /// Compares each slot with the slot of the same name in the old object.
    fn compare(
        self,
        mut slots: Vec<SlotUnderReview>,
        now: Provenance<'a>,
        foreign: bool,
    ) -> Vec<SlotUnderReview> {
        let Self { workload, needs_no_mark, carries } = self;
        let old: HashMap<&SlotKey, &Slot> = workload.slots.iter().map(|slot| (slot.key(), slot)).collect();
        let revision = revision(workload, foreign);
        let provenance = Provenance { revision: revision.as_ref(), older: needs_no_mark, ..now };
        let annotated = Annotated { originals: &workload.originals, marks: &workload.marks, provenance };
        for slot in &mut slots {
            if let Some(before) = old.get(slot.slot.key()) {
                slot.compare(before, annotated);
            }
        }
        let changed: Vec<&Slot> = slots.iter().filter(|slot| slot.changed).map(|slot| &slot.slot).collect();
        // All slots together, because a workload may have many revisions.
        let carried = if changed.is_empty() { Vec::new() } else { carries(&changed) };
        for (slot, carried) in slots.iter_mut().filter(|slot| slot.changed).zip(carried) {
            slot.carried = carried;
        }
        slots
    }
}

/// Returns the revision of a pod. A pod whose owner reference names neither a validated kind nor a custom resource is a
/// bare pod.
fn revision(workload: &Workload, foreign: bool) -> Option<Revision> {
    workload.revision().filter(|_| foreign || workload.controller_kind().is_some())
}
