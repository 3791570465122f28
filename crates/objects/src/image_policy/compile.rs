//! Compiles the spec of a policy object into a domain policy. A spec that the schema and its CEL rules refuse may still
//! arrive here, from an object that was stored before a rule existed or from a file that no API server has seen. So
//! every spec either compiles or names the field that is wrong.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::duration::{self, DurationError};
use crate::image_policy::{
    ClusterImagePolicySpec, Exception, Existence, GroupKind, ImagePolicySpec, Match, Pin, Resolution, Rules,
    TagRules, Target,
};
use crate::kinds::Kinds;
use tagpin_domain::check::{Check, Rule, RuleSet};
use tagpin_domain::glob::{GlobError, Globs, Search, Texts};
use tagpin_domain::kind::Kind;
use tagpin_domain::policy;
use tagpin_domain::policy::{Identities, IdleGlob, Policy, PolicyId, PolicyKind, Selector};

/// The field that keeps a policy from being put in force, and the problem with it. The text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct PolicyError {
    /// The field's path: `spec.match.images[2]`.
    pub field: String,
    /// The problem with the field.
    pub problem: Problem,
}

/// A problem with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A glob that does not compile.
    #[error("{0}")]
    Glob(GlobError),
    /// A text that is not a duration, or one that does not fit.
    #[error("\"{text}\" {error}")]
    Duration {
        /// The text as written.
        text: String,
        /// The reason.
        error: DurationError,
    },
    /// A text that is not a time.
    #[error("\"{0}\" is not a time; write a date that exists, a time and a zone: 2027-01-31T00:00:00Z")]
    Time(String),
    /// A kind that tagpin does not validate.
    #[error("{group}/{kind} is not a kind that tagpin validates")]
    Kind {
        /// The group as written.
        group: String,
        /// The kind as written.
        kind: String,
    },
}

/// The spec of a policy object of either kind.
pub trait PolicySpec: Serialize + DeserializeOwned {
    /// The kind of the object.
    const KIND: PolicyKind;

    /// Compiles the spec.
    ///
    /// # Errors
    /// Returns the first field that does not compile.
    fn compile(&self, id: PolicyId) -> Result<Policy, PolicyError>;
}

impl PolicySpec for ClusterImagePolicySpec {
    const KIND: PolicyKind = PolicyKind::ClusterImagePolicy;

    fn compile(&self, id: PolicyId) -> Result<Policy, PolicyError> {
        let mut compiler = Compiler::new();
        let exceptions = self.exceptions.iter().enumerate();
        Ok(Policy {
            id,
            mode: self.mode,
            children: self.children,
            scope: compiler.scope(&self.r#match.common, Selector::from(&self.r#match.namespace_selector))?,
            checks: compiler.checks(&self.rules, &self.pin)?,
            resolution: resolution(&self.resolution)?,
            exceptions: exceptions
                .map(|(index, item)| compiler.exception(index, &item.common, &item.namespaces))
                .collect::<Result<_, _>>()?,
            idle_globs: compiler.idle,
        })
    }
}

impl PolicySpec for ImagePolicySpec {
    const KIND: PolicyKind = PolicyKind::ImagePolicy;

    fn compile(&self, id: PolicyId) -> Result<Policy, PolicyError> {
        let mut compiler = Compiler::new();
        let exceptions = self.exceptions.iter().enumerate();
        Ok(Policy {
            id,
            mode: self.mode,
            children: self.children,
            scope: compiler.scope(&self.r#match, Selector::default())?,
            checks: compiler.checks(&self.rules, &self.pin)?,
            resolution: resolution(&self.resolution)?,
            exceptions: exceptions
                .map(|(index, item)| compiler.exception(index, item, &[]))
                .collect::<Result<_, _>>()?,
            idle_globs: compiler.idle,
        })
    }
}

/// The searches for globs that match nothing, which all globs of one policy share, and what they found.
struct Compiler {
    names: Search,
    tags: Search,
    idle: Vec<IdleGlob>,
}

impl Compiler {
    fn new() -> Self {
        Self { names: Search::new(Texts::Names), tags: Search::new(Texts::Tags), idle: Vec::new() }
    }

    fn scope(&mut self, matching: &Match, namespaces: Selector) -> Result<policy::Scope, PolicyError> {
        Ok(policy::Scope {
            namespaces,
            objects: Selector::from(&matching.object_selector),
            kinds: matching.kinds.iter().enumerate().map(kind).collect::<Result<_, _>>()?,
            images: self.images("spec.match.images", &matching.images)?,
            slots: matching.slots.iter().copied().collect(),
        })
    }

    /// Returns everything that a policy demands, in the order in which it is judged.
    fn checks(&mut self, rules: &Rules, pin: &Pin) -> Result<Vec<Check>, PolicyError> {
        let mut checks = vec![Check::Limit, Check::Reference];
        let TagRules { forbidden, require_explicit } = &rules.tags;
        if *require_explicit || !forbidden.is_empty() {
            let forbidden = self.globs(Texts::Tags, "spec.rules.tags.forbidden", forbidden)?;
            checks.push(Check::Tags { forbidden, require_explicit: *require_explicit });
        }
        let existence = rules.existence != Existence::Ignore;
        let pin = pin.targets.contains(&Target::Pods).then_some(Check::Pin(pin.owners));
        if existence {
            checks.push(Check::Existence);
        }
        if existence || pin.is_some() {
            checks.push(Check::Resolution);
        }
        checks.extend(pin);
        Ok(checks)
    }
    fn exception(
        &mut self,
        index: usize,
        exception: &Exception,
        namespaces: &[String],
    ) -> Result<policy::Exception, PolicyError> {
        let expires = &exception.expires;
        let rules: RuleSet = if exception.rules.is_empty() {
            [Rule::Reference, Rule::Tags, Rule::Existence].into_iter().collect()
        } else {
            exception.rules.iter().copied().collect()
        };
        Ok(policy::Exception {
            name: exception.name.clone(),
            images: self.images(&format!("spec.exceptions[{index}].images"), &exception.images)?,
            namespaces: namespaces.iter().cloned().collect(),
            identities: identities(index, &exception.users, &exception.groups)?,
            rules,
            expires: expires.parse::<Timestamp>().map_err(|_| PolicyError {
                field: format!("spec.exceptions[{index}].expires"),
                problem: Problem::Time(expires.clone()),
            })?,
        })
    }

    /// Compiles globs on names; an empty list means every name.
    fn images(&mut self, field: &str, written: &[String]) -> Result<Option<Globs>, PolicyError> {
        if written.is_empty() { Ok(None) } else { self.globs(Texts::Names, field, written).map(Some) }
    }

    /// Compiles globs on these texts. The first one that matches none of them is kept as idle: the policy stays in
    /// force, because it may be older than the check.
    fn globs(&mut self, texts: Texts, field: &str, written: &[String]) -> Result<Globs, PolicyError> {
        let globs = Globs::new(written).map_err(|problem| PolicyError {
            field: format!("{field}[{}]", problem.index),
            problem: Problem::Glob(problem),
        })?;
        let search = match texts {
            Texts::Names => &mut self.names,
            Texts::Tags => &mut self.tags,
        };
        if let Some((index, reason)) = search.impossible(&globs, written) {
            let glob = written.get(index).cloned().unwrap_or_default();
            self.idle.push(IdleGlob { field: format!("{field}[{index}]"), glob, reason });
        }
        Ok(globs)
    }
}

/// Compiles the users and groups of an exception; none if it names neither.
fn identities(
    index: usize,
    users: &[String],
    groups: &[String],
) -> Result<Option<Arc<Identities>>, PolicyError> {
    if users.is_empty() && groups.is_empty() {
        return Ok(None);
    }
    let compile = |field: &str, written: &[String]| {
        let at = |error: &GlobError| format!("spec.exceptions[{index}].{field}[{}]", error.index);
        Globs::new(written).map_err(|error| PolicyError { field: at(&error), problem: Problem::Glob(error) })
    };
    let (of_users, of_groups) = (compile("users", users)?, compile("groups", groups)?);
    Ok(Some(Arc::new(Identities::new(of_users, of_groups))))
}

fn kind((index, written): (usize, &GroupKind)) -> Result<Kind, PolicyError> {
    Kinds::default().find(&written.group, &written.kind).map(|row| row.kind).ok_or_else(|| PolicyError {
        field: format!("spec.match.kinds[{index}]"),
        problem: Problem::Kind { group: written.group.clone(), kind: written.kind.clone() },
    })
}

fn resolution(resolution: &Resolution) -> Result<policy::Resolution, PolicyError> {
    let text = &resolution.last_known_max_age;
    let last_known_max_age = duration::parse(text).map_err(|error| PolicyError {
        field: "spec.resolution.lastKnownMaxAge".to_owned(),
        problem: Problem::Duration { text: text.clone(), error },
    })?;
    Ok(policy::Resolution {
        last_known_max_age,
        on_unavailable: resolution.on_unavailable,
        on_unauthorized: resolution.on_unauthorized,
        on_forbidden_address: resolution.on_forbidden_address,
    })
}
