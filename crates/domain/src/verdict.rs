//! Turns a requirement and a fact into a verdict. The checks are judged stage by stage, and the policy's mode
//! is applied last.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::check::{Check, Rule, Stage};
use crate::denial::{Code, Violation};
use crate::digest::Digest;
use crate::fact::{Class, Fact, LastKnown, Unavailable};
use crate::glob::Globs;
use crate::image::{ImageRef, ReferenceError};
use crate::policy::{Children, Mode, Outcome, Policy, PolicyId, PolicyKind, Resolution};
use crate::requirement::Requirement;
use crate::slot::{Place, Slot};
use crate::subject::{Phase, SlotUnderReview, Subject};
use crate::work::{Budget, Exhausted, PART, Work};

mod softened;

/// Time until another look-up makes sense, if the registry gives none.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Time until a pod that arrived without its pin can be applied again.
const REAPPLY_AFTER: Duration = Duration::from_secs(1);

/// The effect of one finding on the request.
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
    /// The policy.
    pub policy: PolicyId,
    /// The violation, which has a code and a rule.
    pub violation: Violation,
    /// The effect, after the mode and the softening for children were applied.
    pub effect: Effect,
    /// Time after which a retry may pass.
    pub retry_after: Option<Duration>,
}

impl Finding {
    /// Returns the code of the violation.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.violation.code()
    }

    /// Returns the rule that is violated.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        self.violation.code().rule()
    }
}

/// The source of a pin's digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinSource {
    /// A sibling pod of the same revision.
    Sibling,
    /// The registry, now or from the cache.
    Registry,
    /// The last known digest, because the registry was unavailable.
    LastKnown {
        /// Time since the tag named the digest.
        age: Duration,
        /// The reason why the registry gave no answer; none if its rate limit was reached.
        cause: Option<Unavailable>,
    },
}

/// The digest chosen for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The digest.
    pub digest: Digest,
    /// The source of the digest.
    pub source: PinSource,
}

/// A reference to write instead of a forbidden tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instead {
    /// The reference in the author's own spelling: `nginx:1.29.3`.
    pub reference: String,
    /// The digest that both this reference and the forbidden tag name.
    pub digest: Digest,
}

/// The decision about one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The place of the slot.
    pub place: Place,
    /// The reference as the author wrote it.
    pub reference: Arc<str>,
    /// The reference in its parsed form, or the reason why no node could pull it.
    pub image: Result<ImageRef, ReferenceError>,
    /// The findings, the strictest effect first.
    pub findings: Vec<Finding>,
    /// The pin to write, if a policy wants one and the digest is known (only in [`Phase::Mutate`]).
    pub pinned: Option<Pinned>,
    /// True if any policy matched the slot.
    pub matched: bool,
    /// Age of the last known digest that the decision rests on, because the registry was unavailable.
    pub stale: Option<Duration>,
    /// True if the slot is not pinned because a custom resource controls the pod (`ForeignOwner`).
    pub foreign_owner: bool,
    /// A reference with a version tag that has the same digest as the forbidden tag.
    pub instead: Option<Instead>,
    /// Tags similar to the missing one, best first.
    pub similar: Vec<String>,
    /// The `match` of the entry of `registries` that covers the registry.
    pub entry: Option<Arc<str>>,
    /// True if the registry shows the repository to the asker, false if it shows nothing of it, as the search for a
    /// version found out; none if that is not known.
    pub shown: Option<bool>,
}

impl Verdict {
    /// Returns a verdict without findings on a reference that no policy has matched yet.
    #[must_use]
    pub const fn new(place: Place, reference: Arc<str>, image: Result<ImageRef, ReferenceError>) -> Self {
        Self {
            place,
            reference,
            image,
            findings: Vec::new(),
            pinned: None,
            matched: false,
            stale: None,
            foreign_owner: false,
            instead: None,
            similar: Vec::new(),
            entry: None,
            shown: None,
        }
    }

    /// Returns the strictest effect of the findings.
    #[must_use]
    pub fn effect(&self) -> Option<Effect> {
        self.findings.iter().map(|finding| finding.effect).max()
    }

    /// Returns true if the slot is refused.
    #[must_use]
    pub fn denied(&self) -> bool {
        self.effect() == Some(Effect::Deny)
    }

    /// Returns true if a refusal or a warning has this code, so that somebody reads it.
    #[must_use]
    pub fn shows(&self, code: Code) -> bool {
        self.findings.iter().any(|finding| finding.code() == code && finding.effect >= Effect::Warn)
    }
}

/// An answer about a slot's tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A sibling of the same revision carries this digest: no registry was asked.
    Sibling(&'a Digest),
    /// The registry's answer.
    Registry(&'a Fact),
}

/// The evidence by which checks are judged.
struct Evidence<'a> {
    subject: &'a Subject,
    slot: &'a SlotUnderReview,
    /// The author's reference of a pinned slot, if it parses.
    original: Option<ImageRef>,
    /// True if the slot is beyond the limits of one object.
    beyond_limit: bool,
    /// The answer about the slot's tag; none at the first stage.
    answer: Option<Answer<'a>>,
}

impl<'a> Answer<'a> {
    /// Returns the fact, if a registry was asked.
    const fn fact(self) -> Option<&'a Fact> {
        match self {
            Self::Sibling(_) => None,
            Self::Registry(fact) => Some(fact),
        }
    }
}

/// One slot of a subject, and the requirement of policies on it.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// The object that has the slot.
    pub subject: &'a Subject,
    /// The slot.
    pub slot: &'a SlotUnderReview,
    /// The requirement of all policies that match the slot.
    pub requirement: Requirement<'a>,
}

/// Judges the checks that need the reference alone.
///
/// # Errors
/// Returns the kind of the policies that need more steps than they may take.
pub(crate) fn on_reference(case: &Case<'_>, budget: &Budget) -> Result<Verdict, PolicyKind> {
    let Case { subject, slot, requirement } = case;
    let original = slot.original.as_ref().map(ImageRef::of);
    let image = original.as_ref().unwrap_or(&slot.slot.image).clone();
    let mut verdict = Verdict {
        matched: !requirement.demands.is_empty(),
        foreign_owner: requirement.foreign_owner,
        ..Verdict::new(slot.slot.place.clone(), Arc::clone(slot.written()), image)
    };
    let original = original.and_then(Result::ok);
    let beyond_limit = requirement.beyond_limit;
    let evidence = Evidence { subject, slot, original, beyond_limit, answer: None };
    for demand in &requirement.demands {
        let work = budget.of(demand.policy.id.kind());
        let exhausted = |Exhausted| demand.policy.id.kind();
        for check in &demand.checks {
            if let Some(violation) = violated_as_written(check, &evidence, work).map_err(exhausted)? {
                work.spend(PART).map_err(exhausted)?;
                add(&mut verdict, demand.policy, &evidence, (violation, Effect::Deny, None));
            }
        }
    }
    sort(&mut verdict);
    Ok(verdict)
}

/// Judges the checks that need an answer about the slot's tag, chooses its pin, and adds both to the verdict.
pub fn on_answer(phase: Phase, case: &Case<'_>, answer: Answer<'_>, verdict: &mut Verdict) {
    let Case { subject, slot, requirement } = case;
    let beyond_limit = requirement.beyond_limit;
    let evidence = Evidence { subject, slot, original: None, beyond_limit, answer: Some(answer) };
    judge(Stage::Fact, requirement, &evidence, verdict);
    verdict.stale = stale(requirement, &slot.slot, answer);
    if !verdict.denied() {
        match phase {
            Phase::Mutate => {
                let mut pinning = requirement.demands.iter().filter(|demand| demand.pins());
                verdict.pinned = pinning.find_map(|demand| digest(answer, &slot.slot, demand.policy));
            }
            Phase::Validate => judge(Stage::Object, requirement, &evidence, verdict),
        }
    }
    sort(verdict);
}

/// Judges every check of one stage that has an answer, and adds a finding for each that is not met.
fn judge(stage: Stage, requirement: &Requirement<'_>, evidence: &Evidence<'_>, verdict: &mut Verdict) {
    for demand in &requirement.demands {
        for check in demand.checks.iter().filter(|check| check.stage() == stage) {
            if let Some(judged) = violated(check, demand.policy, evidence) {
                add(verdict, demand.policy, evidence, judged);
            }
        }
    }
}

/// Adds a finding of this policy.
fn add(
    verdict: &mut Verdict,
    policy: &Policy,
    evidence: &Evidence<'_>,
    (violation, strictest, retry_after): Judged,
) {
    let effect = Softening::of(policy, evidence.subject, evidence.slot).apply(strictest);
    verdict.findings.push(Finding { policy: policy.id.clone(), violation, effect, retry_after });
}

/// A violation, its strictest effect before the mode, and the time after which a retry may pass.
type Judged = (Violation, Effect, Option<Duration>);

/// Returns the violation of this check by the reference alone; none if the check is met or needs an answer.
fn violated_as_written(
    check: &Check,
    evidence: &Evidence<'_>,
    work: &Work,
) -> Result<Option<Violation>, Exhausted> {
    let image = &evidence.slot.slot.image;
    match check {
        Check::Limit => Ok(evidence.beyond_limit.then_some(Violation::TooManyImages)),
        Check::Reference => Ok(image.as_ref().err().map(|error| Violation::ReferenceInvalid(error.kind))),
        Check::Tags { forbidden, require_explicit } => {
            // Both references of a pinned slot are judged and the stricter judgement counts, so a forged
            // annotation gains nothing.
            let Ok(image) = image else { return Ok(None) };
            let of = |image| tag_violation(image, forbidden, *require_explicit, work);
            let original = evidence.original.as_ref().map(of).transpose()?.flatten();
            Ok([original, of(image)?].into_iter().flatten().min_by_key(Violation::code))
        }
        Check::Existence | Check::Resolution | Check::Pin(_) => Ok(None),
    }
}

/// Returns the violation of this check of this policy by an answer; none if the check is met or cannot be judged.
fn violated(check: &Check, policy: &Policy, evidence: &Evidence<'_>) -> Option<Judged> {
    let slot = &evidence.slot.slot;
    match check {
        Check::Limit | Check::Reference | Check::Tags { .. } => None,
        Check::Existence => {
            let fact = evidence.answer?.fact()?;
            let (violation, effect) = nonexistent(fact, slot)?;
            Some((violation, effect, fact.retry_after()))
        }
        Check::Resolution => unanswered(evidence.answer?.fact()?, slot, &policy.resolution),
        Check::Pin(_) => {
            digest(evidence.answer?, slot, policy).map(|_| unpinned(evidence.slot, evidence.subject.child))
        }
    }
}

/// Returns the violation by a tag. A forbidden tag is reported before an omitted one, here and in the order
/// of codes.
fn tag_violation(
    image: &ImageRef,
    forbidden: &Globs,
    require_explicit: bool,
    work: &Work,
) -> Result<Option<Violation>, Exhausted> {
    if image.effective_tag().map_or(Ok(false), |tag| forbidden.is_match(tag, work))? {
        return Ok(Some(Violation::TagForbidden));
    }
    let explicit = image.tag().is_some() || image.digest().is_some();
    Ok((require_explicit && !explicit).then_some(Violation::TagNotExplicit))
}

/// Returns the finding about a pod that does not carry a known digest: the pinning webhook did not run, or its pin was
/// undone. A child is never refused for its pin, because nobody applies it again.
const fn unpinned(slot: &SlotUnderReview, child: bool) -> Judged {
    match (slot.undone, child) {
        (true, _) => (Violation::PinUndone, Effect::Warn, None),
        (false, true) => (Violation::NotPinned, Effect::Warn, None),
        (false, false) => (Violation::NotPinned, Effect::Deny, Some(REAPPLY_AFTER)),
    }
}

fn sort(verdict: &mut Verdict) {
    // Among equal effects the pin comes last, even if its effect was softened later.
    let key = |finding: &Finding| (Reverse(finding.effect), finding.rule() == Rule::Pin);
    verdict.findings.sort_by_key(key);
}

/// The strictest effect that a finding may have: the policy's mode, or a warning for a child or for a reference that
/// another revision of the workload carries already.
#[derive(Debug, Clone, Copy)]
struct Softening {
    strictest: Effect,
}

impl Softening {
    fn of(policy: &Policy, subject: &Subject, slot: &SlotUnderReview) -> Self {
        let mode = match policy.mode {
            Mode::Enforce => Effect::Deny,
            Mode::Warn => Effect::Warn,
            Mode::Audit => Effect::Audit,
        };
        let carried = || slot.carried.iter().any(|labels| policy.scope.objects.selects(labels));
        let spared = policy.children == Children::Warn && (subject.child || carried());
        Self { strictest: if spared { mode.min(Effect::Warn) } else { mode } }
    }

    fn apply(self, effect: Effect) -> Effect {
        effect.min(self.strictest)
    }
}

/// Returns the reason why no node can use the image in this slot, if the registry is certain of it. A pod with a
/// runtime class gets only a warning about a WebAssembly module, because the class may run such modules.
fn nonexistent(fact: &Fact, slot: &Slot) -> Option<(Violation, Effect)> {
    let effect = match fact {
        Fact::Artifact { .. } if slot.mounts_artifacts() => return None,
        Fact::Artifact { wasm: true, .. } if slot.runtime_class => Effect::Warn,
        fact if fact.class() == Class::Definite => Effect::Deny,
        _ => return None,
    };
    Some((Violation::of(fact)?, effect))
}

/// Returns the violation for a fact that is not a definite answer, with the effect that the policy's
/// resolution gives it.
fn unanswered(fact: &Fact, slot: &Slot, resolution: &Resolution) -> Option<Judged> {
    let (outcome, retry_after) = match fact.class() {
        Class::Present | Class::Definite | Class::Offline => return None,
        Class::Unavailable if last_known(fact, slot, resolution).is_some() => return None,
        // Only an outage ends by itself.
        Class::Unavailable => (resolution.on_unavailable, Some(fact.retry_after().unwrap_or(RETRY_AFTER))),
        Class::Unauthorized => (resolution.on_unauthorized, None),
        Class::Forbidden => (resolution.on_forbidden_address, None),
    };
    let effect = match outcome {
        Outcome::Allow => return None,
        Outcome::Warn => Effect::Warn,
        Outcome::Deny => Effect::Deny,
    };
    Some((Violation::of(fact)?, effect, retry_after))
}

/// Returns the last known digest, if it is young enough for this policy and the slot takes what it names.
fn last_known<'a>(fact: &'a Fact, slot: &Slot, resolution: &Resolution) -> Option<&'a LastKnown> {
    let oldest = resolution.last_known_max_age;
    let known = fact.last_known().filter(|known| !known.artifact || slot.mounts_artifacts());
    known.filter(|known| !oldest.is_zero() && known.age <= oldest)
}

/// Returns the age of the last known digest that a policy accepts instead of an answer.
fn stale(requirement: &Requirement<'_>, slot: &Slot, answer: Answer<'_>) -> Option<Duration> {
    let fact = answer.fact()?;
    let resolves = |check: &&Check| matches!(check, Check::Resolution);
    let mut resolving = requirement.demands.iter().filter(|demand| demand.checks.iter().any(resolves));
    resolving.find_map(|demand| last_known(fact, slot, &demand.policy.resolution)).map(|known| known.age)
}

/// Returns the digest to pin the slot to. An artifact gives one only where a node may take it.
fn digest(answer: Answer<'_>, slot: &Slot, policy: &Policy) -> Option<Pinned> {
    let (digest, source) = match answer {
        Answer::Sibling(digest) => (digest, PinSource::Sibling),
        Answer::Registry(Fact::Present(digest)) => (digest, PinSource::Registry),
        Answer::Registry(fact @ Fact::Artifact { digest, .. }) => {
            let refused = nonexistent(fact, slot).is_some_and(|(_, effect)| effect == Effect::Deny);
            (!refused).then_some((digest, PinSource::Registry))?
        }
        Answer::Registry(fact) => {
            let LastKnown { digest, age, .. } = last_known(fact, slot, &policy.resolution)?;
            (digest, PinSource::LastKnown { age: *age, cause: fact.cause() })
        }
    };
    Some(Pinned { digest: digest.clone(), source })
}
