//! The standing of the cluster under each policy: counts and violations of what runs, from the stores alone.
//! No registry is asked, and nothing is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use tagpin_domain::image::ImageRef;
use tagpin_domain::policy::{Policy, PolicyId, PolicySet};
use tagpin_domain::requirement::{beyond_limit, policies_of, require};
use tagpin_domain::slot::Role;
use tagpin_domain::subject::{Subject, Surrounding};
use tagpin_domain::verdict::{Case, on_reference};
use tagpin_domain::workload::Workload;
use tagpin_kube::Cluster;
use tagpin_kube::stored::Stored;
use tagpin_objects::image_policy::{Summary, Violation};
use tagpin_review::Surroundings as _;

/// Maximum number of violations that a status names.
const TOP: usize = 20;

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
    violations: BTreeSet<(Violation, Role)>,
}

/// The data shared by all objects of one count of the cluster.
struct Look<'a> {
    cluster: &'a Cluster,
    policies: &'a PolicySet,
    offline: &'a dyn Fn(&ImageRef) -> bool,
    now: Timestamp,
    tallies: HashMap<&'a PolicyId, Tally>,
}

/// Returns the standing of the cluster under every policy in force. Namespaces that are never intercepted do
/// not count, nor do pods and Jobs that have ended.
pub fn standings(
    cluster: &Cluster,
    excluded: &BTreeSet<String>,
    offline: &dyn Fn(&ImageRef) -> bool,
    now: Timestamp,
) -> BTreeMap<PolicyId, Standing> {
    let policies = cluster.policies();
    let (workloads, pods) = (cluster.workloads.all(), cluster.pods.all());
    let mut look = Look { cluster, policies: &policies, offline, now, tallies: HashMap::new() };
    // Objects that a workload makes count as part of the workload. Of them only the pods are counted, not the
    // templates between.
    let templates = workloads.iter().filter(|object| object.workload.controller_kind().is_none());
    for object in templates.chain(&pods) {
        if !object.ended && !excluded.contains(&object.workload.namespace) {
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

/// Returns the time when the next exception expires.
#[must_use]
pub fn next_expiry(policies: &PolicySet, now: Timestamp) -> Option<Timestamp> {
    let exceptions = policies.all().flat_map(|policy| &policy.exceptions);
    exceptions.map(|exception| exception.expires).filter(|at| *at > now).min()
}

impl<'a> Look<'a> {
    fn count(&mut self, object: &Arc<Stored>) {
        let (top, owner) = self.cluster.climb(object);
        let Workload { namespace, .. } = &object.workload;
        let labels = self.cluster.namespace_labels(namespace);
        let labels = labels.map(|labels| (*labels).clone()).unwrap_or_default();
        let foreign = self.cluster.is_foreign(object);
        let surrounding = Surrounding { foreign, ..Surrounding::unasked(labels, owner) };
        let subject = Subject::of(object.workload.clone(), surrounding, None);
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
                tally.workloads.insert(top.workload.uid.clone());
                if object.workload.is_pod {
                    tally.pinned += u32::from(pinned);
                    tally.unpinned += u32::from(demand.pins() && !offline);
                }
            }
            for finding in on_reference(&Case { subject: &subject, slot, requirement }).findings {
                let violation = Violation {
                    namespace: namespace.clone(),
                    kind: top.workload.kind.name().to_owned(),
                    name: top.workload.name.clone(),
                    slot: slot.slot.key().name.to_string(),
                    code: finding.code().as_str().to_owned(),
                };
                let Some((_, tally)) = self.tallies.iter_mut().find(|(id, _)| ***id == finding.policy) else {
                    continue;
                };
                tally.violations.insert((violation, slot.slot.key().role));
            }
        }
    }
}

impl Tally {
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
