//! The status of a policy, which the leader writes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::conditions;
use crate::schema::free_form;

/// The state of a policy in the cluster. tagpin writes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyStatus {
    /// The generation of the spec that the status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The condition `Ready` is True when every ready replica of tagpin has this generation in force; its reason then is
    /// Enforcing, Warning or Auditing, and its message notes the parts of the policy that have no effect, such as an
    /// exception that has expired. Otherwise the reason is Invalid (the message names the field, and the last good
    /// generation stays in force), TooMany (the namespace has 64 older policies), Propagating, NamespaceExcluded,
    /// WebhooksNotInstalled, WebhookUnreachable or Contested.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::schema")]
    pub conditions: Vec<Condition>,
    /// The generation that is in force while the current one is invalid. Absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_good: Option<LastGood>,
    /// Counts of the workloads and pods that run now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Up to 20 of the violations that the summary counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub top_violations: Vec<Violation>,
    /// Up to 20 of the images of running pods that this policy wants pinned and that have no digest, each with the reason.
    /// Images of custom resources, which the summary counts apart, come last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub unpinned: Vec<Unpinned>,
    /// Up to 20 of the requests that this policy refused most often. The leader gathers them from the replicas each minute;
    /// a replica forgets what was not refused again for a day, and what it counted before it was restarted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub refused: Vec<Refused>,
}

/// The generation that is in force while the current one is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastGood {
    /// The number of the generation.
    pub generation: i64,
    /// The spec of the generation. It has no fixed form, so that a policy stays readable whatever an older or newer tagpin
    /// wrote here.
    #[schemars(schema_with = "free_form")]
    pub spec: Map<String, Value>,
}

/// Counts of the workloads and pods that run now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// Number of workloads with an image that this policy is about; a pod without an owner counts as a workload.
    #[schemars(schema_with = "count")]
    pub workloads: u32,
    /// Number of images of pods that have a digest.
    #[schemars(schema_with = "count")]
    pub pinned: u32,
    /// Number of images of pods that this policy wants pinned and that have no digest.
    #[schemars(schema_with = "count")]
    pub unpinned: u32,
    /// Number of images of pods that this policy would want pinned, and that stay as they are because a custom resource
    /// controls the pod: `pin.owners` is `BuiltIn`.
    #[schemars(schema_with = "count")]
    pub foreign: u32,
    /// Number of images of workloads and pods that violate a rule for the written reference. Rules that need a registry's
    /// answer are not counted.
    #[schemars(schema_with = "count")]
    pub violations: u32,
    /// Number of exceptions that have not expired.
    #[schemars(schema_with = "count")]
    pub exceptions_active: u32,
    /// Number of exceptions that have expired and waive nothing any more.
    #[schemars(schema_with = "count")]
    pub exceptions_expired: u32,
}

/// A violation by a workload or pod that runs now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// Namespace of the workload.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Kind of the workload.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the workload.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Name of the container or volume; empty if the code is about the whole workload.
    #[schemars(length(max = 253))]
    pub slot: String,
    /// The code of the violation, as in refusals: TagForbidden.
    #[schemars(length(max = 63))]
    pub code: String,
    /// The image as its author wrote it, cut after 512 characters.
    #[serde(default)]
    #[schemars(length(max = 600))]
    pub image: String,
    /// Name of an exception that covers the image for some users only. What runs already counts as a violation, because
    /// nobody asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub exception: Option<String>,
}

/// An image without a digest in the pods of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unpinned {
    /// Namespace of the workload.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Kind of the workload; Pod for a pod that belongs to none.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the workload.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Name of the container or volume.
    #[schemars(length(max = 253))]
    pub slot: String,
    /// The image as its author wrote it, cut after 512 characters.
    #[schemars(length(max = 600))]
    pub image: String,
    /// The code of what a replica found when such a pod was created: RegistryUnavailable. OlderThanPolicy if no replica
    /// remembers one and the pod is older than the policy, ForeignOwner if a custom resource controls the pod,
    /// NotRemembered otherwise.
    #[schemars(length(max = 63))]
    pub reason: String,
}

/// Requests of one user that this policy refused for one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// Namespace of the objects.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Kind of the objects.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the user: `system:serviceaccount:ci:runner`.
    #[schemars(length(max = 300))]
    pub user: String,
    /// The image as its author wrote it, cut after 512 characters.
    #[schemars(length(max = 600))]
    pub image: String,
    /// The code of the violation: TagForbidden.
    #[schemars(length(max = 63))]
    pub code: String,
    /// Number of refusals.
    #[schemars(schema_with = "count")]
    pub count: u32,
    /// Time of the last refusal.
    #[schemars(schema_with = "time")]
    pub last: Timestamp,
}

/// Returns the schema of a time.
fn time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time" })
}

/// Returns the schema of a count. Kubernetes has no unsigned formats, and warns about them at each apply.
fn count(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer", "format": "int64", "minimum": 0 })
}
