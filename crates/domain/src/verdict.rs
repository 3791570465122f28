//! Requirement and fact (and pin, and child or not) become a verdict; the policy's mode is the last step.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::denial::{Code, Violation};
use crate::digest::Digest;
use crate::fact::{Class, Fact, LastKnown};
use crate::image::{ImageRef, ReferenceError};
use crate::policy::{Children, Mode, Outcome, Policy, PolicyId, Rule};
use crate::requirement::{Demand, Requirement};
use crate::slot::SlotKey;
use crate::subject::{Phase, SlotUnderReview, Subject};

/// When a registry gives no time, this is when asking again makes sense.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// A pod that arrives without its pin can be applied again at once.
const REAPPLY_AFTER: Duration = Duration::from_secs(1);

/// What one finding does to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Counted and reported only.
    Audit,
    /// A warning in the answer.
    Warn,
    /// The request is refused.
    Deny,
}

/// One rule of one policy that a slot does not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which policy.
    pub policy: PolicyId,
    /// What is wrong; it knows its code and its rule.
    pub violation: Violation,
    /// What it does, mode and child already applied.
    pub effect: Effect,
    /// A retry may pass after so long.
    pub retry_after: Option<Duration>,
}

impl Finding {
    /// The stable word.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.violation.code()
    }

    /// Which rule of the policy.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        self.violation.code().rule()
    }
}

/// Where a pin's digest came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinSource {
    /// A sibling pod of the same revision.
    Sibling,
    /// The registry, now or from the cache.
    Registry,
    /// A digest last seen so long ago, because the registry could not be asked.
    LastKnown(Duration),
}

/// The digest chosen for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The digest.
    pub digest: Digest,
    /// Where it came from.
    pub source: PinSource,
}

/// What to write instead of a forbidden tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instead {
    /// The reference in the author's own spelling: `nginx:1.29.3`.
    pub reference: String,
    /// The digest that it and the forbidden tag name.
    pub digest: Digest,
}

/// What was decided for one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which slot.
    pub slot: SlotKey,
    /// Position of the slot in its list.
    pub index: usize,
    /// The reference as the author wrote it.
    pub reference: Arc<str>,
    /// The reference in its parsed form, or the reason why no node could pull it.
    pub image: Result<ImageRef, ReferenceError>,
    /// What is wrong, the strictest effect first.
    pub findings: Vec<Finding>,
    /// The pin to write, when a policy wants one and the digest is known (only in [`Phase::Mutate`]).
    pub pinned: Option<Pinned>,
    /// Whether any policy matched the slot.
    pub matched: bool,
    /// The decision rests on what the tag named so long ago, because the registry could not be asked.
    pub stale: Option<Duration>,
    /// Not pinned because a custom resource controls the pod (`ForeignOwner`).
    pub foreign_owner: bool,
    /// A tag that names what the forbidden one names.
    pub instead: Option<Instead>,
    /// Tags that look like the missing one, best first.
    pub similar: Vec<String>,
}

impl Verdict {
    /// Returns a verdict without findings on a reference that no policy has matched yet.
    #[must_use]
    pub const fn new(
        slot: SlotKey,
        index: usize,
        reference: Arc<str>,
        image: Result<ImageRef, ReferenceError>,
    ) -> Self {
        Self {
            slot,
            index,
            reference,
            image,
            findings: Vec::new(),
            pinned: None,
            matched: false,
            stale: None,
            foreign_owner: false,
            instead: None,
            similar: Vec::new(),
        }
    }

    /// The strictest effect of its findings.
    #[must_use]
    pub fn effect(&self) -> Option<Effect> {
        self.findings.iter().map(|finding| finding.effect).max()
    }

    /// Whether the slot is refused.
    #[must_use]
    pub fn denied(&self) -> bool {
        self.effect() == Some(Effect::Deny)
    }

    /// Warns of a missing pin instead of refusing it: while no pod is sent to be pinned, one that is applied again arrives
    /// in the same way.
    pub fn soften_unpinned(&mut self) {
        for finding in &mut self.findings {
            if finding.violation == Violation::NotPinned {
                finding.effect = finding.effect.min(Effect::Warn);
                finding.retry_after = None;
            }
        }
        sort(self);
    }

    /// Whether somebody reads that this is wrong: a refusal or a warning with this code.
    #[must_use]
    pub fn shows(&self, code: Code) -> bool {
        self.findings.iter().any(|finding| finding.code() == code && finding.effect >= Effect::Warn)
    }
}

/// What was learned of a slot's tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A sibling of the same revision carries this digest: no registry was asked.
    Sibling(&'a Digest),
    /// What the registry said.
    Registry(&'a Fact),
}

/// One slot of a subject, and what policies require of it.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// The object that has the slot.
    pub subject: &'a Subject,
    /// The slot.
    pub slot: &'a SlotUnderReview,
    /// The requirement of all policies that match the slot.
    pub requirement: Requirement<'a>,
}

/// Judges the reference alone.
#[must_use]
pub fn on_reference(case: &Case<'_>) -> Verdict {
    let Case { subject, slot, requirement } = case;
    let written = slot.original.as_ref().map(ImageRef::of);
    let image = written.as_ref().unwrap_or(&slot.slot.image).clone();
    let mut verdict = Verdict {
        matched: !requirement.demands.is_empty(),
        foreign_owner: requirement.foreign_owner,
        ..Verdict::new(slot.slot.key.clone(), slot.slot.index, Arc::clone(slot.written()), image)
    };
    for demand in &requirement.demands {
        let mut add = |violation| {
            let effect = Softening::of(demand, subject, slot).apply(Effect::Deny);
            verdict.findings.push(Finding {
                policy: demand.policy.id.clone(),
                violation,
                effect,
                retry_after: None,
            });
        };
        if demand.reference && requirement.beyond_limit {
            add(Violation::TooManyImages);
        }
        match &slot.slot.image {
            Err(error) if demand.reference => add(Violation::ReferenceInvalid(error.kind)),
            Ok(image) if demand.tags => {
                // Both strings of a pinned slot: the stricter wins, so a forged annotation gains nothing.
                let written = written.as_ref().and_then(|parsed| parsed.as_ref().ok());
                let found = [written, Some(image)].into_iter().flatten();
                let violations = found.filter_map(|image| tag_violation(image, demand.policy));
                if let Some(violation) = violations.min_by_key(Violation::code) {
                    add(violation);
                }
            }
            _ => {}
        }
    }
    sort(&mut verdict);
    verdict
}

/// A forbidden tag is told before an omitted one, here and in the order of codes.
fn tag_violation(image: &ImageRef, policy: &Policy) -> Option<Violation> {
    let rules = &policy.rules;
    if image.effective_tag().is_some_and(|tag| rules.forbidden.is_match(tag)) {
        return Some(Violation::TagForbidden);
    }
    let explicit = image.tag().is_some() || image.digest().is_some();
    (rules.require_explicit && !explicit).then_some(Violation::TagNotExplicit)
}

/// Judges the answer about the slot's tag, chooses the pin, and returns the verdict with both.
#[must_use]
pub fn on_answer(phase: Phase, case: &Case<'_>, answer: Answer<'_>, mut verdict: Verdict) -> Verdict {
    let Case { subject, slot, requirement } = case;
    for demand in &requirement.demands {
        let judged = match answer {
            Answer::Sibling(_) => None,
            Answer::Registry(fact) => violated(fact, demand),
        };
        if let Some((violation, outcome, retry_after)) = judged {
            let softening = Softening::of(demand, subject, slot);
            verdict.findings.push(Finding {
                policy: demand.policy.id.clone(),
                violation,
                effect: softening.apply(outcome),
                retry_after,
            });
        } else if demand.silence
            && let Answer::Registry(fact) = answer
        {
            verdict.stale = verdict.stale.or_else(|| last_known(fact, demand).map(|known| known.age));
        }
    }
    if !verdict.denied() {
        for demand in requirement.demands.iter().filter(|demand| demand.pins) {
            let Some(known) = digest(answer, demand) else { continue };
            match phase {
                Phase::Mutate => {
                    verdict.pinned.get_or_insert(known);
                }
                Phase::Validate => verdict.findings.push(unpinned(demand, subject, slot)),
            }
        }
    }
    sort(&mut verdict);
    verdict
}

/// The digest is known and the pod does not carry it: the pinning webhook did not run, or was undone.
fn unpinned(demand: &Demand<'_>, subject: &Subject, slot: &SlotUnderReview) -> Finding {
    let (violation, strictest, retry_after) = if slot.undone {
        (Violation::PinUndone, Effect::Warn, None)
    } else {
        (Violation::NotPinned, Effect::Deny, Some(REAPPLY_AFTER))
    };
    let effect = Softening::of(demand, subject, slot).apply(strictest);
    Finding { policy: demand.policy.id.clone(), violation, effect, retry_after }
}

fn sort(verdict: &mut Verdict) {
    // Of equal effects the pin comes last, however late its effect was decided.
    let key = |finding: &Finding| (Reverse(finding.effect), finding.rule() == Rule::Pin);
    verdict.findings.sort_by_key(key);
}

/// What keeps a finding from refusing: the policy's mode, a child that is only warned of, a reference that
/// another revision of the workload carries already.
#[derive(Debug, Clone, Copy)]
struct Softening {
    strictest: Effect,
}

impl Softening {
    fn of(demand: &Demand<'_>, subject: &Subject, slot: &SlotUnderReview) -> Self {
        let mode = match demand.policy.mode {
            Mode::Enforce => Effect::Deny,
            Mode::Warn => Effect::Warn,
            Mode::Audit => Effect::Audit,
        };
        let spared = (subject.child || slot.carried) && demand.policy.children == Children::Warn;
        Self { strictest: if spared { mode.min(Effect::Warn) } else { mode } }
    }

    fn apply(self, effect: Effect) -> Effect {
        effect.min(self.strictest)
    }
}

type Judged = (Violation, Effect, Option<Duration>);

/// Returns what a fact violates under one policy, its effect before the mode is applied, and when a retry may pass.
fn violated(fact: &Fact, demand: &Demand<'_>) -> Option<Judged> {
    let effect = severity(fact, demand)?;
    // Only an outage ends by itself.
    let ends = fact.class() == Class::Unavailable;
    let retry_after = ends.then(|| fact.retry_after().unwrap_or(RETRY_AFTER));
    Some((Violation::of(fact)?, effect, retry_after))
}

/// Returns the effect of a fact under one policy, before the mode is applied.
fn severity(fact: &Fact, demand: &Demand<'_>) -> Option<Effect> {
    let resolution = &demand.policy.resolution;
    let outcome = match fact.class() {
        Class::Present | Class::Offline => return None,
        Class::Definite => return demand.existence.then_some(Effect::Deny),
        Class::Unavailable if last_known(fact, demand).is_some() => return None,
        Class::Unavailable => resolution.on_unavailable,
        Class::Unauthorized => resolution.on_unauthorized,
        Class::Forbidden => resolution.on_forbidden_address,
    };
    let effect = match outcome {
        Outcome::Allow => return None,
        Outcome::Warn => Effect::Warn,
        Outcome::Deny => Effect::Deny,
    };
    demand.silence.then_some(effect)
}

/// Returns the digest that the tag named last, if it is young enough for this policy.
fn last_known<'a>(fact: &'a Fact, demand: &Demand<'_>) -> Option<&'a LastKnown> {
    let oldest = demand.policy.resolution.last_known_max_age;
    fact.last_known().filter(|known| !oldest.is_zero() && known.age <= oldest)
}

fn digest(answer: Answer<'_>, demand: &Demand<'_>) -> Option<Pinned> {
    match answer {
        Answer::Sibling(digest) => Some(Pinned { digest: digest.clone(), source: PinSource::Sibling }),
        Answer::Registry(Fact::Present(digest)) => {
            Some(Pinned { digest: digest.clone(), source: PinSource::Registry })
        }
        Answer::Registry(fact) => last_known(fact, demand)
            .map(|known| Pinned { digest: known.digest.clone(), source: PinSource::LastKnown(known.age) }),
    }
}
