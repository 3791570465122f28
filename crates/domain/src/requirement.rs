//! Turns policies and a slot into a requirement: what must hold, and which policy demands it. No registry's
//! answer is used here.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::check::{Check, Owners, Rule, RuleSet};
use crate::image::ImageRef;
use crate::kind::Kind;
use crate::policy::{Children, Exception, Identities, Mode, Policy, PolicyKind, PolicySet};
use crate::slot::{Pulled, Role, Slot};
use crate::subject::{Controller, Phase, SlotUnderReview, Subject, TopOwner};
use crate::work::{Budget, Exhausted, PART, Work};
use crate::workload::Labels;

/// Maximum number of different references of one object that are judged in full.
pub(crate) const REFERENCE_LIMIT: usize = 64;
/// Maximum number of slots of one object that are judged. Nothing reads further than the first slot beyond
/// it.
pub const SLOT_LIMIT: usize = 1000;
/// Maximum number of policies times slots for which globs are matched again for a name that was matched before.
const MATCHED_AGAIN: usize = 32;

/// Everything that must hold of one slot.
#[derive(Debug, Clone)]
pub struct Requirement<'a> {
    /// The demands of each matching policy, cluster policies first; empty when none matches.
    pub demands: Vec<Demand<'a>>,
    /// True if the slot is beyond [`SLOT_LIMIT`], or its reference beyond the object's [`REFERENCE_LIMIT`] different
    /// ones: then no registry is asked about it.
    pub beyond_limit: bool,
    /// True if the slot would be pinned if the pod's controller were not a custom resource.
    pub foreign_owner: bool,
}

/// The checks of one policy that apply to one slot.
#[derive(Debug, Clone)]
pub struct Demand<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The checks that apply, in the order of the policy's list.
    pub checks: Vec<&'a Check>,
}

impl Demand<'_> {
    /// Returns true if the policy wants the slot pinned.
    #[must_use]
    pub fn pins(&self) -> bool {
        self.checks.iter().any(|check| matches!(check, Check::Pin(_)))
    }

    /// Returns true if the policy pins pods of built-in controllers.
    #[must_use]
    pub fn would_pin(&self) -> bool {
        self.policy.checks.iter().any(|check| matches!(check, Check::Pin(_)))
    }
}

/// The facts about a slot that decide which checks of a policy apply to it.
#[derive(Debug, Clone, Copy)]
struct Circumstances {
    /// The rules that the policy's exceptions waive for this slot.
    waived: RuleSet,
    /// The part of the reference that a node pulls the image by; none if no registry is asked.
    pulled: Option<Pulled>,
    /// The controller of the pod; none if the object is not a pod.
    pod: Option<Controller>,
}

impl Circumstances {
    fn demand(self, policy: &Policy) -> Demand<'_> {
        let mut checks = Vec::with_capacity(policy.checks.len());
        checks.extend(policy.checks.iter().filter(|check| self.applies(check, policy)));
        Demand { policy, checks }
    }

    fn pins(self, policy: &Policy) -> bool {
        policy.checks.iter().any(|check| matches!(check, Check::Pin(_)) && self.applies(check, policy))
    }

    fn applies(self, check: &Check, policy: &Policy) -> bool {
        if self.waived.contains(check.rule()) {
            return false;
        }
        let asks = |check: &Check| self.pulled.is_some_and(|pulled| check.asks_about(pulled));
        match check {
            Check::Limit | Check::Reference | Check::Tags { .. } => true,
            Check::Existence => asks(check),
            // If nothing is asked, no answer can be missing.
            Check::Resolution => policy.checks.iter().any(|other| asks(other) && self.applies(other, policy)),
            Check::Pin(owners) => {
                let any = *owners == Owners::Any;
                asks(check) && self.pod.is_some_and(|controller| any || controller != Controller::Foreign)
            }
        }
    }

    /// Returns the same circumstances, but with a built-in controller of the pod.
    fn below_built_in(self) -> Self {
        Self { pod: self.pod.and(Some(Controller::BuiltIn)), ..self }
    }
}

impl Requirement<'_> {
    /// Returns true if a check needs the answer of a sibling or a registry in this phase.
    #[must_use]
    pub fn needs_answer(&self, phase: Phase) -> bool {
        self.demands.iter().any(|demand| demand.checks.iter().any(|check| check.asks_in(phase)))
    }

    /// Returns true if no policy forbids this tag here, as far as the budget lets that be known.
    #[must_use]
    pub fn permits_tag(&self, tag: &str, budget: &Budget) -> bool {
        self.demands.iter().all(|demand| {
            let work = budget.of(demand.policy.id.kind());
            demand.checks.iter().all(|check| match check {
                Check::Tags { forbidden, .. } => forbidden.is_match(tag, work) == Ok(false),
                _ => true,
            })
        })
    }
}

/// Returns the policies whose scope covers this object, whatever images and slots they are about.
#[must_use]
pub fn policies_of<'a>(policies: &'a PolicySet, subject: &Subject) -> Vec<&'a Policy> {
    policies
        .of_namespace(&subject.namespace)
        .map(AsRef::as_ref)
        .filter(|policy| {
            let scope = &policy.scope;
            (policy.id.namespace.is_some() || scope.namespaces.may_select(&subject.namespace_labels))
                && scope.objects.may_select(&subject.labels)
                && (scope.kinds.is_empty() || is_about_kind(&scope.kinds, subject))
        })
        .collect()
}

/// Returns true if a policy that names these kinds is about the object, by the kind of its top-level owner or by its own
/// kind. The own kind of a child does not count. Otherwise anybody could copy an owner reference to leave a policy.
fn is_about_kind(kinds: &BTreeSet<Kind>, subject: &Subject) -> bool {
    let by_owner = match subject.top_owner {
        TopOwner::Known(kind) => kinds.contains(&kind),
        TopOwner::Unknown => true,
    };
    by_owner || (!subject.child && kinds.contains(&subject.kind))
}

/// Returns the Enforce policies that may apply to an object of which only the namespace and the kind are
/// known. `labels` are the labels of the namespace, if they are known. `may_be_owned` is true if controllers
/// make objects of this kind for objects of other kinds, and then the owner's kind counts. `ephemeral` is
/// true if only ephemeral containers are added.
#[must_use]
pub fn enforced_upon<'a>(
    policies: &'a PolicySet,
    namespace: &str,
    labels: Option<&Labels>,
    kind: Kind,
    may_be_owned: bool,
    ephemeral: bool,
) -> Vec<&'a Policy> {
    policies
        .of_namespace(namespace)
        .map(AsRef::as_ref)
        .filter(|policy| {
            let scope = &policy.scope;
            let selects = |labels| scope.namespaces.selects(labels);
            policy.mode == Mode::Enforce
                && (policy.id.namespace.is_some() || labels.is_none_or(selects))
                && (may_be_owned || scope.kinds.is_empty() || scope.kinds.contains(&kind))
                && (!ephemeral || scope.slots.is_empty() || scope.slots.contains(&Role::EphemeralContainer))
        })
        .collect()
}

/// Returns true for each slot that is beyond the limits, in slot order.
#[must_use]
pub(crate) fn beyond_limit(slots: &[SlotUnderReview]) -> Vec<bool> {
    if slots.len() <= REFERENCE_LIMIT {
        return vec![false; slots.len()];
    }
    let mut seen = HashSet::new();
    slots
        .iter()
        .enumerate()
        .map(|(position, slot)| {
            let reference = &*slot.slot.reference;
            if position >= SLOT_LIMIT {
                return true;
            }
            if seen.len() < REFERENCE_LIMIT {
                seen.insert(reference);
                return false;
            }
            !seen.contains(reference)
        })
        .collect()
}

/// The requirements of all policies about one object, slot by slot.
pub(crate) struct Requirements<'r, 'a> {
    policies: &'r [&'a Policy],
    subject: &'r Subject,
    now: Timestamp,
    budget: &'r Budget,
    /// None for an object for which remembering costs more than matching again.
    remembered: Option<Remembered>,
}

/// The results of each policy's globs, by the name of the image.
type Remembered = HashMap<Option<String>, Box<[Option<Matched>]>>;

/// The results of one policy's globs for one name.
#[derive(Debug, Clone, Copy, Default)]
struct Matched {
    /// True if the policy is about images of this name.
    images: bool,
    /// The rules that the exceptions waive for images of this name.
    waived: RuleSet,
}

impl<'r, 'a> Requirements<'r, 'a> {
    pub(crate) fn new(
        policies: &'r [&'a Policy],
        subject: &'r Subject,
        now: Timestamp,
        budget: &'r Budget,
    ) -> Self {
        let remembered = (policies.len() * subject.slots.len() > MATCHED_AGAIN).then(HashMap::new);
        Self { policies, subject, now, budget, remembered }
    }

    /// Returns the requirement on a slot; none if the slot is not judged. An unchanged slot is judged only in a
    /// template, by policies with `children: Enforce`, which would refuse the children of that template. Every policy
    /// about the object refuses a slot that is beyond the limits, whatever images and slots it is about.
    ///
    /// # Errors
    /// Returns the kind of the policies that need more steps than they may take.
    pub(crate) fn of(
        &mut self,
        slot: &SlotUnderReview,
        beyond_limit: bool,
    ) -> Result<Option<Requirement<'a>>, PolicyKind> {
        // The name is computed once, and only if a policy needs it.
        let name = OnceCell::new();
        let name =
            || name.get_or_init(|| slot.slot.image.as_ref().ok().map(ImageRef::policy_name)).as_deref();
        let is_pod = self.subject.is_pod;
        let judges = |policy: &Policy| slot.changed || (!is_pod && policy.children == Children::Enforce);
        let pulled = slot.slot.pulled().filter(|_| !beyond_limit);
        let pod = is_pod.then_some(self.subject.controller);
        let (mut demands, mut would_pin) = (Vec::new(), false);
        let mut remembered = self.remembered.as_mut().map(|all| of_name(all, name(), self.policies.len()));
        for (position, &policy) in self.policies.iter().enumerate() {
            if !judges(policy) {
                continue;
            }
            let work = self.budget.of(policy.id.kind());
            let exhausted = |Exhausted| policy.id.kind();
            work.spend(1).map_err(exhausted)?;
            let mut matched = Matched::default();
            if policy.scope.slots.is_empty() || policy.scope.slots.contains(&slot.slot.key().role) {
                let mut place = remembered.as_deref_mut().and_then(|all| all.get_mut(position));
                matched = match place.as_deref().copied().flatten() {
                    Some(matched) => matched,
                    None => self::matched(policy, self.subject, &name, self.now, work).map_err(exhausted)?,
                };
                if let Some(place) = &mut place {
                    **place = Some(matched);
                }
            }
            if matched.images {
                work.spend(PART).map_err(exhausted)?;
                let circumstances = Circumstances { waived: matched.waived, pulled, pod };
                would_pin = would_pin || circumstances.below_built_in().pins(policy);
                demands.push(circumstances.demand(policy));
            } else if beyond_limit {
                work.spend(PART).map_err(exhausted)?;
                demands.extend(limit(policy, self.subject, self.now, work).map_err(exhausted)?);
            }
        }
        let foreign_owner = would_pin && !demands.iter().any(Demand::pins);
        let is_judged = slot.changed || !demands.is_empty();
        Ok(is_judged.then_some(Requirement { demands, beyond_limit, foreign_owner }))
    }
}

/// Returns the results that are remembered for this name, one for each policy.
fn of_name<'m>(all: &'m mut Remembered, name: Option<&str>, policies: usize) -> &'m mut [Option<Matched>] {
    all.entry(name.map(str::to_owned)).or_insert_with(|| vec![None; policies].into())
}

/// Returns the results of the policy's globs for an image of this name. A reference that does not parse has no name, and
/// every policy is about it.
fn matched<'a>(
    policy: &Policy,
    subject: &Subject,
    name: &impl Fn() -> Option<&'a str>,
    now: Timestamp,
    work: &Work,
) -> Result<Matched, Exhausted> {
    let images = match &policy.scope.images {
        None => true,
        Some(globs) => name().map_or(Ok(true), |name| globs.is_match(name, work))?,
    };
    let waived = if images { waived(policy, subject, name, now, work)? } else { RuleSet::default() };
    Ok(Matched { images, waived })
}

/// Returns the demand of a policy on a slot that is beyond the limits and that its images or slots leave out: so many
/// slots were not read for it. Only an exception for every image waives it.
fn limit<'a>(
    policy: &'a Policy,
    subject: &Subject,
    now: Timestamp,
    work: &Work,
) -> Result<Option<Demand<'a>>, Exhausted> {
    let waived = waived(policy, subject, &|| None, now, work)?;
    let limits = policy.checks.iter().filter(|check| matches!(check, Check::Limit));
    let checks: Vec<_> = limits.filter(|check| !waived.contains(check.rule())).collect();
    Ok((!checks.is_empty()).then_some(Demand { policy, checks }))
}

/// Returns the rules that the policy's exceptions waive for an image of this name.
fn waived<'a>(
    policy: &Policy,
    subject: &Subject,
    name: &impl Fn() -> Option<&'a str>,
    now: Timestamp,
    work: &Work,
) -> Result<RuleSet, Exhausted> {
    let named =
        |identities: &Arc<Identities>| subject.named.iter().any(|named| Arc::ptr_eq(named, identities));
    let for_requester = |exception: &&Exception| exception.identities.as_ref().is_none_or(named);
    policy.exceptions.iter().filter(for_requester).try_fold(RuleSet::default(), |waived, exception| {
        let covered = covers(exception, subject, name, now, work)?;
        Ok(if covered { waived.union(exception.rules) } else { waived })
    })
}

/// Returns true if the exception covers an image of this name, whoever asks.
fn covers<'a>(
    exception: &Exception,
    subject: &Subject,
    name: &impl Fn() -> Option<&'a str>,
    now: Timestamp,
    work: &Work,
) -> Result<bool, Exhausted> {
    work.spend(if exception.namespaces.is_empty() { 1 } else { PART })?;
    if now >= exception.expires
        || !(exception.namespaces.is_empty() || exception.namespaces.contains(&subject.namespace))
    {
        return Ok(false);
    }
    match &exception.images {
        None => Ok(true),
        Some(globs) => name().map_or(Ok(false), |name| globs.is_match(name, work)),
    }
}

/// Returns the exception that waives this rule for the image of a slot if certain users ask.
///
/// # Errors
/// Fails if the comparison needs more steps than are left.
pub fn waived_for_some<'a>(
    policy: &'a Policy,
    subject: &Subject,
    slot: &Slot,
    rule: Rule,
    now: Timestamp,
    budget: &Budget,
) -> Result<Option<&'a Exception>, Exhausted> {
    let work = budget.of(policy.id.kind());
    let for_some = |exception: &&Exception| exception.identities.is_some() && exception.rules.contains(rule);
    let mut candidates = policy.exceptions.iter().filter(for_some).peekable();
    if candidates.peek().is_none() {
        return Ok(None);
    }
    let name = slot.image.as_ref().ok().map(ImageRef::policy_name);
    for exception in candidates {
        if covers(exception, subject, &|| name.as_deref(), now, work)? {
            return Ok(Some(exception));
        }
    }
    Ok(None)
}
