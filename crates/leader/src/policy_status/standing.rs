//! The standing of the cluster under each policy: counts and violations of what runs, from the stores alone.
//! No registry is asked, and nothing is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::findings::Found;
use tagpin_domain::denial::shown;
use tagpin_domain::image::ImageRef;
use tagpin_domain::policy::{Policy, PolicyId, PolicySet};
use tagpin_domain::requirement::{Demand, beyond_limit, policies_of, require, waived_for_some};
use tagpin_domain::slot::Role;
use tagpin_domain::subject::{Subject, Surrounding};
use tagpin_domain::verdict::{Case, on_reference};
use tagpin_domain::workload::Workload;
use tagpin_kube::Cluster;
use tagpin_kube::stored::Stored;
use tagpin_objects::findings::{FOREIGN_OWNER, IMAGE_SHOWN, NOT_REMEMBERED, OLDER_THAN_POLICY};
use tagpin_objects::image_policy::{Summary, Unpinned, Violation};
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
    /// The first images without a digest, those of custom resources last.
    pub without_digest: Vec<Unpinned>,
}

/// The running counts for one policy.
#[derive(Default)]
struct Tally {
    /// UIDs of workloads.
    workloads: HashSet<String>,
    pinned: u32,
    unpinned: u32,
    foreign: u32,
    /// The images without a digest by their place, which begins with true for those of custom resources; each with its
    /// reason.
    without_digest: BTreeMap<(bool, Bare), (String, String)>,
    /// The violations, one for each place where an author can fix it: pods count as their workload.
    violations: BTreeMap<Place, Written>,
}

/// The place of a violation.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    namespace: String,
    kind: &'static str,
    name: String,
    slot: String,
    code: &'static str,
    role: Role,
}

/// The place of an image without a digest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Bare {
    namespace: String,
    kind: &'static str,
    name: String,
    slot: String,
}

impl Bare {
    /// Returns the reason why the image here has no digest.
    fn reason<'a>(&self, image: &str, is_older: bool, found: &'a Found) -> &'a str {
        let key = [self.namespace.clone(), self.slot.clone(), image.to_owned()];
        let otherwise = if is_older { OLDER_THAN_POLICY } else { NOT_REMEMBERED };
        found.unpinned.get(&key).map_or(otherwise, String::as_str)
    }
}

/// The image at the place of a violation. The workload's own template comes before its pods.
struct Written {
    image: String,
    /// The name of an exception that waives the rule if certain users ask.
    exception: Option<String>,
}

impl Place {
    fn violation(self, written: Written) -> Violation {
        let Self { namespace, kind, name, slot, code, role: _ } = self;
        let Written { image, exception } = written;
        Violation { namespace, kind: kind.to_owned(), name, slot, code: code.to_owned(), image, exception }
    }
}

/// The data shared by all objects of one count of the cluster.
struct Look<'a> {
    cluster: &'a Cluster,
    policies: &'a PolicySet,
    offline: &'a dyn Fn(&ImageRef) -> bool,
    now: Timestamp,
    /// The findings of the replicas.
    found: &'a Found,
    created: HashMap<PolicyId, Option<Timestamp>>,
    tallies: HashMap<&'a PolicyId, Tally>,
}

/// Returns the standing of the cluster under every policy in force. Namespaces that are never intercepted do
/// not count, nor do pods and Jobs that have ended.
pub fn standings(
    cluster: &Cluster,
    excluded: &BTreeSet<String>,
    offline: &dyn Fn(&ImageRef) -> bool,
    found: &Found,
    now: Timestamp,
) -> BTreeMap<PolicyId, Standing> {
    let policies = cluster.policies();
    let (workloads, pods) = (cluster.workloads.all(), cluster.pods.all());
    let held = cluster.policies.all().into_iter();
    let created = held.map(|held| (held.id, held.created)).collect();
    let mut look =
        Look { cluster, policies: &policies, offline, now, found, created, tallies: HashMap::new() };
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
                if !object.workload.is_pod {
                    continue;
                }
                let unpinned = demand.pins() && !offline;
                let foreign = requirement.foreign_owner && !offline && demand.would_pin();
                tally.pinned += u32::from(pinned);
                tally.unpinned += u32::from(unpinned);
                tally.foreign += u32::from(foreign);
                if unpinned || foreign {
                    let place = Bare {
                        namespace: namespace.clone(),
                        kind: top.workload.kind.name(),
                        name: top.workload.name.clone(),
                        slot: slot.slot.key().name.to_string(),
                    };
                    let image = shown(slot.written(), IMAGE_SHOWN);
                    let created = self.created.get(&demand.policy.id).copied().flatten();
                    let is_older = created.is_some_and(|created| object.created <= created);
                    let reason =
                        if foreign { FOREIGN_OWNER } else { place.reason(&image, is_older, self.found) };
                    tally.without_digest.entry((foreign, place)).or_insert((image, reason.to_owned()));
                }
            }
            let case = Case { subject: &subject, slot, requirement };
            for finding in on_reference(&case).findings {
                let found = case.requirement.demands.iter().find(|demand| demand.policy.id == finding.policy);
                let Some(Demand { policy, .. }) = found else { continue };
                let Some(tally) = self.tallies.get_mut(&policy.id) else { continue };
                let place = Place {
                    namespace: namespace.clone(),
                    kind: top.workload.kind.name(),
                    name: top.workload.name.clone(),
                    slot: slot.slot.key().name.to_string(),
                    code: finding.code().as_str(),
                    role: slot.slot.key().role,
                };
                let written = || Written {
                    image: shown(slot.written(), IMAGE_SHOWN),
                    exception: waived_for_some(policy, &subject, &slot.slot, finding.rule(), self.now)
                        .map(|exception| exception.name.clone()),
                };
                tally.violations.entry(place).or_insert_with(written);
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
            foreign: self.foreign,
            violations: count(self.violations.len()),
            exceptions_active: count(active),
            exceptions_expired: count(policy.exceptions.len() - active),
        };
        let top =
            self.violations.into_iter().take(TOP).map(|(place, written)| place.violation(written)).collect();
        let bare = self.without_digest.into_iter().take(TOP);
        let without_digest = bare
            .map(|((_, place), (image, reason))| {
                let Bare { namespace, kind, name, slot } = place;
                Unpinned { namespace, kind: kind.to_owned(), name, slot, image, reason }
            })
            .collect();
        Standing { summary, top, without_digest }
    }
}
