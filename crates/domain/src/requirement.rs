//! Policies and a slot become what must hold, and which policy says so. It knows no registry's answer.

use std::cell::OnceCell;
use std::collections::HashSet;

use jiff::Timestamp;

use crate::image::ImageRef;
use crate::kind::Kind;
use crate::policy::{Children, Exception, Existence, Labels, Mode, Owners, Policy, PolicySet, Rule};
use crate::slot::{Role, Slot};
use crate::subject::{Controller, Phase, SlotUnderReview, Subject, TopOwner};

/// Different references of one object that are looked at in full.
pub const REFERENCE_LIMIT: usize = 64;
/// Slots of one object that are looked at; nobody reads further than the first one beyond.
pub const SLOT_LIMIT: usize = 1000;

/// What must hold of one slot.
#[derive(Debug, Clone)]
pub struct Requirement<'a> {
    /// What each matching policy demands, cluster policies first; empty when none matches.
    pub demands: Vec<Demand<'a>>,
    /// The slot is beyond [`SLOT_LIMIT`], or its reference beyond the object's [`REFERENCE_LIMIT`] different ones: it
    /// is not asked about.
    pub beyond_limit: bool,
    /// It would be pinned, were the pod's controller not a custom resource.
    pub foreign_owner: bool,
}

/// What one policy demands of one slot, its exceptions already taken off.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// Who demands it.
    pub policy: &'a Policy,
    /// The reference is one that a node could pull, within the limit.
    pub reference: bool,
    /// The rules for tags.
    pub tags: bool,
    /// A registry confirms the tag.
    pub existence: bool,
    /// The `on…` settings say what follows when a registry that is asked gives no definite answer.
    pub silence: bool,
    /// The slot gets a digest.
    pub pins: bool,
}

impl Requirement<'_> {
    /// Whether a sibling or a registry must be asked. /mutate asks only for what it may pin.
    #[must_use]
    pub fn needs_answer(&self, phase: Phase) -> bool {
        self.demands.iter().any(|demand| demand.pins || (phase == Phase::Validate && demand.existence))
    }

    /// Whether no policy forbids this tag here.
    #[must_use]
    pub fn permits_tag(&self, tag: &str) -> bool {
        !self.demands.iter().any(|demand| demand.tags && demand.policy.rules.forbidden.is_match(tag))
    }
}

/// The policies whose scope has this object; images and slots are not looked at yet.
#[must_use]
pub fn policies_of<'a>(policies: &'a PolicySet, subject: &Subject) -> Vec<&'a Policy> {
    policies
        .of_namespace(&subject.namespace)
        .map(AsRef::as_ref)
        .filter(|policy| {
            let scope = &policy.scope;
            (policy.id.namespace.is_some() || scope.namespaces.selects(&subject.namespace_labels))
                && scope.objects.selects(&subject.labels)
                && match subject.top_owner {
                    TopOwner::Known(kind) => scope.kinds.is_empty() || scope.kinds.contains(&kind),
                    TopOwner::Unknown => true,
                }
        })
        .collect()
}

/// The Enforce policies that an object may be under of which nothing is known but this. `labels` are those of its
/// namespace, where they are known; `may_be_owned` says that a controller makes objects of this kind for objects of
/// other kinds, which then are the kind that counts; `ephemeral` says that only ephemeral containers are added.
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

/// Which slots are beyond the limits, in slot order.
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

/// What must hold of a slot; nothing when the slot is not judged: an unchanged one is left alone, but for a
/// template under `children: Enforce`, whose children would be refused.
#[must_use]
pub fn require<'a>(
    policies: &[&'a Policy],
    subject: &Subject,
    slot: &SlotUnderReview,
    beyond_limit: bool,
    now: Timestamp,
) -> Option<Requirement<'a>> {
    // Few policies look at it.
    let name = OnceCell::new();
    let name = || name.get_or_init(|| slot.slot.image.as_ref().ok().map(ImageRef::policy_name)).as_deref();
    let judges = |policy: &Policy| slot.changed || (!subject.is_pod && policy.children == Children::Enforce);
    let mut requirement = Requirement { demands: Vec::new(), beyond_limit, foreign_owner: false };
    for &policy in policies {
        if !judges(policy) || !matches(policy, &slot.slot, &name) {
            continue;
        }
        let waived = |rule| {
            let mut exceptions = policy.exceptions.iter();
            exceptions.any(|exception| waives(exception, rule, subject, &name, now))
        };
        let askable = !beyond_limit && slot.slot.askable().is_some();
        let wants_pin = askable && subject.is_pod && policy.pin.pods && !waived(Rule::Pin);
        let foreign = subject.controller == Controller::Foreign && policy.pin.owners != Owners::Any;
        let pins = wants_pin && !foreign;
        let existence = askable && policy.rules.existence != Existence::Ignore && !waived(Rule::Existence);
        requirement.foreign_owner |= wants_pin && foreign;
        requirement.demands.push(Demand {
            policy,
            reference: !waived(Rule::Reference),
            tags: !waived(Rule::Tags),
            existence,
            silence: existence || (pins && !waived(Rule::Existence)),
            pins,
        });
    }
    requirement.foreign_owner &= !requirement.demands.iter().any(|demand| demand.pins);
    (slot.changed || !requirement.demands.is_empty()).then_some(requirement)
}

fn matches<'a>(policy: &Policy, slot: &Slot, name: &impl Fn() -> Option<&'a str>) -> bool {
    let scope = &policy.scope;
    (scope.slots.is_empty() || scope.slots.contains(&slot.key().role))
        && scope.images.as_ref().is_none_or(|globs| name().is_none_or(|name| globs.is_match(name)))
}

fn waives<'a>(
    exception: &Exception,
    rule: Rule,
    subject: &Subject,
    name: &impl Fn() -> Option<&'a str>,
    now: Timestamp,
) -> bool {
    exception.rules.contains(&rule)
        && now < exception.expires
        && (exception.namespaces.is_empty() || exception.namespaces.contains(&subject.namespace))
        && exception.images.as_ref().is_none_or(|globs| name().is_some_and(|name| globs.is_match(name)))
}
