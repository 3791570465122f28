//! The keeper of the baseline policy. It applies the policy without force, so that a field that a person
//! changed stays as that person left it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::call::{CallError, call};
use crate::reconcile::Reconcile;
use tagpin_domain::policy::{Mode, PolicyId};
use tagpin_kube::Cluster;
use tagpin_kube::image_policy::ClusterImagePolicy;
use tagpin_kube::policies::Reported;
use tagpin_kube::slim::Unparsed;
use tagpin_objects::image_policy::ClusterException;
use tagpin_objects::release::{self, BASELINE};

/// Path of the selector, which is compared by its meaning: an empty one selects every namespace.
const NAMESPACES: &str = ".spec.match.namespaceSelector";
/// Path of the exceptions, of which others may add some.
const EXCEPTIONS: &str = ".spec.exceptions";
/// Field manager of the policy.
const MANAGER: &str = "tagpin-baseline";
/// Label of a policy that tagpin created.
const OURS: (&str, &str) = (release::MANAGER_LABEL, release::NAME);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(10);
/// Maximum number of attempts to apply the policy. Each attempt leaves out the fields that others own.
const FIELDS: usize = 16;

/// The settings of the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// Effect of a violated rule.
    pub mode: Mode,
    /// True if the policy pins pods.
    pub pin: bool,
    /// Selector of the namespaces; an empty selector selects all.
    pub namespace_selector: LabelSelector,
    /// Exceptions. Others may add exceptions of their own to the policy.
    pub exceptions: Vec<ClusterException>,
}

impl Baseline {
    /// Returns the document to apply. It has only the fields that tagpin sets, so that others can own the
    /// rest. It does not match ephemeral containers, so that debugging is never refused.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut document = json!({
            "apiVersion": "tagpin.dev/v1alpha1",
            "kind": "ClusterImagePolicy",
            "metadata": { "name": BASELINE, "labels": { OURS.0: OURS.1 } },
            "spec": {
                "mode": self.mode,
                "match": { "slots": ["Container", "InitContainer", "ImageVolume"] },
                "rules": { "tags": { "forbidden": ["latest"] }, "existence": "Tags" },
                "pin": { "targets": if self.pin { vec!["Pods"] } else { vec![] } },
            },
        });
        let matched = document.pointer_mut("/spec/match").and_then(Value::as_object_mut);
        if let (Some(matched), true) = (matched, self.namespace_selector != LabelSelector::default()) {
            matched.insert("namespaceSelector".to_owned(), json!(self.namespace_selector));
        }
        let spec = document.get_mut("spec").and_then(Value::as_object_mut);
        if let (Some(spec), false) = (spec, self.exceptions.is_empty()) {
            spec.insert("exceptions".to_owned(), json!(self.exceptions));
        }
        document
    }

    /// Returns the fields of this spec that are not as the values of the release say: `.spec.mode`.
    fn differing(&self, spec: &Value) -> BTreeSet<String> {
        let mut fields = BTreeSet::new();
        if let Some(wanted) = self.document().get("spec") {
            differing(".spec", wanted, spec, &mut fields);
        }
        let selector = spec.pointer("/match/namespaceSelector").cloned().unwrap_or_default();
        let selector = serde_json::from_value::<Option<LabelSelector>>(selector).unwrap_or_default();
        fields.retain(|field| !field.starts_with(NAMESPACES) && field != EXCEPTIONS);
        if !holds_all(&self.exceptions, spec) {
            fields.insert(EXCEPTIONS.to_owned());
        }
        if conditions(&selector.unwrap_or_default()) != conditions(&self.namespace_selector) {
            fields.insert(NAMESPACES.to_owned());
        }
        fields
    }
}

/// Returns true if the spec has each of these exceptions.
fn holds_all(exceptions: &[ClusterException], spec: &Value) -> bool {
    let live = spec.get("exceptions").cloned().unwrap_or_default();
    let live: Vec<ClusterException> = serde_json::from_value(live).unwrap_or_default();
    exceptions.iter().all(|exception| live.contains(exception))
}

/// Returns the conditions of a selector, however its empty parts are written.
fn conditions(selector: &LabelSelector) -> (BTreeMap<String, String>, Vec<LabelSelectorRequirement>) {
    let LabelSelector { match_labels, match_expressions } = selector.clone();
    (match_labels.unwrap_or_default(), match_expressions.unwrap_or_default())
}

/// Adds the path of every field of `wanted` whose value `live` does not have.
fn differing(path: &str, wanted: &Value, live: &Value, fields: &mut BTreeSet<String>) {
    match wanted {
        Value::Object(wanted) => {
            for (name, wanted) in wanted {
                let live = live.get(name).unwrap_or(&Value::Null);
                differing(&format!("{path}.{name}"), wanted, live, fields);
            }
        }
        wanted if wanted != live => drop(fields.insert(path.to_owned())),
        _ => {}
    }
}

/// Keeps the baseline up to date, for ever. Without a baseline it deletes the policy if tagpin created it.
/// `differs` receives the fields of the policy that are not as the values of the release say.
pub async fn keep(
    client: Client,
    cluster: Arc<Cluster>,
    wanted: Option<Baseline>,
    differs: watch::Sender<BTreeSet<String>>,
    reconcile: Reconcile,
) -> Infallible {
    let policies: Api<Unparsed<ClusterImagePolicy>> = Api::all(client);
    let id = PolicyId { namespace: None, name: BASELINE.to_owned() };
    let seen = || cluster.policies.get(&id).map(|held| (held.uid, held.generation));
    let mut changes = cluster.changes();
    let mut told = Vec::new();
    loop {
        let before = seen();
        let pass = reconcile.pass();
        let tended = tend(&policies, &cluster, wanted.as_ref(), &mut told).await;
        drop(pass);
        match tended {
            Ok(fields) => {
                differs.send_replace(fields);
                while seen() == before {
                    changes.changed().await;
                }
            }
            Err(error) => {
                reconcile.failed();
                warn!(%error, "cannot update the baseline");
                sleep(RETRY).await;
            }
        }
    }
}

/// Runs one pass, and returns the fields of the policy that are not as they should be. Each message about a
/// field that others own is logged once.
async fn tend(
    policies: &Api<Unparsed<ClusterImagePolicy>>,
    cluster: &Cluster,
    wanted: Option<&Baseline>,
    told: &mut Vec<String>,
) -> Result<BTreeSet<String>, CallError> {
    let found = call(policies.get_opt(BASELINE)).await?;
    let ours = found.as_ref().map(|found| found.labels().get(OURS.0).is_some_and(|value| value == OURS.1));
    match (wanted, found, ours) {
        (Some(wanted), None, _) | (Some(wanted), _, Some(true)) => {
            apply(policies, cluster, wanted, told).await
        }
        (None, Some(found), Some(true)) => delete(policies, &found).await.map(|()| BTreeSet::new()),
        (Some(wanted), Some(found), _) => {
            log_once(told, "tagpin did not create the policy `baseline`, and leaves it unchanged".to_owned());
            Ok(wanted.differing(&found.spec))
        }
        (None, _, _) => Ok(BTreeSet::new()),
    }
}

/// Applies the fields of the document that nobody else owns, and returns those that differ afterwards.
async fn apply(
    policies: &Api<Unparsed<ClusterImagePolicy>>,
    cluster: &Cluster,
    wanted: &Baseline,
    told: &mut Vec<String>,
) -> Result<BTreeSet<String>, CallError> {
    let mut document = wanted.document();
    let params = PatchParams::apply(MANAGER);
    for _ in 0..FIELDS {
        let error = match call(policies.patch(BASELINE, &params, &Patch::Apply(&document))).await {
            Ok(object) => {
                let differs = wanted.differing(&object.spec);
                let reported =
                    Reported::parse::<ClusterImagePolicy>(&object.metadata, object.spec, object.status);
                cluster.policies.read_by_name(&reported.id.clone(), Some(reported));
                return Ok(differs);
            }
            Err(error) => error,
        };
        let taken = taken(&error);
        let before = document.clone();
        for (field, message) in taken {
            remove(&mut document, &field);
            log_once(
                told,
                format!(
                    "somebody else owns {field} of the policy `baseline`, which stays unchanged ({message})"
                ),
            );
        }
        if document == before {
            return Err(error);
        }
    }
    // Unreachable while the document has fewer fields than attempts: each attempt takes one out.
    Ok(wanted.differing(&Value::Null))
}

/// Returns the fields that others own, each with the message of the API server.
fn taken(error: &CallError) -> Vec<(String, String)> {
    let details =
        error.status().filter(|status| status.code == 409).and_then(|status| status.details.as_ref());
    let causes = details.into_iter().flat_map(|details| &details.causes);
    let conflicts = causes.filter(|cause| cause.reason == "FieldManagerConflict");
    conflicts.map(|cause| (cause.field.clone(), cause.message.clone())).collect()
}

/// Removes a field from the document: `.spec.match.slots`, or for `.spec.x[0]` the whole list. Of an exception,
/// `.spec.exceptions[name="x"].expires`, only that field is removed, so that the other exceptions stay.
fn remove(document: &mut Value, field: &str) {
    let of_exception = field.strip_prefix(EXCEPTIONS).and_then(|rest| rest.strip_prefix("[name=\""));
    if let Some((exception, inner)) = of_exception.and_then(|rest| rest.split_once("\"].")) {
        let held = document.pointer_mut("/spec/exceptions").and_then(Value::as_array_mut);
        let held = held.into_iter().flatten().filter_map(Value::as_object_mut);
        let inner = inner.split(['.', '[']).next().unwrap_or(inner);
        for fields in held.filter(|fields| fields.get("name").is_some_and(|name| name == exception)) {
            fields.remove(inner);
        }
        return;
    }
    let whole = field.split('[').next().unwrap_or(field);
    let Some((parent, name)) = whole.trim_end_matches('.').rsplit_once('.') else { return };
    let parent = document.pointer_mut(&parent.replace('.', "/")).and_then(Value::as_object_mut);
    if let Some(parent) = parent {
        parent.remove(name);
    }
}

/// Deletes the policy that was found, but no successor with the same name.
async fn delete(
    policies: &Api<Unparsed<ClusterImagePolicy>>,
    found: &Unparsed<ClusterImagePolicy>,
) -> Result<(), CallError> {
    let preconditions = Preconditions {
        uid: found.metadata.uid.clone(),
        resource_version: found.metadata.resource_version.clone(),
    };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match call(policies.delete(BASELINE, &params)).await {
        Ok(_) => {
            info!("deleted the policy `baseline`, because baseline.enabled is false");
            Ok(())
        }
        Err(error) if error.code() == Some(404) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Logs a message once.
fn log_once(told: &mut Vec<String>, text: String) {
    if !told.contains(&text) {
        info!("{text}");
        told.push(text);
    }
}
