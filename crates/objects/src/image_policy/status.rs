//! What the leader writes about a policy.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::conditions;
use crate::schema::free_form;

/// What is known of a policy. Written by tagpin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyStatus {
    /// The generation of the spec that the rest of the status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` is True when every ready replica of tagpin has this generation in force; its reason then is Enforcing,
    /// Warning or Auditing. Otherwise the reason is Invalid (the message says which field; the last good generation stays
    /// in force), Propagating, NamespaceExcluded, WebhooksNotInstalled or WebhookUnreachable.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::schema")]
    pub conditions: Vec<Condition>,
    /// The generation that is in force while the current one is invalid. Absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_good: Option<LastGood>,
    /// Counts over what runs now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Up to 20 of the violations that the summary counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub top_violations: Vec<Violation>,
}

/// The generation that is in force while the current one is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastGood {
    /// Its generation.
    pub generation: i64,
    /// Its spec. Free form, so that a policy stays readable whatever an older or newer tagpin wrote here.
    #[schemars(schema_with = "free_form")]
    pub spec: Map<String, Value>,
}

/// Counts over what runs now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// Workloads with an image that this policy is about; pods without an owner count as workloads.
    #[schemars(schema_with = "count")]
    pub workloads: u32,
    /// Images of pods that carry a digest.
    #[schemars(schema_with = "count")]
    pub pinned: u32,
    /// Images of pods that this policy wants pinned and that carry no digest.
    #[schemars(schema_with = "count")]
    pub unpinned: u32,
    /// Images of workloads and pods that a rule on the written reference forbids. What only a registry knows is not
    /// counted.
    #[schemars(schema_with = "count")]
    pub violations: u32,
    /// Exceptions that have not expired.
    #[schemars(schema_with = "count")]
    pub exceptions_active: u32,
}

/// One violation of what runs now.
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
    /// Name of the container or volume.
    #[schemars(length(max = 253))]
    pub slot: String,
    /// What is wrong, in the words of refusals: TagForbidden.
    #[schemars(length(max = 63))]
    pub code: String,
}

/// A count. Kubernetes knows no unsigned formats and says so at each apply.
fn count(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer", "format": "int64", "minimum": 0 })
}
