//! The owner of the Lease and the Secrets: the Deployment, so that they are deleted with it, however it is uninstalled.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};

use crate::call::{CallError, within};
use tagpin_objects::release;

/// Time limit for one call, shorter than the lease.
const LIMIT: Duration = Duration::from_secs(3);

/// Returns the Deployment as an owner; none after it was deleted, when nothing may be created any more.
pub(crate) async fn deployment(
    client: &Client,
    namespace: &str,
) -> Result<Option<OwnerReference>, CallError> {
    let found = metadata(client, namespace).await?;
    Ok(found.and_then(|found| found.metadata.uid).map(|uid| OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: release::NAME.to_owned(),
        uid,
        ..OwnerReference::default()
    }))
}

/// Returns true if the Deployment is deleted or being deleted.
pub(crate) async fn is_gone(client: &Client, namespace: &str) -> Result<bool, CallError> {
    let found = metadata(client, namespace).await?;
    Ok(found.is_none_or(|found| found.metadata.deletion_timestamp.is_some()))
}

async fn metadata(
    client: &Client,
    namespace: &str,
) -> Result<Option<PartialObjectMeta<Deployment>>, CallError> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    within(LIMIT, deployments.get_metadata_opt(release::NAME)).await
}
