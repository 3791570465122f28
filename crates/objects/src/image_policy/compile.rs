//! From what was typed to what is meant. What the schema and its CEL rules refuse may still come by (objects stored
//! before a rule existed, files that never saw an API server), so this is total: it compiles or names the field.

use std::fmt::Debug;

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::duration::{self, DurationError};
use crate::image_policy::{
    Children, ClusterImagePolicy, ClusterImagePolicySpec, Exception, Existence, GroupKind, ImagePolicy,
    ImagePolicySpec, Match, Mode, Outcome, Owners, Pin, Resolution, Rules, Slot, TagRules, Target,
    WaivedRule,
};
use tagpin_domain::check::Check;
use tagpin_domain::glob::{GlobError, Globs};
use tagpin_domain::policy;
use tagpin_domain::policy::{Policy, PolicyId, Rule, RuleSet, Selector};
use tagpin_domain::slot::{Kind, SlotRole};

/// Which field keeps a policy from being put in force, and why. The text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct PolicyError {
    /// The field's path: `spec.match.images[2]`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A glob that does not compile.
    #[error("{0}")]
    Glob(GlobError),
    /// Not a duration, or one that does not fit.
    #[error("\"{text}\" {error}")]
    Duration {
        /// As written.
        text: String,
        /// Why.
        error: DurationError,
    },
    /// Not a time.
    #[error("\"{0}\" is not a time; write a date that exists, a time and a zone: 2027-01-31T00:00:00Z")]
    Time(String),
    /// Not a kind that is validated.
    #[error("{group}/{kind} is not a kind that tagpin validates")]
    Kind {
        /// The group as written.
        group: String,
        /// The kind as written.
        kind: String,
    },
}

/// What both kinds of policy have in common, for those who treat them alike.
pub trait PolicyObject:
    kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Its spec.
    type Spec: DeserializeOwned + serde::Serialize;

    /// Compiles a spec: the object's own, or its last good one.
    ///
    /// # Errors
    /// The first field that does not compile.
    fn compile(id: PolicyId, spec: &Self::Spec) -> Result<Policy, PolicyError>;
}

impl PolicyObject for ClusterImagePolicy {
    type Spec = ClusterImagePolicySpec;

    fn compile(id: PolicyId, spec: &ClusterImagePolicySpec) -> Result<Policy, PolicyError> {
        let exceptions = spec.exceptions.iter().enumerate();
        Ok(Policy {
            id,
            mode: spec.mode.into(),
            children: spec.children.into(),
            scope: scope(&spec.r#match.common, Selector::from(&spec.r#match.namespace_selector))?,
            checks: checks(&spec.rules, &spec.pin)?,
            resolution: resolution(&spec.resolution)?,
            exceptions: exceptions
                .map(|(index, item)| exception(index, &item.common, &item.namespaces))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl PolicyObject for ImagePolicy {
    type Spec = ImagePolicySpec;

    fn compile(id: PolicyId, spec: &ImagePolicySpec) -> Result<Policy, PolicyError> {
        let exceptions = spec.exceptions.iter().enumerate();
        Ok(Policy {
            id,
            mode: spec.mode.into(),
            children: spec.children.into(),
            scope: scope(&spec.r#match, Selector::default())?,
            checks: checks(&spec.rules, &spec.pin)?,
            resolution: resolution(&spec.resolution)?,
            exceptions: exceptions
                .map(|(index, item)| exception(index, item, &[]))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn scope(matching: &Match, namespaces: Selector) -> Result<policy::Scope, PolicyError> {
    Ok(policy::Scope {
        namespaces,
        objects: Selector::from(&matching.object_selector),
        kinds: matching.kinds.iter().enumerate().map(kind).collect::<Result<_, _>>()?,
        images: some_globs("spec.match.images", &matching.images)?,
        slots: matching.slots.iter().map(|&slot| slot.into()).collect(),
    })
}

fn kind((index, written): (usize, &GroupKind)) -> Result<Kind, PolicyError> {
    Kind::find(&written.group, &written.kind).ok_or_else(|| PolicyError {
        field: format!("spec.match.kinds[{index}]"),
        problem: Problem::Kind { group: written.group.clone(), kind: written.kind.clone() },
    })
}

/// Returns everything that a policy demands, in the order in which it is judged.
fn checks(rules: &Rules, pin: &Pin) -> Result<Vec<Check>, PolicyError> {
    let mut checks = vec![Check::Limit, Check::Reference];
    let TagRules { forbidden, require_explicit } = &rules.tags;
    if *require_explicit || !forbidden.is_empty() {
        let forbidden = globs("spec.rules.tags.forbidden", forbidden)?;
        checks.push(Check::Tags { forbidden, require_explicit: *require_explicit });
    }
    let existence = rules.existence != Existence::Ignore;
    let pin = pin.targets.contains(&Target::Pods).then(|| Check::Pin(pin.owners.into()));
    if existence {
        checks.push(Check::Existence);
    }
    if existence || pin.is_some() {
        checks.push(Check::Resolution);
    }
    checks.extend(pin);
    Ok(checks)
}

fn resolution(resolution: &Resolution) -> Result<policy::Resolution, PolicyError> {
    let text = &resolution.last_known_max_age;
    let last_known_max_age = duration::parse(text).map_err(|error| PolicyError {
        field: "spec.resolution.lastKnownMaxAge".to_owned(),
        problem: Problem::Duration { text: text.clone(), error },
    })?;
    Ok(policy::Resolution {
        last_known_max_age,
        on_unavailable: resolution.on_unavailable.into(),
        on_unauthorized: resolution.on_unauthorized.into(),
        on_forbidden_address: resolution.on_forbidden_address.into(),
    })
}

fn exception(
    index: usize,
    exception: &Exception,
    namespaces: &[String],
) -> Result<policy::Exception, PolicyError> {
    let expires = &exception.expires;
    let rules: RuleSet = if exception.rules.is_empty() {
        [Rule::Reference, Rule::Tags, Rule::Existence].into_iter().collect()
    } else {
        exception.rules.iter().map(|&rule| rule.into()).collect()
    };
    Ok(policy::Exception {
        name: exception.name.clone(),
        images: some_globs(&format!("spec.exceptions[{index}].images"), &exception.images)?,
        namespaces: namespaces.iter().cloned().collect(),
        rules,
        expires: expires.parse::<Timestamp>().map_err(|_| PolicyError {
            field: format!("spec.exceptions[{index}].expires"),
            problem: Problem::Time(expires.clone()),
        })?,
    })
}

/// Globs of which none means all.
fn some_globs(field: &str, written: &[String]) -> Result<Option<Globs>, PolicyError> {
    if written.is_empty() { Ok(None) } else { globs(field, written).map(Some) }
}

fn globs(field: &str, written: &[String]) -> Result<Globs, PolicyError> {
    Globs::new(written).map_err(|error| PolicyError {
        field: format!("{field}[{}]", error.index),
        problem: Problem::Glob(error),
    })
}

impl From<Mode> for policy::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Enforce => Self::Enforce,
            Mode::Warn => Self::Warn,
            Mode::Audit => Self::Audit,
        }
    }
}

impl From<Children> for policy::Children {
    fn from(children: Children) -> Self {
        match children {
            Children::Warn => Self::Warn,
            Children::Enforce => Self::Enforce,
        }
    }
}

impl From<Slot> for SlotRole {
    fn from(slot: Slot) -> Self {
        match slot {
            Slot::Container => Self::Container,
            Slot::InitContainer => Self::InitContainer,
            Slot::EphemeralContainer => Self::EphemeralContainer,
            Slot::ImageVolume => Self::ImageVolume,
        }
    }
}

impl From<Owners> for policy::Owners {
    fn from(owners: Owners) -> Self {
        match owners {
            Owners::BuiltIn => Self::BuiltIn,
            Owners::Any => Self::Any,
        }
    }
}

impl From<Outcome> for policy::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Allow => Self::Allow,
            Outcome::Warn => Self::Warn,
            Outcome::Deny => Self::Deny,
        }
    }
}

impl From<WaivedRule> for Rule {
    fn from(rule: WaivedRule) -> Self {
        match rule {
            WaivedRule::Reference => Self::Reference,
            WaivedRule::Tags => Self::Tags,
            WaivedRule::Existence => Self::Existence,
            WaivedRule::Pin => Self::Pin,
        }
    }
}
