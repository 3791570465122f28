//! Objects of the cluster as far as tagpin looks at them. What is not named here is never parsed: a full Pod costs 29
//! times the memory.
//!
//! One recursive shape serves every kind of the slot table: where the pod spec is, the table says.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DynamicResourceScope;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::item::or_nothing;
use crate::metadata::without_managed_fields;
use tagpin_domain::policy::Labels;
use tagpin_domain::slot::{Kind, SlotRole};

/// What kind of object is read as a [`Slim`] one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlimKind {
    /// A kind of the slot table.
    Object(Kind),
    /// apps/v1 ControllerRevision: an earlier template of a StatefulSet or DaemonSet.
    ControllerRevision,
}

impl SlimKind {
    /// Where the pod template is, or the pod itself.
    const fn template_path(self) -> &'static [&'static str] {
        match self {
            Self::Object(kind) => kind.template_path(),
            Self::ControllerRevision => &["data", "spec", "template"],
        }
    }

    /// Where the pod spec is.
    const fn pod_spec_path(self) -> &'static [&'static str] {
        match self {
            Self::Object(kind) => kind.pod_spec_path(),
            Self::ControllerRevision => &["data", "spec", "template", "spec"],
        }
    }
}

/// One object: its metadata and the way down to its pod spec.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Slim {
    /// Its metadata, without the managed fields.
    #[serde(deserialize_with = "without_managed_fields")]
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "or_default")]
    spec: Level,
    #[serde(deserialize_with = "or_default")]
    template: Level,
    /// Any JSON at all: the controllers of custom resources keep revisions of their own making. What has another
    /// shape has no slots.
    #[serde(deserialize_with = "or_nothing")]
    data: Level,
    #[serde(deserialize_with = "or_default")]
    status: Status,
}

/// One step on the way down; the last one is the pod spec.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Level {
    #[serde(deserialize_with = "or_default")]
    metadata: LevelMeta,
    spec: Option<Box<Self>>,
    template: Option<Box<Self>>,
    job_template: Option<Box<Self>>,
    #[serde(deserialize_with = "or_default")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "or_default")]
    init_containers: Vec<Container>,
    #[serde(deserialize_with = "or_default")]
    ephemeral_containers: Vec<Container>,
    #[serde(deserialize_with = "or_default")]
    volumes: Vec<Volume>,
    #[serde(deserialize_with = "or_default")]
    image_pull_secrets: Vec<Named>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct LevelMeta {
    #[serde(deserialize_with = "or_default")]
    labels: Labels,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: String,
    #[serde(deserialize_with = "or_default")]
    image: String,
    image_pull_policy: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Volume {
    name: String,
    image: Option<VolumeImage>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VolumeImage {
    #[serde(deserialize_with = "or_default")]
    reference: String,
    pull_policy: Option<String>,
}

/// A reference by name, as pull secrets are listed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    /// The name.
    pub name: String,
}

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

/// One slot of a [`Slim`] object that names an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlimSlot<'a> {
    /// Which list.
    pub role: SlotRole,
    /// The container's or volume's name.
    pub name: &'a str,
    /// Position in its list.
    pub index: usize,
    /// What is written there.
    pub reference: &'a str,
    /// The node takes what it has.
    pub never_pulled: bool,
}

impl Slim {
    /// The slots that name an image, in the order of roles and lists. A container without an image is none.
    pub fn slots(&self, kind: SlimKind) -> Vec<SlimSlot<'_>> {
        let Some(spec) = self.level(kind.pod_spec_path()) else { return Vec::new() };
        SlotRole::ALL.into_iter().flat_map(|role| spec.slots(role)).collect()
    }

    /// The labels of the pod template, or of the pod.
    #[must_use]
    pub fn labels(&self, kind: SlimKind) -> Labels {
        match kind.template_path() {
            [] => self.metadata.labels.clone().unwrap_or_default(),
            path => self.level(path).map(|level| level.metadata.labels.clone()).unwrap_or_default(),
        }
    }

    /// The names of the pull secrets that the pod or its template lists.
    #[must_use]
    pub fn pull_secrets(&self, kind: SlimKind) -> Vec<String> {
        let spec = self.level(kind.pod_spec_path());
        let listed = spec.map(|spec| spec.image_pull_secrets.as_slice()).unwrap_or_default();
        listed.iter().filter(|secret| !secret.name.is_empty()).map(|secret| secret.name.clone()).collect()
    }

    /// A pod or Job that has ended and will not run again.
    #[must_use]
    pub fn ended(&self, kind: Kind) -> bool {
        match kind {
            Kind::Pod => matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed")),
            Kind::Job => {
                let mut conditions = self.status.conditions.iter();
                conditions.any(|condition| condition.is_true("Complete") || condition.is_true("Failed"))
            }
            _ => false,
        }
    }

    fn level(&self, path: &[&str]) -> Option<&Level> {
        let (first, rest) = path.split_first()?;
        let top = match *first {
            "spec" => &self.spec,
            "template" => &self.template,
            "data" => &self.data,
            _ => return None,
        };
        rest.iter().try_fold(top, |level, part| level.child(part))
    }
}

impl Level {
    fn child(&self, part: &str) -> Option<&Self> {
        match part {
            "spec" => self.spec.as_deref(),
            "template" => self.template.as_deref(),
            "jobTemplate" => self.job_template.as_deref(),
            _ => None,
        }
    }

    fn slots(&self, role: SlotRole) -> Vec<SlimSlot<'_>> {
        let containers = match role {
            SlotRole::Container => &self.containers,
            SlotRole::InitContainer => &self.init_containers,
            SlotRole::EphemeralContainer => &self.ephemeral_containers,
            SlotRole::ImageVolume => {
                let volumes = self.volumes.iter().enumerate();
                let images =
                    volumes.filter_map(|(index, volume)| Some((index, volume, volume.image.as_ref()?)));
                let slots = images.filter(|(_, _, image)| !image.reference.is_empty());
                return slots
                    .map(|(index, volume, image)| SlimSlot {
                        role,
                        name: &volume.name,
                        index,
                        reference: &image.reference,
                        never_pulled: image.pull_policy.as_deref() == Some("Never"),
                    })
                    .collect();
            }
        };
        let named = containers.iter().enumerate().filter(|(_, container)| !container.image.is_empty());
        named
            .map(|(index, container)| SlimSlot {
                role,
                name: &container.name,
                index,
                reference: &container.image,
                never_pulled: container.image_pull_policy.as_deref() == Some("Never"),
            })
            .collect()
    }
}

impl Resource for Slim {
    type DynamicType = SlimKind;
    type Scope = DynamicResourceScope;

    fn kind(kind: &SlimKind) -> Cow<'_, str> {
        match kind {
            SlimKind::Object(kind) => kind.name().into(),
            SlimKind::ControllerRevision => "ControllerRevision".into(),
        }
    }

    fn group(kind: &SlimKind) -> Cow<'_, str> {
        match kind {
            SlimKind::Object(kind) => kind.group().into(),
            SlimKind::ControllerRevision => "apps".into(),
        }
    }

    fn version(_: &SlimKind) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural(kind: &SlimKind) -> Cow<'_, str> {
        match kind {
            SlimKind::Object(kind) => kind.resource().into(),
            SlimKind::ControllerRevision => "controllerrevisions".into(),
        }
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A namespace: its labels.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Namespace)]
#[serde(default)]
pub struct SlimNamespace {
    /// Its metadata.
    #[serde(deserialize_with = "without_managed_fields")]
    pub metadata: ObjectMeta,
}

/// A service account: which pull secrets its pods get.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::ServiceAccount)]
#[serde(rename_all = "camelCase", default)]
pub struct SlimServiceAccount {
    /// Its metadata.
    #[serde(deserialize_with = "without_managed_fields")]
    pub metadata: ObjectMeta,
    /// Its pull secrets, in its order.
    #[serde(deserialize_with = "or_default")]
    pub image_pull_secrets: Vec<Named>,
}

/// A pod of our own Deployment: whether it is ready, and where.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Pod)]
#[serde(default)]
pub struct ReplicaPod {
    /// Its metadata.
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
    /// Whether requests are sent to it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.is_true("Ready"))
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        self.status.pod_ip
    }
}

/// An object whose spec and status are not parsed yet, so that one that this version can not read spoils no list.
#[derive(Debug, Clone, Deserialize)]
#[serde(bound = "")]
pub struct Unparsed<K> {
    /// Its metadata.
    #[serde(default, deserialize_with = "without_managed_fields")]
    pub metadata: ObjectMeta,
    /// What was typed.
    #[serde(default)]
    pub spec: Value,
    /// Its status; null where it cannot be read.
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

/// `null` is what Go writes for an empty list.
fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
