//! Turns policies and a slot into a requirement: what must hold, and which policy demands it. No registry's
//! answer is used here.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::check::{Check, Owners, Rule, RuleSet};
use crate::image::ImageRef;
use crate::kind::Kind;
use crate::policy::{Children, Exception, Identities, Mode, Policy, PolicySet};
use crate::slot::{Pulled, Role, Slot};
use crate::subject::{Controller, Phase, SlotUnderReview, Subject, TopOwner};
use crate::workload::Labels;

/// Maximum number of different references of one object that are judged in full.
pub(crate) const REFERENCE_LIMIT: usize = 64;
/// Maximum number of slots of one object that are judged. Nothing reads further than the first slot beyond
/// it.
pub const SLOT_LIMIT: usize = 1000;

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

    /// Returns true if no policy forbids this tag here.
    #[must_use]
    pub fn permits_tag(&self, tag: &str) -> bool {
        let forbids =
            |check: &&Check| matches!(check, Check::Tags { forbidden, .. } if forbidden.is_match(tag));
        !self.demands.iter().any(|demand| demand.checks.iter().any(forbids))
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
            (policy.id.namespace.is_some() || scope.namespaces.selects(&subject.namespace_labels))
                && scope.objects.selects(&subject.labels)
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
pub fn beyond_limit(slots: &[SlotUnderReview]) -> Vec<bool> {
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

/// Returns the requirement on a slot; none if the slot is not judged. An unchanged slot is judged only in a
/// template, by policies with `children: Enforce`, which would refuse the children of that template. Every policy about
/// the object refuses a slot that is beyond the limits, whatever images and slots it is about.
#[must_use]
pub fn require<'a>(
    policies: &[&'a Policy],
    subject: &Subject,
    slot: &SlotUnderReview,
    beyond_limit: bool,
    now: Timestamp,
) -> Option<Requirement<'a>> {
    // The name is computed once, and only if a policy needs it.
    let name = OnceCell::new();
    let name = || name.get_or_init(|| slot.slot.image.as_ref().ok().map(ImageRef::policy_name)).as_deref();
    let is_pod = subject.is_pod;
    let judges = |policy: &Policy| slot.changed || (!is_pod && policy.children == Children::Enforce);
    let pulled = slot.slot.pulled().filter(|_| !beyond_limit);
    let pod = is_pod.then_some(subject.controller);
    let (mut demands, mut would_pin) = (Vec::new(), false);
    for &policy in policies {
        if judges(policy) && matches(policy, &slot.slot, &name) {
            let waived = waived(policy, subject, &name, now);
            let circumstances = Circumstances { waived, pulled, pod };
            would_pin = would_pin || circumstances.below_built_in().pins(policy);
            demands.push(circumstances.demand(policy));
        } else if beyond_limit && judges(policy) {
            demands.extend(limit(policy, subject, now));
        }
    }
    let foreign_owner = would_pin && !demands.iter().any(Demand::pins);
    (slot.changed || !demands.is_empty()).then_some(Requirement { demands, beyond_limit, foreign_owner })
}

/// Returns the demand of a policy on a slot that is beyond the limits and that its images or slots leave out: so many
/// slots were not read for it. Only an exception for every image waives it.
fn limit<'a>(policy: &'a Policy, subject: &Subject, now: Timestamp) -> Option<Demand<'a>> {
    let waived = waived(policy, subject, &|| None, now);
    let limits = policy.checks.iter().filter(|check| matches!(check, Check::Limit));
    let checks: Vec<_> = limits.filter(|check| !waived.contains(check.rule())).collect();
    (!checks.is_empty()).then_some(Demand { policy, checks })
}

fn matches<'a>(policy: &Policy, slot: &Slot, name: &impl Fn() -> Option<&'a str>) -> bool {
    let scope = &policy.scope;
    (scope.slots.is_empty() || scope.slots.contains(&slot.key().role))
        && scope.images.as_ref().is_none_or(|globs| name().is_none_or(|name| globs.is_match(name)))
}

/// Returns the rules that the policy's exceptions waive for an image of this name.
fn waived<'a>(
    policy: &Policy,
    subject: &Subject,
    name: &impl Fn() -> Option<&'a str>,
    now: Timestamp,
) -> RuleSet {
    let named =
        |identities: &Arc<Identities>| subject.named.iter().any(|named| Arc::ptr_eq(named, identities));
    let for_requester = |exception: &&Exception| exception.identities.as_ref().is_none_or(named);
    let covering = policy.exceptions.iter().filter(for_requester);
    let covering = covering.filter(|exception| covers(exception, subject, name, now));
    covering.fold(RuleSet::default(), |waived, exception| waived.union(exception.rules))
}

/// Returns true if the exception covers an image of this name, whoever asks.
fn covers<'a>(
    exception: &Exception,
    subject: &Subject,
    name: &impl Fn() -> Option<&'a str>,
    now: Timestamp,
) -> bool {
    now < exception.expires
        && (exception.namespaces.is_empty() || exception.namespaces.contains(&subject.namespace))
        && exception.images.as_ref().is_none_or(|globs| name().is_some_and(|name| globs.is_match(name)))
}

/// Returns the exception that waives this rule for the image of a slot if certain users ask.
#[must_use]
pub fn waived_for_some<'a>(
    policy: &'a Policy,
    subject: &Subject,
    slot: &Slot,
    rule: Rule,
    now: Timestamp,
) -> Option<&'a Exception> {
    let for_some = |exception: &&Exception| exception.identities.is_some() && exception.rules.contains(rule);
    let mut candidates = policy.exceptions.iter().filter(for_some).peekable();
    candidates.peek()?;
    let name = slot.image.as_ref().ok().map(ImageRef::policy_name);
    candidates.find(|exception| covers(exception, subject, &|| name.as_deref(), now))
}
