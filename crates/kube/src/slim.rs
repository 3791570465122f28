//! Objects of the cluster, as far as tagpin reads them. The rest is never parsed: a full Pod takes 29 times
//! the memory.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DynamicResourceScope;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::budget::OBJECT;
use crate::item::or_nothing;
use crate::metadata::{Kept, LABELS, kept, without_managed_fields};
use tagpin_objects::kinds::{JOB, POD, Row};

/// One object of a kind in the table of kinds: its metadata, and the JSON of the fields that may hold a pod
/// template. [`tagpin_objects::reader`] reads that JSON.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Slim {
    /// The metadata, as far as it is kept.
    #[serde(deserialize_with = "kept::<_, LABELS>")]
    pub metadata: Kept,
    spec: Option<Box<RawValue>>,
    template: Option<Box<RawValue>>,
    data: Option<Box<RawValue>>,
    #[serde(deserialize_with = "or_default")]
    status: Status,
}

/// A reference by name, as in a list of pull secrets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    /// The name.
    pub name: String,
}

/// The status of a pod or Job, as far as it shows that the object has ended.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: Option<String>,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<StatusCondition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct StatusCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl StatusCondition {
    fn is_true(&self, kind: &str) -> bool {
        self.kind == kind && self.status == "True"
    }
}

impl Slim {
    /// Returns the name and the JSON of the field with which the path to the pod spec begins.
    #[must_use]
    pub(crate) fn template_field(&self, row: &Row) -> Option<(&'static str, &str)> {
        let name = *row.pod_spec.first()?;
        let field = match name {
            "spec" => &self.spec,
            "template" => &self.template,
            "data" => &self.data,
            _ => return None,
        };
        Some((name, field.as_deref()?.get()))
    }

    /// Returns true for a pod or Job that has ended and will not run again.
    #[must_use]
    pub(crate) fn ended(&self, row: &Row) -> bool {
        match row.kind {
            POD => matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed")),
            JOB => {
                let mut conditions = self.status.conditions.iter();
                conditions.any(|condition| condition.is_true("Complete") || condition.is_true("Failed"))
            }
            _ => false,
        }
    }
}

impl Resource for Slim {
    type DynamicType = &'static Row;
    type Scope = DynamicResourceScope;

    fn kind<'a>(row: &'a &'static Row) -> Cow<'a, str> {
        row.kind.name().into()
    }

    fn group<'a>(row: &'a &'static Row) -> Cow<'a, str> {
        row.kind.group().into()
    }

    fn version<'a>(row: &'a &'static Row) -> Cow<'a, str> {
        row.version.into()
    }

    fn plural<'a>(row: &'a &'static Row) -> Cow<'a, str> {
        row.resource.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A namespace, reduced to its metadata.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Namespace)]
#[serde(default)]
pub struct SlimNamespace {
    /// The metadata, as far as it is kept.
    #[serde(deserialize_with = "kept::<_, OBJECT>")]
    pub metadata: Kept,
}

/// A service account, reduced to the pull secrets that its pods get.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::ServiceAccount)]
#[serde(rename_all = "camelCase", default)]
pub struct SlimServiceAccount {
    /// The metadata, as far as it is kept.
    #[serde(deserialize_with = "kept::<_, LABELS>")]
    pub metadata: Kept,
    /// The pull secrets, in the account's order.
    #[serde(deserialize_with = "or_default")]
    pub image_pull_secrets: Vec<Named>,
}

/// A node, reduced to the names of its images.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Node)]
#[serde(default)]
pub(crate) struct SlimNode {
    /// The metadata, as far as it is kept.
    #[serde(deserialize_with = "kept::<_, LABELS>")]
    pub metadata: Kept,
    #[serde(deserialize_with = "or_default")]
    status: NodeStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    #[serde(deserialize_with = "or_default")]
    images: Vec<NodeImage>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NodeImage {
    #[serde(deserialize_with = "or_default")]
    names: Vec<String>,
}

impl SlimNode {
    /// Returns the names of the node's images, as its runtime writes them: by tag and by digest.
    pub(crate) fn image_names(self) -> impl Iterator<Item = String> {
        self.status.images.into_iter().flat_map(|image| image.names)
    }
}

/// A pod of tagpin's Deployment, reduced to its readiness and its address.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Pod)]
#[serde(default)]
pub struct ReplicaPod {
    /// The metadata, without the managed fields.
    #[serde(deserialize_with = "without_managed_fields")]
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "or_default")]
    status: ReplicaStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ReplicaStatus {
    #[serde(rename = "podIP")]
    pod_ip: Option<IpAddr>,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<StatusCondition>,
}

impl ReplicaPod {
    /// Returns true if the pod is ready, so that requests are sent to it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.is_true("Ready"))
    }

    /// Returns the pod's address.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        self.status.pod_ip
    }
}

/// An object whose spec and status are not parsed yet, so that an object that this version cannot read does
/// not break a list.
#[derive(Debug, Clone, Deserialize)]
#[serde(bound = "")]
pub struct Unparsed<K> {
    /// The metadata, as far as it is kept.
    #[serde(default, deserialize_with = "kept::<_, OBJECT>")]
    pub metadata: Kept,
    /// The spec as written.
    #[serde(default)]
    pub spec: Value,
    /// The status; null if it cannot be read.
    #[serde(default, deserialize_with = "or_nothing")]
    pub status: Value,
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource> Resource for Unparsed<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(kind: &K::DynamicType) -> Cow<'_, str> {
        K::kind(kind)
    }

    fn group(kind: &K::DynamicType) -> Cow<'_, str> {
        K::group(kind)
    }

    fn version(kind: &K::DynamicType) -> Cow<'_, str> {
        K::version(kind)
    }

    fn plural(kind: &K::DynamicType) -> Cow<'_, str> {
        K::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Deserializes `null` as the default, because Go writes `null` for an empty list.
fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
