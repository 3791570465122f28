//! The first stage of a review: the requirement on each slot, and its verdict by the reference alone. The policies of
//! each kind have their own part of the work, and are left out as a whole if they need more.

use jiff::Timestamp;

use crate::policy::{Mode, Policy, PolicyId, PolicyKind};
use crate::requirement::{Requirements, beyond_limit};
use crate::slot::Slot;
use crate::subject::{Phase, SlotUnderReview, Subject};
use crate::unreadable::Unreadable;
use crate::verdict::{Case, Effect, Verdict, on_reference};
use crate::work::Budget;

/// A slot on its way through the review.
#[derive(Debug)]
pub struct Draft<'a> {
    /// The slot and the requirement on it.
    pub case: Case<'a>,
    /// The verdict so far.
    pub verdict: Verdict,
    /// True if a sibling or a registry is asked. A slot that is refused already needs no answer, and no slot of an object
    /// that is refused as a whole.
    pub asks: bool,
}

/// The drafts of one object.
#[derive(Debug, Default)]
pub struct Drafts<'a> {
    /// The drafts, in slot order, by the policies that could be compared with the object.
    pub slots: Vec<Draft<'a>>,
    /// The policies that could not.
    pub unjudged: Vec<Unjudged>,
    /// The work that is left.
    pub budget: Budget,
    /// Number of steps that the policies of the namespace took.
    pub namespaced_steps: u32,
}

impl<'a> Draft<'a> {
    /// Returns the slot.
    #[must_use]
    pub const fn slot(&self) -> &'a Slot {
        &self.case.slot.slot
    }
}

/// The policies of one kind that could not be compared with an object, because they need too much work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unjudged {
    /// The kind of the policies.
    pub kind: PolicyKind,
    /// The policies about the object, the one with the longest globs first.
    pub policies: Vec<PolicyId>,
    /// The effect on the object. As for an object that cannot be read, one Enforce policy refuses all but children.
    pub effect: Effect,
}

impl Unjudged {
    fn new(kind: PolicyKind, mut policies: Vec<&Policy>, subject: &Subject) -> Self {
        policies.sort_by_cached_key(|policy| std::cmp::Reverse(policy.length_of_globs()));
        let enforced = policies.iter().any(|policy| policy.mode == Mode::Enforce);
        Self {
            kind,
            policies: policies.into_iter().map(|policy| policy.id.clone()).collect(),
            effect: if enforced && !subject.child { Effect::Deny } else { Effect::Warn },
        }
    }

    /// Returns the reason.
    #[must_use]
    pub const fn why(&self) -> Unreadable {
        Unreadable::TooMuchWork { policies: self.kind }
    }
}

/// Returns the drafts of an object under these policies.
#[must_use]
pub fn drafts<'a>(
    phase: Phase,
    mut policies: Vec<&'a Policy>,
    subject: &'a Subject,
    now: Timestamp,
    whole: Budget,
) -> Drafts<'a> {
    let mut unjudged = Vec::new();
    loop {
        // What policies that are left out have taken is not given back, but the others begin anew.
        let budget = whole.clone();
        match attempt(phase, &policies, subject, now, &budget) {
            Ok(mut slots) => {
                let refused = unjudged.iter().any(|left_out: &Unjudged| left_out.effect == Effect::Deny);
                for draft in &mut slots {
                    draft.asks = draft.asks && !refused;
                    // Perhaps a policy that is left out matches the slot.
                    draft.verdict.matched = draft.verdict.matched || !unjudged.is_empty();
                }
                let left_out = unjudged.iter().any(|left_out| left_out.kind == PolicyKind::ImagePolicy);
                let left = if left_out { 0 } else { budget.namespaced_steps() };
                let namespaced_steps = whole.namespaced_steps() - left;
                return Drafts { slots, unjudged, budget, namespaced_steps };
            }
            Err(kind) => {
                let (left_out, others) = policies.into_iter().partition(|policy| policy.id.kind() == kind);
                unjudged.push(Unjudged::new(kind, left_out, subject));
                policies = others;
            }
        }
    }
}

/// Returns the drafts, or the kind of the policies that need more steps than they may take.
fn attempt<'a>(
    phase: Phase,
    policies: &[&'a Policy],
    subject: &'a Subject,
    now: Timestamp,
    budget: &Budget,
) -> Result<Vec<Draft<'a>>, PolicyKind> {
    let mut requirements = Requirements::new(policies, subject, now, budget);
    // A reference that was applied again gets its pin back without a look-up.
    let is_judged = |slot: &SlotUnderReview| phase == Phase::Validate || slot.reapplied.is_none();
    let mut drafts = Vec::new();
    for (slot, beyond) in subject.slots.iter().zip(beyond_limit(&subject.slots)) {
        if !is_judged(slot) {
            continue;
        }
        let Some(requirement) = requirements.of(slot, beyond)? else { continue };
        let case = Case { subject, slot, requirement };
        let verdict = on_reference(&case, budget)?;
        let asks = case.requirement.needs_answer(phase) && !verdict.denied();
        drafts.push(Draft { case, verdict, asks });
    }
    Ok(drafts)
}
