//! `ClusterImagePolicy` and `ImagePolicy` as people write and read them. The doc comments are product text:
//! `kubectl explain` prints them. What a policy means is `domain::policy`; `compile` is the way there.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod compile;
mod schemas;
mod status;

pub use compile::{PolicyError, PolicyObject};
pub use status::{LastGood, PolicyStatus, Summary, Violation};

use crate::label_selector::LabelSelector;
use crate::schema::rule;

#[cfg(test)]
mod tests;

/// What the images of a cluster must meet, and which pods get their digests written.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tagpin.dev",
    version = "v1alpha1",
    kind = "ClusterImagePolicy",
    plural = "clusterimagepolicies",
    shortname = "cipol",
    category = "imagepolicies-all",
    status = "PolicyStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "What the images of a cluster must meet, and which pods get their digests written. Every policy that matches an image judges it; the strictest outcome wins."
)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterImagePolicySpec {
    /// What a violated rule does: `Enforce` refuses the object, `Warn` prints a warning, `Audit` counts and reports.
    /// Pinning does not depend on it.
    pub mode: Mode,
    /// How objects are judged that a built-in controller makes (the pods of a Deployment, for example). `Warn`: they
    /// are pinned and warned of, never refused, because their template was judged where its author wrote it.
    /// `Enforce`: in full, and every image of a template whenever the template changes.
    pub children: Children,
    /// Which images of which objects this policy is about. Every part that is given must match; what is left out
    /// matches everything.
    pub r#match: ClusterMatch,
    /// What is demanded of an image reference as its author wrote it.
    pub rules: Rules,
    /// Which objects get the digest that a tag names now: `nginx:1.29` becomes `nginx:1.29@sha256:...`.
    pub pin: Pin,
    /// What it means that a registry gives no definite answer.
    pub resolution: Resolution,
    /// What this policy does not demand of some images, for some time. Exceptions of other policies do not count.
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub exceptions: Vec<ClusterException>,
}

/// What the images of a namespace must meet, and which pods get their digests written.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tagpin.dev",
    version = "v1alpha1",
    kind = "ImagePolicy",
    plural = "imagepolicies",
    shortname = "ipol",
    category = "imagepolicies-all",
    namespaced,
    status = "PolicyStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "What the images of a namespace must meet, and which pods get their digests written. It adds to what cluster policies demand and can not weaken them."
)]
#[serde(rename_all = "camelCase", default)]
pub struct ImagePolicySpec {
    /// What a violated rule does: `Enforce` refuses the object, `Warn` prints a warning, `Audit` counts and reports.
    /// Pinning does not depend on it.
    pub mode: Mode,
    /// How objects are judged that a built-in controller makes (the pods of a Deployment, for example). `Warn`: they
    /// are pinned and warned of, never refused, because their template was judged where its author wrote it.
    /// `Enforce`: in full, and every image of a template whenever the template changes.
    pub children: Children,
    /// Which images of which objects of this namespace this policy is about. Every part that is given must match; what
    /// is left out matches everything.
    pub r#match: Match,
    /// What is demanded of an image reference as its author wrote it.
    pub rules: Rules,
    /// Which objects get the digest that a tag names now: `nginx:1.29` becomes `nginx:1.29@sha256:...`.
    pub pin: Pin,
    /// What it means that a registry gives no definite answer.
    pub resolution: Resolution,
    /// What this policy does not demand of some images, for some time. Exceptions of other policies do not count.
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub exceptions: Vec<Exception>,
}

/// What a violated rule does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// The object is refused.
    Enforce,
    /// Its author is warned.
    Warn,
    /// It is counted and reported.
    #[default]
    Audit,
}

/// How objects are judged that a built-in controller makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Children {
    /// Never refused.
    #[default]
    Warn,
    /// In full.
    Enforce,
}

/// Which images of which objects a cluster policy is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterMatch {
    /// On the labels of the object's namespace.
    pub namespace_selector: LabelSelector,
    /// What both kinds of policy have.
    #[serde(flatten)]
    pub common: Match,
}

/// Which images of which objects a policy is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Match {
    /// On the labels of the pod template, or of a pod that has none.
    pub object_selector: LabelSelector,
    /// Kinds of workloads. What belongs to a workload counts as that workload: a Deployment's ReplicaSets and pods count
    /// as Deployment. Empty: every kind.
    #[schemars(length(max = 16))]
    pub kinds: Vec<GroupKind>,
    /// Globs on the full image name without tag, as the node reads it: `nginx` is `docker.io/library/nginx`. `*` stays
    /// within one part of the name, `**` crosses parts. An image reference that no node could read matches always.
    /// Empty: every image.
    #[schemars(schema_with = "schemas::images::<64>")]
    pub images: Vec<String>,
    /// Which places that name images: `Container`, `InitContainer` (sidecars too), `EphemeralContainer`
    /// (`kubectl debug`), `ImageVolume`. Empty: all of them.
    #[schemars(schema_with = "schemas::slots")]
    pub slots: Vec<Slot>,
}

/// A kind that is validated.
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

/// A place that names an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Slot {
    /// `containers`
    Container,
    /// `initContainers`, sidecars included
    InitContainer,
    /// `ephemeralContainers`
    EphemeralContainer,
    /// `volumes` of type image
    ImageVolume,
}

/// What is demanded of an image reference as its author wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rules {
    /// What is demanded of the tag.
    pub tags: TagRules,
    /// Whether a registry must know the tag before the object is admitted: `Tags` (asked for every reference without a
    /// digest), or `Ignore` (not asked).
    pub existence: Existence,
}

/// What is demanded of the tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TagRules {
    /// Tags that are refused, as globs: `latest`, `dev-*`. An omitted tag counts as `latest`, unless a digest is
    /// written; a tag that is written beside a digest is judged too. An empty list forbids none.
    #[schemars(schema_with = "schemas::tags")]
    pub forbidden: Vec<String>,
    /// Whether a reference with neither tag nor digest is refused, even where `latest` is not forbidden.
    pub require_explicit: bool,
}

impl Default for TagRules {
    fn default() -> Self {
        Self { forbidden: vec!["latest".to_owned()], require_explicit: false }
    }
}

/// Whether a registry must know the tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Existence {
    /// It must.
    #[default]
    Tags,
    /// Nothing is asked.
    Ignore,
}

/// Which objects get digests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Pin {
    /// What is rewritten: `Pods` before they run, or nothing (the empty list). Workloads stay as their authors wrote them.
    #[schemars(schema_with = "schemas::targets")]
    pub targets: Vec<Target>,
    /// Whose pods: `BuiltIn` (of the built-in controllers, and those without any), or `Any` (of custom resources too,
    /// whose operators may take a rewritten image for a change and make the pod anew, again and again).
    pub owners: Owners,
}

/// What is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Target {
    /// Pods, before they run.
    Pods,
}

/// Whose pods are pinned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Owners {
    /// Of the built-in controllers, and those without any.
    #[default]
    BuiltIn,
    /// Of custom resources too.
    Any,
}

/// What it means that a registry gives no definite answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Resolution {
    /// How old a digest may be that is used instead of an answer while the registry is unavailable, in hours, minutes
    /// and seconds: `168h`, `1h30m`; `0s` uses none.
    #[schemars(schema_with = "schemas::duration")]
    pub last_known_max_age: String,
    /// When the registry is unavailable or limits requests and no such digest is known: `Allow`, `Warn` or `Deny`, never
    /// more than the mode does.
    pub on_unavailable: Outcome,
    /// When the registry refuses access, or does not tell whether the image is missing or private (nodes may hold
    /// credentials that tagpin can not see): `Allow`, `Warn` or `Deny`, never more than the mode does.
    pub on_unauthorized: Outcome,
    /// When the registry is at an address that tagpin may not reach: `Allow`, `Warn` or `Deny`, never more than the mode
    /// does.
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

/// What to do without a definite answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// Nothing.
    Allow,
    /// The author is warned.
    #[default]
    Warn,
    /// The object is refused.
    Deny,
}

/// What a cluster policy does not demand of some images, for some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterException {
    /// What both kinds of policy have.
    #[serde(flatten)]
    pub common: Exception,
    /// Names of the namespaces it holds in. Empty: every namespace of this policy.
    #[serde(default)]
    #[schemars(schema_with = "schemas::namespaces")]
    pub namespaces: Vec<String>,
}

/// What a policy does not demand of some images, for some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exception {
    /// A short name, unique in this policy.
    #[schemars(length(max = 63), extend("x-kubernetes-validations" = [rule(
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "name it in lower case letters, digits and -, such as legacy-batch",
    )]))]
    pub name: String,
    /// Why it is needed, in 10 characters or more, for those who read this policy later.
    #[schemars(length(max = 1024), extend("x-kubernetes-validations" = [rule(
        "self.size() >= 10",
        "say in 10 characters or more why the exception is needed",
    )]))]
    pub reason: String,
    /// Globs on the full image name without tag, as in `match.images`. Empty: every image of this policy.
    #[serde(default)]
    #[schemars(schema_with = "schemas::images::<16>")]
    pub images: Vec<String>,
    /// The rules it waives: `reference` (readable at all, at most 64 images), `tags`, `existence` (all that a registry
    /// answers or does not), `pin`. Left out: every rule but `pin`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schemas::waived_rules")]
    pub rules: Vec<WaivedRule>,
    /// When it ends: a time with its zone, such as `2027-01-31T00:00:00Z`.
    #[schemars(schema_with = "schemas::time")]
    pub expires: String,
}

/// A rule that an exception waives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WaivedRule {
    /// Readable at all, at most 64 images.
    Reference,
    /// `rules.tags`
    Tags,
    /// `rules.existence`, and everything under `resolution`
    Existence,
    /// Pinning, and what follows from it.
    Pin,
}
