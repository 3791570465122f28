//! The standing of the cluster under each policy: counts and violations of what runs, from the stores alone.
//! No registry is asked, and nothing is written. The count leaves the processor to others again and again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use tagpin_domain::denial::Code;
use tagpin_domain::draft::{Draft, Drafts, drafts};
use tagpin_domain::image::ImageRef;
use tagpin_domain::policy::{Policy, PolicyId, PolicySet};
use tagpin_domain::requirement::policies_of;
use tagpin_domain::slot::{Role, SlotKey};
use tagpin_domain::subject::{Phase, Subject, Surrounding};
use tagpin_domain::work::{Budget, STEPS};
use tagpin_domain::workload::{LabelSet, Workload};
use tagpin_kube::Cluster;
use tagpin_kube::stored::Stored;
use tagpin_objects::image_policy::{Summary, Violation};
use tagpin_review::Surroundings as _;
use tokio::task::yield_now;

/// Maximum number of violations that a status names.
const TOP: usize = 20;
/// Number of objects that are counted at one go.
const AT_ONE_GO: usize = 64;
/// Number of steps after which the policies of a namespace have taken enough at one go.
const MANY_STEPS: u32 = STEPS / 10;
/// Number of steps that the policies of one namespace may take for all its objects together, about 3 s.
const ALL_STEPS: u32 = 1000 * STEPS;

/// The standing of the cluster under one policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The counts.
    pub summary: Summary,
    /// The first violations, in the order of their text.
    pub top: Vec<Violation>,
}

/// The running counts for one policy.
#[derive(Default)]
struct Tally {
    /// UIDs of workloads.
    workloads: HashSet<String>,
    pinned: u32,
    unpinned: u32,
    /// The violations, one for each place where an author can fix it: pods count as their workload.
    violations: BTreeSet<(Violation, Option<Role>)>,
}

/// The data shared by all objects of one count of the cluster.
struct Look<'a> {
    cluster: &'a Cluster,
    policies: &'a PolicySet,
    offline: &'a (dyn Fn(&ImageRef) -> bool + Sync),
    now: Timestamp,
    tallies: HashMap<&'a PolicyId, Tally>,
    /// Numbers of steps that the policies of each namespace have taken.
    steps: HashMap<String, u32>,
}

/// Returns the standing of the cluster under every policy in force. Namespaces that are never intercepted do
/// not count, nor do pods and Jobs that have ended. An object for which policies need too much work violates all policies
/// of their kind.
pub async fn standings(
    cluster: &Cluster,
    excluded: &BTreeSet<String>,
    offline: &(dyn Fn(&ImageRef) -> bool + Sync),
    now: Timestamp,
) -> BTreeMap<PolicyId, Standing> {
    let policies = cluster.policies();
    let (workloads, pods) = (cluster.workloads.all(), cluster.pods.all());
    let tallies = policies.all().map(|policy| (&policy.id, Tally::default())).collect();
    let mut look = Look { cluster, policies: &policies, offline, now, tallies, steps: HashMap::new() };
    // Objects that a workload makes count as part of the workload. Of them only the pods are counted, not the
    // templates between.
    let templates = workloads.iter().filter(|object| object.workload.controller_kind().is_none());
    let counted = templates
        .chain(&pods)
        .filter(|object| !object.ended && !excluded.contains(&object.workload.namespace));
    for (number, object) in counted.enumerate() {
        let steps = look.count(object);
        if number % AT_ONE_GO == 0 || steps > MANY_STEPS {
            yield_now().await;
        }
    }
    let mut tallies = look.tallies;
    let standing = |policy: &Arc<Policy>| {
        let tally = tallies.remove(&policy.id).unwrap_or_default();
        (policy.id.clone(), tally.standing(policy, now))
    };
    policies.all().map(standing).collect()
}

/// Returns the time when the next exception expires.
#[must_use]
pub fn next_expiry(policies: &PolicySet, now: Timestamp) -> Option<Timestamp> {
    let exceptions = policies.all().flat_map(|policy| &policy.exceptions);
    exceptions.map(|exception| exception.expires).filter(|at| *at > now).min()
}

impl<'a> Look<'a> {
    /// Counts an object, and returns the number of steps that the policies of its namespace took.
    fn count(&mut self, object: &Arc<Stored>) -> u32 {
        let (top, owner) = self.cluster.climb(object);
        let Workload { namespace, .. } = &object.workload;
        let labels = self.cluster.namespace_labels(namespace);
        let labels = LabelSet::of_namespace(namespace, labels.map(|labels| (*labels).clone()));
        let foreign = self.cluster.is_foreign(object);
        let surrounding = Surrounding { foreign, ..Surrounding::unasked(labels, owner) };
        let subject = Subject::of(object.workload.clone(), surrounding, None);
        let policies = policies_of(self.policies, &subject);
        if policies.is_empty() {
            return 0;
        }
        let taken = self.steps.get(namespace).copied().unwrap_or_default();
        let budget = Budget::for_namespace(ALL_STEPS.saturating_sub(taken));
        let Drafts { slots, unjudged, namespaced_steps, .. } =
            drafts(Phase::Validate, policies, &subject, self.now, budget);
        if namespaced_steps > 0 {
            let taken = taken.saturating_add(namespaced_steps);
            self.steps.insert(namespace.clone(), taken);
        }
        for id in unjudged.iter().flat_map(|unjudged| &unjudged.policies) {
            if let Some(tally) = self.tallies.get_mut(id) {
                tally.workloads.insert(top.workload.uid.clone());
                tally.violate(&top.workload, None, Code::ReviewUnreadable);
            }
        }
        for Draft { case, verdict, .. } in slots {
            let slot = &case.slot.slot;
            let image = slot.image.as_ref().ok();
            let offline = image.is_some_and(self.offline);
            let pinned = image.is_some_and(|image| image.digest().is_some());
            for demand in &case.requirement.demands {
                let Some(tally) = self.tallies.get_mut(&demand.policy.id) else { continue };
                tally.workloads.insert(top.workload.uid.clone());
                if object.workload.is_pod {
                    tally.pinned += u32::from(pinned);
                    tally.unpinned += u32::from(demand.pins() && !offline);
                }
            }
            for finding in &verdict.findings {
                if let Some(tally) = self.tallies.get_mut(&finding.policy) {
                    tally.violate(&top.workload, Some(slot.key()), finding.code());
                }
            }
        }
        namespaced_steps
    }
}

impl Tally {
    /// Adds a violation of this workload: in this slot, or as a whole.
    fn violate(&mut self, workload: &Workload, slot: Option<&SlotKey>, code: Code) {
        let violation = Violation {
            namespace: workload.namespace.clone(),
            kind: workload.kind.name().to_owned(),
            name: workload.name.clone(),
            slot: slot.map(|slot| slot.name.to_string()).unwrap_or_default(),
            code: code.as_str().to_owned(),
        };
        self.violations.insert((violation, slot.map(|slot| slot.role)));
    }

    fn standing(self, policy: &Policy, now: Timestamp) -> Standing {
        let active = policy.exceptions.iter().filter(|exception| exception.expires > now).count();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let summary = Summary {
            workloads: count(self.workloads.len()),
            pinned: self.pinned,
            unpinned: self.unpinned,
            violations: count(self.violations.len()),
            exceptions_active: count(active),
            exceptions_expired: count(policy.exceptions.len() - active),
        };
        let top = self.violations.into_iter().map(|(violation, _)| violation).take(TOP).collect();
        Standing { summary, top }
    }
}
