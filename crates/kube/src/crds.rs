//! The custom resource definitions, in install order, as objects and as YAML. `crds/` and the chart have generated
//! copies.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool, ValidationRule,
};
use kube::CustomResourceExt;

use crate::image_policy::{ClusterImagePolicy, ImagePolicy};

/// Returns every definition, in the order in which to install them.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    [ClusterImagePolicy::crd(), ImagePolicy::crd()].into_iter().map(polished).collect()
}

/// Returns the definitions as one YAML stream, with one document for each.
///
/// # Errors
/// Fails if a definition cannot be written as YAML; the definitions of this crate always can.
pub fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    let mut stream = String::new();
    for crd in crds() {
        stream.push_str("---\n");
        stream.push_str(&serde_saphyr::to_string(&crd)?);
    }
    Ok(stream)
}

fn polished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        version.additional_printer_columns = Some(printer_columns());
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            polish(schema);
            schema.x_kubernetes_validations = Some(vec![short_name()]);
        }
    }
    crd
}

/// Returns the columns of `kubectl get`. Columns of priority 1 are shown only with `-o wide`.
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

/// Returns the rule that a name is short enough for a label value.
fn short_name() -> ValidationRule {
    ValidationRule {
        rule: "self.metadata.name.size() <= 63".to_owned(),
        message: Some("name it in 63 characters or fewer".to_owned()),
        ..ValidationRule::default()
    }
}

/// Removes `nullable`, because a field of these kinds is never null, and line breaks, because `kubectl explain` wraps
/// lines itself.
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
