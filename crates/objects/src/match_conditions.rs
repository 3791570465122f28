//! The requests that the API server sends to tagpin's webhooks: rules and match conditions, both generated
//! from the table of kinds. Scaling, label edits, status writes and finalizers are never sent. This module
//! does not depend on the names, paths or policies of the webhooks.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{MatchCondition, RuleWithOperations};

use crate::canary;
use crate::kinds::{CONTROLLER_REVISIONS, Kinds, POD_TEMPLATE, Path, Row};

#[cfg(test)]
mod tests;

/// The sub-resource through which ephemeral containers are added.
const EPHEMERAL_CONTAINERS: &str = "pods/ephemeralcontainers";

/// Returns the conditions of every webhook of tagpin. A request that does not meet all of them is not judged.
#[must_use]
pub fn match_conditions(kinds: &Kinds) -> Vec<MatchCondition> {
    [("not-a-mirror-pod", not_a_mirror_pod()), ("template-changed", template_changed(kinds))]
        .map(|(name, expression)| MatchCondition { name: name.to_owned(), expression })
        .into()
}

/// Annotation of the mirror pod that a node creates for a static pod.
pub(crate) const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// The beginning of the user name of a node.
pub const NODE_USER: &str = "system:node:";

/// Returns the condition that leaves out the static pods of nodes. Only a node's own request about a pod on that node
/// counts, because anybody can write the annotation.
fn not_a_mirror_pod() -> String {
    format!(
        "!(request.operation == 'CREATE' && request.resource.resource == 'pods' && 'system:nodes' in request.userInfo.groups \
         && has(object.metadata.annotations) && '{MIRROR_ANNOTATION}' in object.metadata.annotations \
         && has(object.spec.nodeName) && request.userInfo.username == '{NODE_USER}' + object.spec.nodeName)"
    )
}

/// Returns the condition that an update changed the template (its metadata included) or, for a pod, the spec. The
/// template of a ControllerRevision never changes, but its owners may.
fn template_changed(kinds: &Kinds) -> String {
    // The most common place is the last branch. The others are few and sorted by the length of their path.
    let mut elsewhere: Vec<_> = kinds.rows().filter(|row| compared(row) != COMMON).collect();
    elsewhere.sort_by_key(|row| (compared(row).len(), compared(row)));
    let mut branches = String::new();
    for row in elsewhere {
        let path = compared(row).join(".");
        let resource = row.resource;
        branches.push_str(&format!(
            "request.resource.resource == '{resource}' ? object.{path} != oldObject.{path} : "
        ));
    }
    let resource = CONTROLLER_REVISIONS.resource;
    branches.push_str(&format!(
        "request.resource.resource == '{resource}' ? has(object.metadata.ownerReferences) != \
         has(oldObject.metadata.ownerReferences) || (has(object.metadata.ownerReferences) \
         && object.metadata.ownerReferences != oldObject.metadata.ownerReferences) : "
    ));
    let path = COMMON.join(".");
    // A replication controller may have no template.
    format!(
        "request.operation != 'UPDATE' || ({branches}\
         has(object.{path}) != has(oldObject.{path}) \
         || (has(object.{path}) && object.{path} != oldObject.{path}))"
    )
}

/// The path at which most kinds have the compared part.
const COMMON: Path = &["spec", "template"];

/// Returns the path of the part of an object that is compared: its outermost template, or else its pod spec.
fn compared(row: &Row) -> Path {
    let path = row.pod_spec;
    let template = path.iter().position(|part| part.to_ascii_lowercase().ends_with("template"));
    template.and_then(|at| path.get(..=at)).unwrap_or(path)
}

/// Returns the conditions of the entry for canaries.
#[must_use]
pub fn canary_conditions() -> Vec<MatchCondition> {
    let expression = format!("has(object.metadata.name) && object.metadata.name == '{}'", canary::NAME);
    vec![MatchCondition { name: "the-canary".to_owned(), expression }]
}

/// Returns the rules of the entry for canaries.
#[must_use]
pub fn canary_rules() -> Vec<RuleWithOperations> {
    vec![rule(POD_TEMPLATE.group(), "v1", &["podtemplates"], &["CREATE"])]
}

/// Returns the rules for requests about pods, which are pinned.
#[must_use]
pub fn pod_rules() -> Vec<RuleWithOperations> {
    vec![
        rule("", "v1", &["pods"], &["CREATE", "UPDATE"]),
        rule("", "v1", &[EPHEMERAL_CONTAINERS], &["UPDATE"]),
    ]
}

/// Returns the rules for requests about pods, about every workload of the table, and about ControllerRevisions, which are
/// validated.
#[must_use]
pub fn all_rules(kinds: &Kinds) -> Vec<RuleWithOperations> {
    let mut rules = pod_rules();
    let mut workloads: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in kinds.rows().filter(|row| !row.is_pod()).chain([&CONTROLLER_REVISIONS]) {
        workloads.entry((row.kind.group(), row.version)).or_default().push(row.resource);
    }
    let workloads = workloads.into_iter();
    rules.extend(
        workloads
            .map(|((group, version), resources)| rule(group, version, &resources, &["CREATE", "UPDATE"])),
    );
    rules
}

fn rule(group: &str, version: &str, resources: &[&str], operations: &[&str]) -> RuleWithOperations {
    let owned = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect());
    RuleWithOperations {
        api_groups: owned(&[group]),
        api_versions: owned(&[version]),
        resources: owned(resources),
        operations: owned(operations),
        scope: Some("Namespaced".to_owned()),
    }
}
