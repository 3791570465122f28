//! The standing of the cluster under each policy: counts and violations of what runs, from the stores alone.
//! No registry is asked, and nothing is written. The count leaves the processor to others again and again.
//!
//! Authors decide how many violations there are, and the stores hold far more objects than a list of them could name. So
//! the objects are counted workload by workload, and of all others only numbers and the rows of the status are kept.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::findings::Found;
use crate::policy_status::bare::{Bare, BareImage, BareImages};
use crate::rows::Rows;
use tagpin_domain::denial::{Code, shown};
use tagpin_domain::draft::{Draft, Drafts, drafts};
use tagpin_domain::image::ImageRef;
use tagpin_domain::policy::{Policy, PolicyId, PolicySet};
use tagpin_domain::requirement::{SLOT_LIMIT, policies_of, waived_for_some};
use tagpin_domain::slot::{Role, Slot};
use tagpin_domain::subject::{Phase, Subject, Surrounding, TopOwner};
use tagpin_domain::work::{Budget, STEPS};
use tagpin_domain::workload::{LabelSet, Workload};
use tagpin_kube::Cluster;
use tagpin_kube::stored::Stored;
use tagpin_objects::findings::{FOREIGN_OWNER, IMAGE_SHOWN, NOT_REMEMBERED, OLDER_THAN_POLICY};
use tagpin_objects::image_policy::{Summary, Unpinned, Violation};
use tagpin_review::Surroundings as _;
use tokio::task::yield_now;

/// Maximum number of violations of one workload that are counted: those of an object with as many slots as are read.
const OF_ONE: usize = SLOT_LIMIT;
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
    /// The first violations of each namespace, in the order of their text.
    pub top: Vec<Violation>,
    /// The first images without a digest of each namespace, those of custom resources last.
    pub without_digest: Vec<Unpinned>,
}

/// One count of the cluster.
#[derive(Debug, Default)]
pub struct Count {
    /// The standing under every policy in force.
    pub standings: BTreeMap<PolicyId, Standing>,
    /// The images of pods that a policy pins and that have no digest.
    pub unpinned: BareImages,
}

/// The running counts for one policy.
#[derive(Default)]
struct Tally {
    workloads: u32,
    pinned: u32,
    unpinned: u32,
    foreign: u32,
    /// Number of violations, one for each place where an author can fix it: pods count as their workload.
    violations: u32,
    /// The first images without a digest by their place, which begins with true for those of custom resources; each with
    /// its reason.
    without_digest: Rows<(bool, Spot), (String, String)>,
    /// The first violations.
    first: Rows<Place, Written>,
    /// The number of the workload that is being counted.
    current: Option<usize>,
    /// The violations of that workload.
    of_current: HashSet<(Option<Role>, Arc<str>, Code)>,
}

/// The place of a violation.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    namespace: String,
    kind: &'static str,
    name: String,
    slot: String,
    code: &'static str,
    /// None for a violation of the workload as a whole.
    role: Option<Role>,
}

/// The place of an image without a digest in a status.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Spot {
    namespace: String,
    kind: &'static str,
    name: String,
    slot: String,
}

impl Spot {
    /// Returns the reason why the image here has no digest.
    fn reason<'a>(&self, image: &str, is_older: bool, found: &'a Found) -> &'a str {
        let key = [self.namespace.clone(), self.slot.clone(), image.to_owned()];
        let otherwise = if is_older { OLDER_THAN_POLICY } else { NOT_REMEMBERED };
        found.unpinned.get(&key).map_or(otherwise, String::as_str)
    }
}

/// The image at the place of a violation. The workload's own template comes before its pods.
#[derive(Default)]
struct Written {
    /// Empty for a violation of the workload as a whole.
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
    offline: &'a (dyn Fn(&ImageRef) -> bool + Sync),
    now: Timestamp,
    /// The findings of the replicas.
    found: &'a Found,
    created: HashMap<PolicyId, Option<Timestamp>>,
    tallies: HashMap<&'a PolicyId, Tally>,
    unpinned: BareImages,
    /// Numbers of steps that the policies of each namespace have taken.
    steps: HashMap<String, u32>,
}

/// Counts the cluster under every policy in force. Namespaces that are never intercepted do not count, nor do pods and
/// Jobs that have ended. An object for which policies need too much work violates all policies of their kind.
pub async fn count(
    cluster: &Cluster,
    excluded: &BTreeSet<String>,
    offline: &(dyn Fn(&ImageRef) -> bool + Sync),
    found: &Found,
    now: Timestamp,
) -> Count {
    let policies = cluster.policies();
    let (workloads, pods) = (cluster.workloads.all(), cluster.pods.all());
    let held = cluster.policies.all().into_iter();
    let created = held.map(|held| (held.id, held.created)).collect();
    let tallies = policies.all().map(|policy| (&policy.id, Tally::default())).collect();
    let mut look = Look {
        cluster,
        policies: &policies,
        offline,
        now,
        found,
        created,
        tallies,
        unpinned: BareImages::default(),
        steps: HashMap::new(),
    };
    // Objects that a workload makes count as part of the workload. Of them only the pods are counted, not the
    // templates between.
    let templates = workloads.iter().filter(|object| object.workload.controller_kind().is_none());
    let counted = templates
        .chain(&pods)
        .filter(|object| !object.ended && !excluded.contains(&object.workload.namespace));
    let mut parts = Vec::new();
    for (number, object) in counted.enumerate() {
        let (top, owner) = cluster.climb(object);
        parts.push(Part { object, top, owner });
        if number % AT_ONE_GO == 0 {
            yield_now().await;
        }
    }
    // The workload's own template stays before its pods.
    parts.sort_by(|one, other| one.uid().cmp(other.uid()));
    for (workload, parts) in parts.chunk_by(|one, other| one.uid() == other.uid()).enumerate() {
        for (number, part) in parts.iter().enumerate() {
            let steps = look.count(part, workload);
            if number % AT_ONE_GO == 0 || steps > MANY_STEPS {
                yield_now().await;
            }
        }
    }
    let mut tallies = look.tallies;
    let standing = |policy: &Arc<Policy>| {
        let tally = tallies.remove(&policy.id).unwrap_or_default();
        (policy.id.clone(), tally.standing(policy, now))
    };
    Count { standings: policies.all().map(standing).collect(), unpinned: look.unpinned }
}

/// Returns the time when the next exception expires.
#[must_use]
pub fn next_expiry(policies: &PolicySet, now: Timestamp) -> Option<Timestamp> {
    let exceptions = policies.all().flat_map(|policy| &policy.exceptions);
    exceptions.map(|exception| exception.expires).filter(|at| *at > now).min()
}

/// An object that is counted as a part of a workload.
struct Part<'a> {
    object: &'a Arc<Stored>,
    /// The workload: the topmost validated owner of the object, or the object itself.
    top: Arc<Stored>,
    owner: TopOwner,
}

impl Part<'_> {
    /// Returns the UID of the workload.
    fn uid(&self) -> &str {
        &self.top.workload.uid
    }
}

impl<'a> Look<'a> {
    /// Counts a part of the workload with this number, and returns the number of steps that the policies of its namespace
    /// took.
    fn count(&mut self, part: &Part<'_>, number: usize) -> u32 {
        let Part { object, top, owner } = part;
        let Workload { namespace, .. } = &object.workload;
        let labels = self.cluster.namespace_labels(namespace);
        let labels = LabelSet::of_namespace(namespace, labels.map(|labels| (*labels).clone()));
        let foreign = self.cluster.is_foreign(object);
        let surrounding = Surrounding { foreign, ..Surrounding::unasked(labels, *owner) };
        let subject = Subject::of(object.workload.clone(), surrounding, None);
        let policies = policies_of(self.policies, &subject);
        if policies.is_empty() {
            return 0;
        }
        let taken = self.steps.get(namespace).copied().unwrap_or_default();
        let budget = Budget::for_namespace(ALL_STEPS.saturating_sub(taken));
        let Drafts { slots, unjudged, budget, namespaced_steps } =
            drafts(Phase::Validate, policies, &subject, self.now, budget);
        if namespaced_steps > 0 {
            let taken = taken.saturating_add(namespaced_steps);
            self.steps.insert(namespace.clone(), taken);
        }
        for id in unjudged.iter().flat_map(|unjudged| &unjudged.policies) {
            if let Some(tally) = self.tallies.get_mut(id) {
                tally.begin(number);
                tally.violate(&top.workload, None, Code::ReviewUnreadable, Written::default);
            }
        }
        for Draft { case, verdict, .. } in slots {
            let slot = &case.slot.slot;
            let image = slot.image.as_ref().ok();
            let offline = image.is_some_and(self.offline);
            let pinned = image.is_some_and(|image| image.digest().is_some());
            for demand in &case.requirement.demands {
                let Some(tally) = self.tallies.get_mut(&demand.policy.id) else { continue };
                tally.begin(number);
                if !object.workload.is_pod {
                    continue;
                }
                let unpinned = demand.pins() && !offline;
                let foreign = case.requirement.foreign_owner && !offline && demand.would_pin();
                tally.pinned += u32::from(pinned);
                tally.unpinned += u32::from(unpinned);
                tally.foreign += u32::from(foreign);
                if unpinned || foreign {
                    let spot = Spot {
                        namespace: namespace.clone(),
                        kind: top.workload.kind.name(),
                        name: top.workload.name.clone(),
                        slot: slot.key().name.to_string(),
                    };
                    let image = shown(case.slot.written(), IMAGE_SHOWN);
                    let created = self.created.get(&demand.policy.id).copied().flatten();
                    let is_older = created.is_some_and(|created| object.created <= created);
                    let reason =
                        if foreign { FOREIGN_OWNER } else { spot.reason(&image, is_older, self.found) };
                    if !foreign {
                        let (uid, slot) = (top.workload.uid.clone(), slot.key().clone());
                        let bare = Bare { uid, slot, reason: reason.to_owned() };
                        let (top, image) = (Arc::clone(top), image.clone());
                        self.unpinned.add(bare, BareImage { top, image });
                    }
                    let reason = reason.to_owned();
                    tally.without_digest.add(namespace, (foreign, spot), || (image, reason));
                }
            }
            for finding in &verdict.findings {
                let demand =
                    case.requirement.demands.iter().find(|demand| demand.policy.id == finding.policy);
                let (Some(demand), Some(tally)) = (demand, self.tallies.get_mut(&finding.policy)) else {
                    continue;
                };
                let exempt =
                    || waived_for_some(demand.policy, &subject, slot, finding.rule(), self.now, &budget);
                let written = || Written {
                    image: shown(case.slot.written(), IMAGE_SHOWN),
                    exception: exempt().ok().flatten().map(|exception| exception.name.clone()),
                };
                tally.violate(&top.workload, Some(slot), finding.code(), written);
            }
        }
        namespaced_steps
    }
}

/// Returns the numbers of a policy's exceptions that are active and that have expired.
pub(crate) fn exceptions(policy: &Policy, now: Timestamp) -> (u32, u32) {
    let active = policy.exceptions.iter().filter(|exception| exception.expires > now).count();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    (count(active), count(policy.exceptions.len() - active))
}

impl Tally {
    /// Begins to count the workload with this number, if it is another one than before.
    fn begin(&mut self, number: usize) {
        if self.current.replace(number) != Some(number) {
            self.workloads = self.workloads.saturating_add(1);
            self.of_current.clear();
        }
    }

    /// Adds a violation of this workload: in this slot, or as a whole.
    fn violate(
        &mut self,
        workload: &Workload,
        slot: Option<&Slot>,
        code: Code,
        written: impl FnOnce() -> Written,
    ) {
        let name = slot.map_or_else(Arc::default, |slot| Arc::clone(&slot.key().name));
        let role = slot.map(|slot| slot.key().role);
        if self.of_current.len() >= OF_ONE || !self.of_current.insert((role, Arc::clone(&name), code)) {
            return;
        }
        self.violations = self.violations.saturating_add(1);
        let place = Place {
            namespace: workload.namespace.clone(),
            kind: workload.kind.name(),
            name: workload.name.clone(),
            slot: name.to_string(),
            code: code.as_str(),
            role,
        };
        self.first.add(&workload.namespace, place, written);
    }

    fn standing(self, policy: &Policy, now: Timestamp) -> Standing {
        let (active, expired) = exceptions(policy, now);
        let summary = Summary {
            workloads: self.workloads,
            pinned: self.pinned,
            unpinned: self.unpinned,
            foreign: self.foreign,
            violations: self.violations,
            exceptions_active: active,
            exceptions_expired: expired,
        };
        let top =
            self.first.into_rows().into_iter().map(|(place, written)| place.violation(written)).collect();
        let without_digest = self
            .without_digest
            .into_rows()
            .into_iter()
            .map(|((_, spot), (image, reason))| {
                let Spot { namespace, kind, name, slot } = spot;
                Unpinned { namespace, kind: kind.to_owned(), name, slot, image, reason }
            })
            .collect();
        Standing { summary, top, without_digest }
    }
}

#[cfg(test)]
mod tests {
    use tagpin_domain::kind::Kind;

    use super::*;

    #[test]
    fn a_count_holds_no_more_than_its_rows_and_one_workload() {
        let mut tally = Tally::default();
        for number in 0..1000 {
            let name = format!("{number:04}");
            let workload = Workload::new(Kind::new("", "Pod"), true, "shop", &name);
            tally.begin(number);
            for code in [Code::TagForbidden, Code::TagForbidden, Code::TagNotFound] {
                tally.violate(&workload, None, code, Written::default);
            }
        }
        assert_eq!((tally.workloads, tally.violations), (1000, 2000));
        assert_eq!((tally.first.held(), tally.of_current.len()), (20, 2));
        let names: BTreeSet<_> = tally.first.into_rows().into_iter().map(|(place, _)| place.name).collect();
        assert_eq!(names.last().map(String::as_str), Some("0009"));
    }
}
