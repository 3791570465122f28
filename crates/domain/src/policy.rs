//! Compiled policies: what they match and what they demand. A policy object becomes one of these or is invalid;
//! nothing here can fail. It does not judge; `verdict` does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::glob::Globs;
use crate::kind::Kind;
use crate::slot::Role;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Which policy. Displayed as `clusterimagepolicy/NAME` or `imagepolicy/NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyId {
    /// The namespace of an `ImagePolicy`; none for a `ClusterImagePolicy`.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            None => write!(f, "clusterimagepolicy/{}", self.name),
            Some(namespace) => write!(f, "imagepolicy/{namespace}/{}", self.name),
        }
    }
}

/// What a violated rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It refuses.
    Enforce,
    /// It warns.
    Warn,
    /// It is counted and reported.
    Audit,
}

/// How children (objects made by a built-in controller for a kind that is validated itself) are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Children {
    /// Never refused.
    Warn,
    /// In full, as their templates, which then are judged whole on each change.
    Enforce,
}

/// The rules of a policy, as exceptions and messages name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// The reference is one a node could pull, and an object has at most 64 different ones.
    Reference,
    /// Forbidden and omitted tags.
    Tags,
    /// The tag exists in its registry.
    Existence,
    /// The pod carries its pin.
    Pin,
}

impl Rule {
    /// The word in messages and exceptions: `tags`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Tags => "tags",
            Self::Existence => "existence",
            Self::Pin => "pin",
        }
    }
}

/// One compiled policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Which policy.
    pub id: PolicyId,
    /// What a violated rule does.
    pub mode: Mode,
    /// How children are judged.
    pub children: Children,
    /// Which slots of which objects it is about.
    pub scope: Scope,
    /// What it demands of a reference.
    pub rules: Rules,
    /// What it wants pinned.
    pub pin: Pin,
    /// What a registry's silence means.
    pub resolution: Resolution,
    /// What it does not demand of some images, for some time.
    pub exceptions: Vec<Exception>,
}

/// Which slots of which objects a policy is about: every given part must match.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// On the namespace's labels. A namespaced policy matches its own namespace only, whatever this says.
    pub namespaces: Selector,
    /// On the labels of the pod template, or of the bare pod.
    pub objects: Selector,
    /// The top-level validated owner; empty matches every kind.
    pub kinds: BTreeSet<Kind>,
    /// On the normalised name; none matches every image, and an unparseable reference matches always.
    pub images: Option<Globs>,
    /// Empty matches every slot.
    pub slots: BTreeSet<Role>,
}

/// A label selector: every requirement must hold. The empty one selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(pub Vec<LabelRequirement>);

/// One requirement of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRequirement {
    /// The label.
    pub key: String,
    /// What must hold of it.
    pub operator: LabelOperator,
}

/// What a label selector can demand of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelOperator {
    /// Present with one of these values.
    In(BTreeSet<String>),
    /// Absent, or present with another value.
    NotIn(BTreeSet<String>),
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
}

impl Selector {
    /// Whether these labels are selected.
    #[must_use]
    pub fn selects(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.operator {
                LabelOperator::In(values) => value.is_some_and(|value| values.contains(value)),
                LabelOperator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                LabelOperator::Exists => value.is_some(),
                LabelOperator::DoesNotExist => value.is_none(),
            }
        })
    }
}

/// What a policy demands of a reference.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Tags that are refused.
    pub forbidden: Globs,
    /// An omitted tag is refused (unless a digest is written).
    pub require_explicit: bool,
    /// Whether a registry must confirm the tag.
    pub existence: Existence,
}

/// Whether a registry must confirm the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existence {
    /// Tags must exist; references with a digest are not asked about.
    Tags,
    /// Nothing is asked for this rule.
    Ignore,
}

/// What a policy wants pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Pods get the digest of the tag before they run.
    pub pods: bool,
    /// Whose pods.
    pub owners: Owners,
}

/// Whose pods are pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Bare pods and pods of the built-in controllers.
    BuiltIn,
    /// Pods of custom resources too, whose operators may compare images.
    Any,
}

/// What a registry's silence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    /// How old a last known digest may be; zero never uses one.
    pub last_known_max_age: Duration,
    /// Rate limited or unavailable, and no last known digest is young enough.
    pub on_unavailable: Outcome,
    /// Missing or private, access denied, credentials rejected.
    pub on_unauthorized: Outcome,
    /// An address or host that tagpin may not reach.
    pub on_forbidden_address: Outcome,
}

/// What to do where no definite answer was had; the policy's mode caps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Allow,
    /// A warning.
    Warn,
    /// A refusal.
    Deny,
}

/// What a policy does not demand of some images, for some time.
#[derive(Debug, Clone)]
pub struct Exception {
    /// Unique in its policy.
    pub name: String,
    /// On the normalised name; none covers every image of the policy's scope.
    pub images: Option<Globs>,
    /// Names of namespaces; empty covers every namespace of the policy's scope.
    pub namespaces: BTreeSet<String>,
    /// The rules it waives.
    pub rules: BTreeSet<Rule>,
    /// It waives nothing from then on.
    pub expires: Timestamp,
}

/// Every policy in force, as one immutable snapshot.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    /// Sorted by name.
    pub cluster: Vec<Arc<Policy>>,
    /// By namespace, each sorted by name.
    pub namespaced: BTreeMap<String, Vec<Arc<Policy>>>,
}

impl PolicySet {
    /// The policies that a namespace is under, cluster policies first; their scopes are not looked at yet.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<Policy>> {
        self.cluster.iter().chain(self.namespaced.get(namespace).into_iter().flatten())
    }

    /// Every policy, cluster policies first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.cluster.iter().chain(self.namespaced.values().flatten())
    }

    /// How many exceptions hold now and no longer at `then`.
    #[must_use]
    pub fn expiring(&self, now: Timestamp, then: Timestamp) -> usize {
        let exceptions = self.all().flat_map(|policy| &policy.exceptions);
        exceptions.filter(|exception| exception.expires > now && exception.expires <= then).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_demand_every_requirement() {
        let labels = Labels::from([("env".to_owned(), "prod".to_owned())]);
        let requirement = |key: &str, operator| LabelRequirement { key: key.to_owned(), operator };
        let values = || BTreeSet::from(["prod".to_owned(), "stage".to_owned()]);
        let selects = |requirements| Selector(requirements).selects(&labels);
        assert!(selects(vec![]));
        assert!(selects(vec![requirement("env", LabelOperator::In(values()))]));
        assert!(!selects(vec![requirement("env", LabelOperator::NotIn(values()))]));
        assert!(selects(vec![requirement("team", LabelOperator::NotIn(values()))]));
        assert!(!selects(vec![requirement("team", LabelOperator::In(values()))]));
        assert!(!selects(vec![
            requirement("env", LabelOperator::Exists),
            requirement("env", LabelOperator::DoesNotExist)
        ]));
        assert!(selects(vec![requirement("team", LabelOperator::DoesNotExist)]));
    }
}
