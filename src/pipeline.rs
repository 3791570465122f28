//! THE flow, in one function: read this first.
//!
//! reference → requirement (policies) → fact (sibling pin, registry) → verdict → findings and pins.
//! The outside world is two ports, [`Resolve`]/[`Suggest`] and [`Pins`]; everything else is an argument.

use jiff::Timestamp;
use tokio::time::Instant;

use crate::domain::asker::Asker;
use crate::domain::pin::{Pins, Revision};
use crate::domain::policy::{Labels, PolicySet};
use crate::domain::slot::{ImageSlot, Kind};
use crate::domain::verdict::Verdict;
use crate::registry::{Resolve, Suggest};

/// Which question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// What to pin: slots that will be refused stay as they are.
    Mutate,
    /// What to say: both strings of a pinned slot are judged and the stricter wins.
    Validate,
}

/// The top-level validated owner of the object, for `match.kinds`.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub original: Option<String>,
    /// The annotation names the slot, but the slot carries no digest: a later webhook undid the pin.
    pub undone: bool,
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

/// What was decided: one verdict for each slot that was judged, in slot order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Review {
    /// Unchanged slots that no policy judges are left out.
    pub verdicts: Vec<Verdict>,
}

/// Decides one object. It never takes longer than the deadline: what is not known by then is unavailable.
pub async fn review(
    phase: Phase,
    subject: &Subject,
    policies: &PolicySet,
    registry: &(impl Resolve + Suggest),
    pins: &dyn Pins,
    now: Timestamp,
    deadline: Instant,
) -> Review {
    let _ = (phase, subject, policies, registry, pins, now, deadline);
    Review::default()
}
