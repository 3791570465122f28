//! The chart's own policy, kept by the leader. It is applied without force: a field that a person took stays theirs.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::call::{CallError, call};
use crate::reconcile::Reconcile;
use tagpin_domain::policy::{Mode, PolicyId};
use tagpin_kube::Cluster;
use tagpin_kube::image_policy::ClusterImagePolicy;
use tagpin_kube::policies::Reported;
use tagpin_kube::slim::Unparsed;
use tagpin_objects::release::{self, BASELINE};

/// Who owns what we write there.
const MANAGER: &str = "tagpin-baseline";
/// What makes a policy ours.
const OURS: (&str, &str) = (release::MANAGER_LABEL, release::NAME);
/// After a failure.
const RETRY: Duration = Duration::from_secs(10);
/// Fields that persons may take before we give up.
const FIELDS: usize = 16;

/// What the values say of the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// What its violated rules do.
    pub mode: Mode,
    /// Whether it pins pods.
    pub pin: bool,
    /// Which namespaces it is about; empty is all.
    pub namespace_selector: LabelSelector,
}

impl Baseline {
    /// What is applied: only what is meant, so that everything else is free for others. Ephemeral containers are not
    /// matched: debugging at night is never refused.
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
        document
    }
}

/// Keeps the baseline as the values say for ever; without a baseline, ours is deleted and only ours.
pub async fn keep(
    client: Client,
    cluster: Arc<Cluster>,
    wanted: Option<Baseline>,
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
            Ok(()) => {
                while seen() == before {
                    changes.changed().await;
                }
            }
            Err(error) => {
                reconcile.failed();
                warn!(%error, "can not keep the baseline");
                sleep(RETRY).await;
            }
        }
    }
}

/// Looks once. What was told of fields that are not ours is told once only.
async fn tend(
    policies: &Api<Unparsed<ClusterImagePolicy>>,
    cluster: &Cluster,
    wanted: Option<&Baseline>,
    told: &mut Vec<String>,
) -> Result<(), CallError> {
    let found = call(policies.get_opt(BASELINE)).await?;
    let ours = found.as_ref().map(|found| found.labels().get(OURS.0).is_some_and(|value| value == OURS.1));
    match (wanted, found, ours) {
        (Some(wanted), None, _) | (Some(wanted), _, Some(true)) => {
            apply(policies, cluster, wanted.document(), told).await
        }
        (None, Some(found), Some(true)) => delete(policies, &found).await,
        (Some(_), Some(_), _) => {
            tell(told, "there is a policy `baseline` that tagpin did not make: it is left alone".to_owned());
            Ok(())
        }
        (None, _, _) => Ok(()),
    }
}

/// Applies as much of the document as nobody else has taken.
async fn apply(
    policies: &Api<Unparsed<ClusterImagePolicy>>,
    cluster: &Cluster,
    mut document: Value,
    told: &mut Vec<String>,
) -> Result<(), CallError> {
    let params = PatchParams::apply(MANAGER);
    for _ in 0..FIELDS {
        let error = match call(policies.patch(BASELINE, &params, &Patch::Apply(&document))).await {
            Ok(object) => {
                let reported =
                    Reported::parse::<ClusterImagePolicy>(&object.metadata, object.spec, object.status);
                cluster.policies.read_by_name(&reported.id.clone(), Some(reported));
                return Ok(());
            }
            Err(error) => error,
        };
        let taken = taken(&error);
        let before = document.clone();
        for (field, message) in taken {
            remove(&mut document, &field);
            tell(
                told,
                format!("a person owns {field} of the policy `baseline`: it stays theirs ({message})"),
            );
        }
        if document == before {
            return Err(error);
        }
    }
    Ok(())
}

/// The fields that others own, with what the API server says of each.
fn taken(error: &CallError) -> Vec<(String, String)> {
    let details =
        error.status().filter(|status| status.code == 409).and_then(|status| status.details.as_ref());
    let causes = details.into_iter().flat_map(|details| &details.causes);
    let conflicts = causes.filter(|cause| cause.reason == "FieldManagerConflict");
    conflicts.map(|cause| (cause.field.clone(), cause.message.clone())).collect()
}

/// Takes a field out of the document: `.spec.match.slots`, or the list that `.spec.x[0]` is in.
fn remove(document: &mut Value, field: &str) {
    let whole = field.split('[').next().unwrap_or(field);
    let Some((parent, name)) = whole.trim_end_matches('.').rsplit_once('.') else { return };
    let parent = document.pointer_mut(&parent.replace('.', "/")).and_then(Value::as_object_mut);
    if let Some(parent) = parent {
        parent.remove(name);
    }
}

/// Deletes the policy that was found, and no other one of its name.
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
            info!("deleted the policy `baseline`, as the values say");
            Ok(())
        }
        Err(error) if error.code() == Some(404) => Ok(()),
        Err(error) => Err(error),
    }
}

fn tell(told: &mut Vec<String>, text: String) {
    if !told.contains(&text) {
        info!("{text}");
        told.push(text);
    }
}
