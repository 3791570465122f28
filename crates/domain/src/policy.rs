//! Compiled policies: what they match, and the checks that they demand. A policy object becomes one of these or is
//! invalid, so nothing here can fail. `verdict` judges.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{Check, RuleSet};
use crate::glob::Globs;
use crate::kind::Kind;
use crate::slot::Role;
use crate::workload::{LabelSet, Labels};

mod identities;
mod notes;

pub use identities::Identities;
pub use notes::{IdleGlob, Note};

/// The kind of a policy object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PolicyKind {
    /// A policy for the whole cluster.
    ClusterImagePolicy,
    /// A policy for one namespace.
    ImagePolicy,
}

impl PolicyKind {
    /// Returns the kind's name in the API: `ImagePolicy`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ClusterImagePolicy => "ClusterImagePolicy",
            Self::ImagePolicy => "ImagePolicy",
        }
    }
}

/// The identity of a policy. Displayed as `clusterimagepolicy/NAME` or `imagepolicy/NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyId {
    /// The namespace of an `ImagePolicy`; none for a `ClusterImagePolicy`.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
}

impl PolicyId {
    /// Returns the kind of the policy.
    #[must_use]
    pub const fn kind(&self) -> PolicyKind {
        match self.namespace {
            None => PolicyKind::ClusterImagePolicy,
            Some(_) => PolicyKind::ImagePolicy,
        }
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            None => write!(f, "clusterimagepolicy/{}", self.name),
            Some(namespace) => write!(f, "imagepolicy/{namespace}/{}", self.name),
        }
    }
}

/// The effect of a violated rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// The object is refused.
    Enforce,
    /// The author gets a warning.
    Warn,
    /// The violation is counted and reported.
    #[default]
    Audit,
}

impl Mode {
    /// Returns the word in policies and metrics: `Enforce`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enforce => "Enforce",
            Self::Warn => "Warn",
            Self::Audit => "Audit",
        }
    }
}

/// The treatment of children: objects that a built-in controller makes for an object of a validated kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Children {
    /// Children are never refused.
    #[default]
    Warn,
    /// Children are judged like any other object, and every image of a template whenever the template changes.
    Enforce,
}

/// One compiled policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The policy's identity.
    pub id: PolicyId,
    /// The effect of a violated rule.
    pub mode: Mode,
    /// The treatment of children.
    pub children: Children,
    /// The slots of the objects that the policy is about.
    pub scope: Scope,
    /// Everything that the policy demands, in the order in which it is judged.
    pub checks: Vec<Check>,
    /// The consequences when a registry gives no definite answer.
    pub resolution: Resolution,
    /// The exceptions, expired ones included.
    pub exceptions: Vec<Exception>,
    /// The globs that match nothing, at most one of each list.
    pub idle_globs: Vec<IdleGlob>,
}

impl Policy {
    /// Returns the length of all globs of the policy, by which the work that it makes is compared with that of others.
    pub(crate) fn length_of_globs(&self) -> usize {
        let images = self.exceptions.iter().filter_map(|exception| exception.images.as_ref());
        let tags = self.checks.iter().filter_map(|check| match check {
            Check::Tags { forbidden, .. } => Some(forbidden),
            _ => None,
        });
        self.scope.images.iter().chain(images).chain(tags).map(Globs::len).sum()
    }
}

/// The slots of the objects that a policy is about: every part that is given must match.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Selects by the namespace's labels. A namespaced policy matches its own namespace only, whatever this says.
    pub namespaces: Selector,
    /// Selects by the labels of the pod template, or of a pod that has none.
    pub objects: Selector,
    /// Kinds of the top-level validated owner; empty matches every kind.
    pub kinds: BTreeSet<Kind>,
    /// Globs on the normalised name; none matches every image. A reference that does not parse always matches.
    pub images: Option<Globs>,
    /// Roles of slots; empty matches every slot.
    pub slots: BTreeSet<Role>,
}

/// A label selector: every requirement must hold. An empty selector selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(pub Vec<LabelRequirement>);

/// One requirement of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRequirement {
    /// The label's key.
    pub key: String,
    /// The condition on the label's value.
    pub operator: LabelOperator,
}

/// The condition of one requirement of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelOperator {
    /// The label is present with one of these values.
    In(BTreeSet<String>),
    /// The label is absent, or present with another value.
    NotIn(BTreeSet<String>),
    /// The label is present.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl Selector {
    /// Returns true if these labels are selected, or could be with the labels that are not known.
    #[must_use]
    pub(crate) fn may_select(&self, labels: &LabelSet) -> bool {
        self.may_select_among(&labels.known, labels.whole)
    }

    /// Returns true if these labels are selected.
    #[must_use]
    pub(crate) fn selects(&self, labels: &Labels) -> bool {
        self.may_select_among(labels, true)
    }

    fn may_select_among(&self, labels: &Labels, whole: bool) -> bool {
        let is_known = |requirement: &&LabelRequirement| whole || labels.contains_key(&requirement.key);
        self.0.iter().filter(is_known).all(|requirement| requirement.holds(labels))
    }
}

impl LabelRequirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            LabelOperator::In(values) => value.is_some_and(|value| values.contains(value)),
            LabelOperator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

/// The consequences when a registry gives no definite answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    /// Maximum age of a last known digest that is used instead of an answer; zero never uses one.
    pub last_known_max_age: Duration,
    /// The outcome when the registry limits requests or is unavailable, and no last known digest is young enough.
    pub on_unavailable: Outcome,
    /// The outcome when the image is missing or private, access is denied, or credentials are rejected.
    pub on_unauthorized: Outcome,
    /// The outcome when the address or host is one that tagpin may not reach.
    pub on_forbidden_address: Outcome,
}

/// The outcome without a definite answer; the policy's mode caps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// Nothing follows.
    Allow,
    /// The author gets a warning.
    #[default]
    Warn,
    /// The object is refused.
    Deny,
}

/// An exception: some rules are waived for some images until a given time.
#[derive(Debug, Clone)]
pub struct Exception {
    /// The name, unique in its policy.
    pub name: String,
    /// Globs on the normalised name; none covers every image of the policy's scope.
    pub images: Option<Globs>,
    /// Names of namespaces; empty covers every namespace of the policy's scope.
    pub namespaces: BTreeSet<String>,
    /// The identities that the exception is for; none covers every request, and what runs already.
    pub identities: Option<Arc<Identities>>,
    /// The rules that are waived.
    pub rules: RuleSet,
    /// The time from which nothing is waived.
    pub expires: Timestamp,
}

/// Every policy in force, as one immutable snapshot.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    /// Cluster policies, sorted by name.
    pub cluster: Vec<Arc<Policy>>,
    /// Namespaced policies by namespace, each list sorted by name.
    pub namespaced: BTreeMap<String, Vec<Arc<Policy>>>,
}

impl PolicySet {
    /// Returns the policies that a namespace is subject to, cluster policies first, whatever their scopes
    /// are.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<Policy>> {
        self.cluster.iter().chain(self.namespaced.get(namespace).into_iter().flatten())
    }

    /// Returns every policy, cluster policies first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.cluster.iter().chain(self.namespaced.values().flatten())
    }

    /// Returns the number of exceptions that are in force at `now` and have expired at `then`.
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
    fn words_are_what_the_api_has() {
        fn of_api(value: impl Serialize) -> String {
            serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
        }
        for mode in [Mode::Enforce, Mode::Warn, Mode::Audit] {
            assert_eq!(mode.word(), of_api(mode));
        }
        for kind in [PolicyKind::ClusterImagePolicy, PolicyKind::ImagePolicy] {
            assert_eq!(kind.word(), of_api(kind));
        }
    }

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

    #[test]
    fn labels_that_are_not_known_may_be_selected_and_known_ones_decide() {
        let known = LabelSet::of_namespace("shop", None);
        let name = "kubernetes.io/metadata.name";
        let values = |value: &str| BTreeSet::from([value.to_owned()]);
        let may = |key: &str, operator| {
            Selector(vec![LabelRequirement { key: key.to_owned(), operator }]).may_select(&known)
        };
        assert!(
            may("env", LabelOperator::In(values("prod"))) && may("env", LabelOperator::NotIn(values("prod")))
        );
        assert!(may("env", LabelOperator::Exists) && may("env", LabelOperator::DoesNotExist));
        assert!(
            may(name, LabelOperator::In(values("shop"))) && !may(name, LabelOperator::In(values("other")))
        );
        assert!(!may(name, LabelOperator::NotIn(values("shop"))));
        let whole = LabelSet::of_namespace("shop", Some(Labels::new()));
        let selector =
            Selector(vec![LabelRequirement { key: "env".to_owned(), operator: LabelOperator::Exists }]);
        assert!(!selector.may_select(&whole));
    }

    #[test]
    fn of_cut_labels_one_that_is_not_left_may_have_any_value() {
        let known = Labels::from([("env".to_owned(), "prod".to_owned())]);
        let prod = BTreeSet::from(["prod".to_owned()]);
        let may = |key: &str, operator: LabelOperator, cut: bool| {
            let labels = LabelSet { known: known.clone(), whole: !cut };
            Selector(vec![LabelRequirement { key: key.to_owned(), operator }]).may_select(&labels)
        };
        for operator in [
            LabelOperator::In(prod.clone()),
            LabelOperator::NotIn(prod.clone()),
            LabelOperator::Exists,
            LabelOperator::DoesNotExist,
        ] {
            assert!(may("tier", operator.clone(), true), "{operator:?}");
            assert_eq!(
                may("env", operator.clone(), true),
                may("env", operator.clone(), false),
                "{operator:?}"
            );
        }
        assert!(!may("tier", LabelOperator::Exists, false));
    }
}
