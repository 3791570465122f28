//! What one replica does for all: the writers, for as long as it holds the Lease.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use tokio::sync::watch;

use crate::cluster::{Cluster, Seen};
use crate::controller::certificates;
use crate::controller::webhook_config::{Installed, WebhookConfig};

/// What the writers need.
pub(crate) struct Leader {
    pub(crate) client: kube::Client,
    pub(crate) namespace: String,
    pub(crate) excluded: BTreeSet<String>,
    pub(crate) cluster: Arc<Cluster>,
    /// The webhook server listens, with a certificate.
    pub(crate) listens: watch::Receiver<bool>,
    pub(crate) certificate: watch::Receiver<Seen<Secret>>,
    /// Whether the API server is told to call us; the default until somebody leads.
    pub(crate) installed: watch::Sender<Installed>,
}

impl Leader {
    /// Writes for ever; dropped when the Lease is lost.
    pub(crate) async fn lead(&self) -> Infallible {
        let webhooks = WebhookConfig {
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            excluded: self.excluded.clone(),
            cluster: Arc::clone(&self.cluster),
            listens: self.listens.clone(),
            certificate: self.certificate.clone(),
            installed: self.installed.clone(),
        };
        let certificate = certificates::keep(self.client.clone(), &self.namespace, self.certificate.clone());
        tokio::select! {
            never = certificate => never,
            never = webhooks.keep() => never,
        }
    }
}
