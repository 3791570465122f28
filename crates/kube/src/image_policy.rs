//! The custom resources `ClusterImagePolicy` and `ImagePolicy`. Their specs are documents of `tagpin-objects`. The doc
//! comments are product text: `kubectl explain` prints them.

use std::fmt::Debug;

use kube::{CustomResource, Resource};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use tagpin_objects::image_policy::{ClusterImagePolicySpec, ImagePolicySpec, PolicySpec, PolicyStatus};

/// A custom resource that holds a policy.
pub trait PolicyObject:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// The document that is its spec.
    type Spec: PolicySpec;
}

impl PolicyObject for ClusterImagePolicy {
    type Spec = ClusterImagePolicySpec;
}

impl PolicyObject for ImagePolicy {
    type Spec = ImagePolicySpec;
}

/// Rules for the images of a cluster, and for the pods whose tags are pinned to digests.
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
    doc = "Rules for the images of a cluster, and for the pods whose tags are pinned to digests. Every policy that matches an image judges it; the strictest outcome wins."
)]
#[serde(transparent)]
pub struct ClusterSpec(pub ClusterImagePolicySpec);

/// Rules for the images of a namespace, and for the pods whose tags are pinned to digests.
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
    doc = "Rules for the images of a namespace, and for the pods whose tags are pinned to digests. It adds to the cluster policies and cannot weaken them."
)]
#[serde(transparent)]
pub struct NamespaceSpec(pub ImagePolicySpec);
