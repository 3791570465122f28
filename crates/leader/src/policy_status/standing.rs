//! How the cluster stands under each policy: counts and violations of what runs, from the stores alone. No registry is
//! asked, and nothing is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use tagpin_domain::asker::Asker;
use tagpin_domain::image::ImageRef;
use tagpin_domain::mark::{Marks, Provenance};
use tagpin_domain::policy::{Policy, PolicyId, PolicySet};
use tagpin_domain::requirement::{beyond_limit, policies_of, require};
use tagpin_domain::slot::{Kind, SlotRole};
use tagpin_domain::subject::{Annotated, Controller, SlotUnderReview, Subject, Suggestions, TopOwner};
use tagpin_domain::verdict::{Case, on_reference};
use tagpin_kube::Cluster;
use tagpin_kube::object::Object;
use tagpin_objects::image_policy::{Summary, Violation};

/// Violations that a status names.
const TOP: usize = 20;
/// As deep as owners are followed.
const DEPTH: usize = 8;

/// How the cluster stands under one policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The counts.
    pub summary: Summary,
    /// The first violations, in the order of their text.
    pub top: Vec<Violation>,
}

/// What is counted for one policy.
#[derive(Default)]
struct Tally<'a> {
    /// UIDs of workloads.
    workloads: HashSet<&'a str>,
    pinned: u32,
    unpinned: u32,
    /// One for each place where an author can mend it: pods count as their workload.
    violations: BTreeSet<(Violation, SlotRole)>,
}

/// What is the same for all objects of one look at the cluster.
struct Look<'a> {
    cluster: &'a Cluster,
    policies: &'a PolicySet,
    workloads: HashMap<&'a str, &'a Object>,
    offline: &'a dyn Fn(&ImageRef) -> bool,
    now: Timestamp,
    tallies: HashMap<&'a PolicyId, Tally<'a>>,
}

/// How the cluster stands under every policy in force. Namespaces that are never intercepted do not count, nor do pods
/// and Jobs that have ended.
pub fn standings(
    cluster: &Cluster,
    excluded: &BTreeSet<String>,
    offline: &dyn Fn(&ImageRef) -> bool,
    now: Timestamp,
) -> BTreeMap<PolicyId, Standing> {
    let policies = cluster.policies();
    let (workloads, pods) = (cluster.workloads.all(), cluster.pods.all());
    let mut look = Look {
        cluster,
        policies: &policies,
        workloads: workloads.iter().map(|object| (object.uid.as_str(), &**object)).collect(),
        offline,
        now,
        tallies: HashMap::new(),
    };
    // What a workload makes is counted with the workload: its pods, but not the templates between.
    let templates = workloads.iter().filter(|object| object.controller_kind().is_none());
    for object in templates.chain(&pods) {
        if !object.ended && !excluded.contains(&object.namespace) {
            look.count(object);
        }
    }
    let mut tallies = look.tallies;
    let standing = |policy: &Arc<Policy>| {
        let tally = tallies.remove(&policy.id).unwrap_or_default();
        (policy.id.clone(), tally.standing(policy, now))
    };
    policies.all().map(standing).collect()
}

/// When the next exception expires.
#[must_use]
pub fn next_expiry(policies: &PolicySet, now: Timestamp) -> Option<Timestamp> {
    let exceptions = policies.all().flat_map(|policy| &policy.exceptions);
    exceptions.map(|exception| exception.expires).filter(|at| *at > now).min()
}

impl<'a> Look<'a> {
    fn count(&mut self, object: &'a Object) {
        let (top, owner) = self.top(object);
        let subject = self.subject(object, owner);
        let policies = policies_of(self.policies, &subject);
        if policies.is_empty() {
            return;
        }
        for (slot, beyond) in subject.slots.iter().zip(beyond_limit(&subject.slots)) {
            let Some(requirement) = require(&policies, &subject, slot, beyond, self.now) else { continue };
            let image = slot.slot.image.as_ref().ok();
            let offline = image.is_some_and(self.offline);
            let pinned = image.is_some_and(|image| image.digest().is_some());
            for demand in &requirement.demands {
                let tally = self.tallies.entry(&demand.policy.id).or_default();
                tally.workloads.insert(&top.uid);
                if object.kind == Kind::Pod {
                    tally.pinned += u32::from(pinned);
                    tally.unpinned += u32::from(demand.pins && !offline);
                }
            }
            for finding in on_reference(&Case { subject: &subject, slot, requirement }).findings {
                let violation = Violation {
                    namespace: object.namespace.clone(),
                    kind: top.kind.name().to_owned(),
                    name: top.name.clone(),
                    slot: slot.slot.key.name.to_string(),
                    code: finding.code().as_str().to_owned(),
                };
                let Some((_, tally)) = self.tallies.iter_mut().find(|(id, _)| ***id == finding.policy) else {
                    continue;
                };
                tally.violations.insert((violation, slot.slot.key.role));
            }
        }
    }

    /// The last validated object on the way up, as far as the stores know.
    fn top(&self, object: &'a Object) -> (&'a Object, TopOwner) {
        let mut top = object;
        for _ in 0..DEPTH {
            let Some((controller, kind)) = top.controller.as_ref().and_then(|c| Some((c, c.kind?))) else {
                return (top, TopOwner::Known(top.kind));
            };
            match self.workloads.get(controller.uid.as_str()) {
                Some(owner) if owner.kind == kind && owner.namespace == object.namespace => top = owner,
                _ => break,
            }
        }
        (top, TopOwner::Unknown)
    }

    fn subject(&self, object: &Object, top_owner: TopOwner) -> Subject {
        let controller = match (object.kind, &object.controller) {
            (Kind::Pod, Some(controller)) if controller.kind.is_some() => Controller::BuiltIn,
            (Kind::Pod, Some(_)) => Controller::Foreign,
            _ => Controller::None,
        };
        let labels = self.cluster.namespace_labels(&object.namespace);
        // Nothing is said here of a pin that was undone: no mark is looked at.
        let (originals, marks) = (&object.originals, &Marks::default());
        let annotated = Annotated { originals, marks, provenance: Provenance::default() };
        let slots = object.slots.iter().map(|slot| SlotUnderReview::new(slot.image_slot(), annotated, false));
        Subject {
            kind: object.kind,
            namespace: object.namespace.clone(),
            namespace_labels: labels.map(|labels| (*labels).clone()).unwrap_or_default(),
            labels: object.labels.clone(),
            top_owner,
            controller,
            child: false,
            revision: None,
            asker: Asker::anonymous(),
            suggestions: Suggestions::Off,
            slots: slots.collect(),
        }
    }
}

impl Tally<'_> {
    fn standing(self, policy: &Policy, now: Timestamp) -> Standing {
        let active = policy.exceptions.iter().filter(|exception| exception.expires > now).count();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let summary = Summary {
            workloads: count(self.workloads.len()),
            pinned: self.pinned,
            unpinned: self.unpinned,
            violations: count(self.violations.len()),
            exceptions_active: count(active),
        };
        let top = self.violations.into_iter().map(|(violation, _)| violation).take(TOP).collect();
        Standing { summary, top }
    }
}
