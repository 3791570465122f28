//! The custom resource definitions, in install order, as objects and as YAML. `crds/` and the chart hold what is
//! generated here.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::k8s::image_policy::{ClusterImagePolicy, ImagePolicy};

/// Every definition, in the order in which to install them.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    [ClusterImagePolicy::crd(), ImagePolicy::crd()].into_iter().map(polished).collect()
}

fn polished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        version.additional_printer_columns = Some(printer_columns());
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            polish(schema);
        }
    }
    crd
}

/// What `kubectl get` shows, and `-o wide` beside it (priority 1).
fn printer_columns() -> Vec<CustomResourceColumnDefinition> {
    [
        ("Mode", "string", ".spec.mode", None),
        ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status", None),
        ("Violations", "integer", ".status.summary.violations", None),
        ("Reason", "string", ".status.conditions[?(@.type=='Ready')].reason", Some(1)),
        ("Pinned", "integer", ".status.summary.pinned", Some(1)),
        ("Unpinned", "integer", ".status.summary.unpinned", Some(1)),
        ("Age", "date", ".metadata.creationTimestamp", None),
    ]
    .map(|(name, type_, json_path, priority)| CustomResourceColumnDefinition {
        name: name.to_owned(),
        type_: type_.to_owned(),
        json_path: json_path.to_owned(),
        priority,
        ..CustomResourceColumnDefinition::default()
    })
    .into()
}

/// `null` is never a value of ours (a field is there or it is not), and `kubectl explain` wraps lines itself.
fn polish(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(description) = &mut schema.description {
        *description = description.replace('\n', " ");
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        polish(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        polish(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        polish(values);
    }
}
