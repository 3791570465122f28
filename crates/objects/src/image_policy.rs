//! The documents `ClusterImagePolicy` and `ImagePolicy`: the fields that people write and read, with their schema. The
//! doc comments are product text: `kubectl explain` prints them. `compile` turns a spec into `domain::policy`.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

mod compile;
mod schemas;
mod status;

pub use compile::{PolicyError, PolicySpec};
pub use status::{LastGood, PolicyStatus, Refused, Summary, Unpinned, Violation};

use crate::label_selector::LabelSelector;
use crate::schema::rule;
use tagpin_domain::check::{Owners, Rule};
use tagpin_domain::policy::{Children, Mode, Outcome};
use tagpin_domain::slot::Role;

#[cfg(test)]
mod tests;

/// The spec of a `ClusterImagePolicy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterImagePolicySpec {
    /// The effect of a violated rule: `Enforce` refuses the object, `Warn` prints a warning, `Audit` counts and reports.
    /// Pinning does not depend on the mode.
    pub mode: Mode,
    /// The treatment of objects that a built-in controller makes, such as the pods of a Deployment. `Warn`: they are
    /// pinned, and a violation is a warning at most, because their template was judged when its author wrote it.
    /// `Enforce`: they are judged like any other object, and so is every image of a template whenever the template
    /// changes.
    pub children: Children,
    /// The images and objects that this policy is about. Every part that is given must match; a part that is left out
    /// matches everything.
    pub r#match: ClusterMatch,
    /// The rules for an image reference as its author wrote it.
    pub rules: Rules,
    /// The objects whose tags are replaced by the digest that the tag names now: `nginx:1.29` becomes
    /// `nginx:1.29@sha256:...`.
    pub pin: Pin,
    /// The consequences when a registry gives no definite answer.
    pub resolution: Resolution,
    /// Exceptions: each waives rules of this policy for some images until a given time. Exceptions of other policies do
    /// not count.
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub exceptions: Vec<ClusterException>,
}

/// The spec of an `ImagePolicy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ImagePolicySpec {
    /// The effect of a violated rule: `Enforce` refuses the object, `Warn` prints a warning, `Audit` counts and reports.
    /// Pinning does not depend on the mode.
    pub mode: Mode,
    /// The treatment of objects that a built-in controller makes, such as the pods of a Deployment. `Warn`: they are
    /// pinned, and a violation is a warning at most, because their template was judged when its author wrote it.
    /// `Enforce`: they are judged like any other object, and so is every image of a template whenever the template
    /// changes.
    pub children: Children,
    /// The images and objects of this namespace that this policy is about. Every part that is given must match; a part
    /// that is left out matches everything.
    pub r#match: Match,
    /// The rules for an image reference as its author wrote it.
    pub rules: Rules,
    /// The objects whose tags are replaced by the digest that the tag names now: `nginx:1.29` becomes
    /// `nginx:1.29@sha256:...`.
    pub pin: Pin,
    /// The consequences when a registry gives no definite answer.
    pub resolution: Resolution,
    /// Exceptions: each waives rules of this policy for some images until a given time. Exceptions of other policies do
    /// not count.
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub exceptions: Vec<Exception>,
}

/// The images and objects that a cluster policy is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterMatch {
    /// Selects by the labels of the object's namespace.
    pub namespace_selector: LabelSelector,
    /// The fields that both kinds of policy have.
    #[serde(flatten)]
    pub common: Match,
}

/// The images and objects that a policy is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Match {
    /// Selects by the labels of the pod template, or of a pod that has no template.
    pub object_selector: LabelSelector,
    /// Kinds of workloads. An object that belongs to a workload counts as that workload: the ReplicaSets and pods of a
    /// Deployment count as Deployment. An object that no built-in controller made also counts as its own kind, whatever
    /// owner it names. Empty: every kind.
    #[schemars(length(max = 16))]
    pub kinds: Vec<GroupKind>,
    /// Globs on the full image name without tag, as the node reads it: `nginx` is `docker.io/library/nginx`. `*` stays
    /// within one part of the name, `**` crosses parts. An image reference that no node can read always matches.
    /// Empty: every image.
    #[schemars(schema_with = "schemas::images::<64>")]
    pub images: Vec<String>,
    /// The places that name an image: `Container`, `InitContainer` (sidecars too), `EphemeralContainer`
    /// (`kubectl debug`), `ImageVolume`. Empty: all of them.
    #[schemars(schema_with = "schemas::slots")]
    pub slots: Vec<Role>,
}

/// A kind that tagpin validates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [schemas::known_kind()]))]
pub struct GroupKind {
    /// The API group: `apps`, `batch`, or empty for Pod, ReplicationController and PodTemplate.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    /// The kind: `Deployment`.
    #[schemars(length(max = 63))]
    pub kind: String,
}

/// The rules for an image reference as its author wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rules {
    /// The rules for the tag.
    pub tags: TagRules,
    /// The check that the registry has the image: with `Tags` the registry is asked for every reference without a digest
    /// before the object is admitted, with `Ignore` it is not asked.
    pub existence: Existence,
}

/// The rules for the tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TagRules {
    /// Tags that are refused, as globs: `latest`, `dev-*`. An omitted tag counts as `latest`, unless the reference has a
    /// digest; a tag that is written beside a digest is judged too. An empty list forbids none.
    #[schemars(schema_with = "schemas::tags")]
    pub forbidden: Vec<String>,
    /// True refuses a reference with neither tag nor digest, even where `latest` is not forbidden.
    pub require_explicit: bool,
}

impl Default for TagRules {
    fn default() -> Self {
        Self { forbidden: vec!["latest".to_owned()], require_explicit: false }
    }
}

/// The references that a registry is asked about for the rule `existence`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Existence {
    /// References without a digest.
    #[default]
    Tags,
    /// No references.
    Ignore,
}

/// The objects whose tags are replaced by digests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Pin {
    /// The objects that are rewritten: `Pods` before they run, or nothing (the empty list). Workloads stay as their
    /// authors wrote them.
    #[schemars(schema_with = "targets")]
    pub targets: Vec<Target>,
    /// The pods that are pinned, by their controllers: `BuiltIn` (pods of the built-in controllers, and pods without a
    /// controller), or `Any` (pods of custom resources too; an operator that takes the rewritten image for a change may
    /// delete and recreate the pod again and again). Pods of a StatefulSet that a custom resource controls count as pods
    /// of that custom resource.
    pub owners: Owners,
}

/// A kind of object that is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Target {
    /// Pods, before they run.
    Pods,
}

/// Returns the schema of a list of kinds of objects.
fn targets(generator: &mut SchemaGenerator) -> Schema {
    schemas::words::<Target>(generator, 4, &[schemas::unique("target")])
}

/// The consequences when a registry gives no definite answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Resolution {
    /// The maximum age of a digest that is used instead of an answer while the registry is unavailable, in hours, minutes
    /// and seconds: `168h`, `1h30m`; `0s` uses none.
    #[schemars(schema_with = "schemas::duration")]
    pub last_known_max_age: String,
    /// The outcome when the registry is unavailable or limits requests, and no such digest is known: `Allow`, `Warn` or
    /// `Deny`, never stricter than the mode.
    pub on_unavailable: Outcome,
    /// The outcome when the registry refuses access, or does not tell whether the image is missing or private (nodes may
    /// hold credentials that tagpin cannot see): `Allow`, `Warn` or `Deny`, never stricter than the mode.
    pub on_unauthorized: Outcome,
    /// The outcome when the registry is at an address that tagpin may not reach: `Allow`, `Warn` or `Deny`, never stricter
    /// than the mode.
    pub on_forbidden_address: Outcome,
}

impl Default for Resolution {
    fn default() -> Self {
        Self {
            last_known_max_age: "168h".to_owned(),
            on_unavailable: Outcome::Warn,
            on_unauthorized: Outcome::Warn,
            on_forbidden_address: Outcome::Warn,
        }
    }
}

/// An exception of a cluster policy: it waives rules for some images until a given time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterException {
    /// The fields that both kinds of policy have.
    #[serde(flatten)]
    pub common: Exception,
    /// Names of the namespaces that the exception covers. Empty: every namespace of this policy.
    #[serde(default)]
    #[schemars(schema_with = "schemas::namespaces")]
    pub namespaces: Vec<String>,
}

/// An exception: it waives rules of its policy for some images until a given time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exception {
    /// A short name, unique in this policy.
    #[schemars(length(max = 63), extend("x-kubernetes-validations" = [rule(
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "name it in lower case letters, digits and -, such as legacy-batch",
    )]))]
    pub name: String,
    /// The reason for the exception, in 10 characters or more, for those who read this policy later.
    #[schemars(length(max = 1024), extend("x-kubernetes-validations" = [rule(
        "self.size() >= 10",
        "say in 10 characters or more why the exception is needed",
    )]))]
    pub reason: String,
    /// Globs on the full image name without tag, as in `match.images`. Empty: every image of this policy.
    #[serde(default)]
    #[schemars(schema_with = "schemas::images::<16>")]
    pub images: Vec<String>,
    /// The users whose requests are covered, as the API server names them, as globs: `system:serviceaccount:velero:*`;
    /// `*` stops at a slash, `**` does not. Empty, and `groups` too: every request. An exception with `users` or `groups`
    /// covers the objects that these users write; the status counts what runs as if there were no such exception.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schemas::users")]
    pub users: Vec<String>,
    /// The groups whose members' requests are covered, as globs: `system:serviceaccounts:velero`. A user of `users` needs
    /// no such group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schemas::groups")]
    pub groups: Vec<String>,
    /// The rules that are waived: `reference` (the reference can be read, and the object has at most 64 different ones),
    /// `tags`, `existence` (everything that depends on a registry's answer), `pin`. Left out: every rule but `pin`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schemas::waived_rules")]
    pub rules: Vec<Rule>,
    /// The end of the exception: a time with its zone, such as `2027-01-31T00:00:00Z`.
    #[schemars(schema_with = "schemas::time")]
    pub expires: String,
}
