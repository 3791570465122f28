//! Empties the webhook configurations of a replica that stops after its Deployment was deleted. The Lease goes with the
//! Deployment, so that nobody may lead any more, and nobody else would empty them.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::call::CallError;
use crate::owner;
use crate::webhook_config::PAUSE;
use crate::webhook_config::entries::Entries;
use crate::webhook_config::writer;
use tagpin_kube::Observed;

/// Time limit for the writes, shorter than the time in which a replica that stops has to end.
const LIMIT: Duration = Duration::from_secs(8);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Returns true if the Deployment is deleted or being deleted. What no watch has reported yet is not gone.
pub(crate) fn is_gone(deployment: &Observed<Deployment>) -> bool {
    match deployment {
        Observed::Unknown => false,
        Observed::Absent => true,
        Observed::Present(live) => live.metadata.deletion_timestamp.is_some(),
    }
}

/// Empties both configurations if the Deployment is deleted or being deleted. Any number of replicas may do this at the
/// same time.
pub async fn clear_if_gone(client: &Client, namespace: &str) {
    // Without an answer the Deployment is not known to be gone.
    if !owner::is_gone(client, namespace).await.unwrap_or(false) {
        return;
    }
    let cleared = timeout(LIMIT, async {
        while let Err(error) = clear(client).await {
            warn!(%error, "cannot empty the webhook configurations after the Deployment was deleted");
            sleep(RETRY).await;
        }
    });
    if cleared.await.is_err() {
        warn!(
            "the webhook configurations are not empty, and no replica is left; remove them: kubectl delete \
             validatingwebhookconfiguration/tagpin mutatingwebhookconfiguration/zz-tagpin"
        );
    }
}

/// Empties the validating configuration first, and gives the API server time to take that in. Otherwise a pod could be
/// refused for a missing pin that tagpin was never asked for.
async fn clear(client: &Client) -> Result<(), CallError> {
    if let Some(live) = writer::read::<ValidatingWebhookConfiguration>(client).await?.filter(has_ours) {
        writer::empty(client, &live).await?;
    }
    if let Some(live) = writer::read::<MutatingWebhookConfiguration>(client).await?.filter(has_ours) {
        sleep(PAUSE).await;
        writer::empty(client, &live).await?;
    }
    Ok(())
}

fn has_ours<K: Entries>(live: &K) -> bool {
    live.entries().iter().any(|entry| entry.is_ours())
}
