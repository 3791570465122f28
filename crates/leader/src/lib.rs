//! What only the leader writes: the status of policies, the baseline, the certificate, the lists of webhooks.
//!
//! It decides nothing about requests and is not needed to answer one: every replica does that from its own memory.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::{self, Future};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::JoinMap;
use tracing::{Instrument, info_span};

use crate::canaries::Metrics;
use tagpin_domain::image::ImageRef;
use tagpin_kube::{Cluster, Seen};

pub mod canaries;
pub mod leader;
pub mod reconcile;

pub mod baseline;
pub mod break_glass;
pub mod certificates;
pub mod pin_keys;
pub mod policy_status;
pub mod replicas;
pub mod webhook_config;

mod call;
mod owner;
mod secret;

use baseline::Baseline;
use break_glass::Audit;
use certificates::issue::Lifetimes;
use leader::Election;
use policy_status::StatusWriter;
use replicas::AskByAddress;
use webhook_config::{Installed, WebhookConfig};

/// Everything that leading needs.
pub struct Controller {
    /// For reading and writing.
    pub client: Client,
    /// What the watches know.
    pub cluster: Arc<Cluster>,
    /// Our namespace.
    pub namespace: String,
    /// The port of `GET /policies` on every replica.
    pub admin_port: u16,
    /// Namespaces that are never intercepted, ours among them.
    pub excluded_namespaces: BTreeSet<String>,
    /// The policy to keep; none deletes ours.
    pub baseline: Option<Baseline>,
    /// Whether images of this registry are never asked about, and so never pinned.
    pub offline: Arc<dyn Fn(&ImageRef) -> bool + Send + Sync>,
    /// The webhook server listens, with a certificate.
    pub listens: watch::Receiver<bool>,
    /// The Secret with the certificate, from [`tagpin_kube::certificate::watch`].
    pub certificate: watch::Receiver<Seen<Secret>>,
    /// The Secret with the keys for marks, from [`tagpin_kube::pin_keys::watch`].
    pub pin_keys: watch::Receiver<Seen<Secret>>,
    /// The newest of these Secrets that this replica knows, from [`tagpin_kube::pin_keys::use_newest`].
    pub newest_pin_keys: watch::Receiver<Option<Arc<Secret>>>,
    /// Whether the API server is told to call us, as the leader knows it.
    pub installed: watch::Sender<Installed>,
    /// True while something is refused because we do not answer, as the leader sees it.
    pub closed: watch::Sender<bool>,
    /// How long the webhook's certificate and its authority are valid.
    pub lifetimes: Lifetimes,
    /// What counts the canaries.
    pub canaries: Metrics,
    /// What measures the writers.
    pub passes: reconcile::Metrics,
}

/// The error for a writer that ended, which only happens when its task panics.
#[derive(Debug, thiserror::Error)]
#[error("the leader's {writer} ended")]
pub struct WriterEnded {
    writer: &'static str,
    #[source]
    cause: JoinError,
}

impl Controller {
    /// Takes part in the election, and writes while it leads; until the stop. Then the lease is given back.
    ///
    /// # Errors
    /// When a writer died.
    pub async fn run(&self, election: &Election, stop: CancellationToken) -> Result<(), WriterEnded> {
        election.run(stop, || self.lead()).await
    }

    /// Runs every writer; they end when this is dropped.
    async fn lead(&self) -> WriterEnded {
        let mut writers = Writers::default();
        let (client, namespace) = (|| self.client.clone(), || self.namespace.clone());
        let (ready, replicas) = watch::channel(Vec::new());
        self.installed.send_replace(Installed::NotYet);
        self.closed.send_replace(false);

        writers.start("certificate", {
            let (client, namespace, certificate) = (client(), namespace(), self.certificate.clone());
            let (lifetimes, reconcile) = (self.lifetimes, self.passes.of("certificate"));
            async move { certificates::keep(client, &namespace, lifetimes, certificate, reconcile).await }
        });
        writers.start("pin_keys", {
            let (client, namespace, cluster) = (client(), namespace(), Arc::clone(&self.cluster));
            let (seen, newest) = (self.pin_keys.clone(), self.newest_pin_keys.clone());
            let reconcile = self.passes.of("pin_keys");
            async move { pin_keys::keep(client, &namespace, cluster, seen, newest, reconcile).await }
        });
        writers.start("webhook_config", {
            let keeper = WebhookConfig {
                client: client(),
                namespace: namespace(),
                excluded: self.excluded_namespaces.clone(),
                cluster: Arc::clone(&self.cluster),
                listens: self.listens.clone(),
                certificate: self.certificate.clone(),
                installed: self.installed.clone(),
                closed: self.closed.clone(),
                metrics: self.canaries.clone(),
                reconcile: self.passes.of("webhook_config"),
            };
            async move { keeper.keep().await }
        });
        writers.start("break_glass", {
            let audit = Audit {
                client: client(),
                namespace: namespace(),
                cluster: Arc::clone(&self.cluster),
                installed: self.installed.subscribe(),
                reconcile: self.passes.of("break_glass"),
            };
            async move { audit.keep().await }
        });
        writers.start("baseline", {
            let (cluster, reconcile) = (Arc::clone(&self.cluster), self.passes.of("baseline"));
            baseline::keep(client(), cluster, self.baseline.clone(), reconcile)
        });
        writers.start("replicas", {
            let (client, namespace, lost) = (client(), namespace(), self.cluster.unreadable.clone());
            async move { replicas::watch(client, &namespace, ready, &lost).await }
        });
        writers.start("policy_status", {
            let writer = StatusWriter {
                client: client(),
                cluster: Arc::clone(&self.cluster),
                excluded: self.excluded_namespaces.clone(),
                offline: Arc::clone(&self.offline),
                installed: self.installed.subscribe(),
                replicas,
                ask: Arc::new(AskByAddress { port: self.admin_port }),
                now: Arc::new(Timestamp::now),
                reconcile: self.passes.of("policy_status"),
            };
            async move { writer.keep().await }
        });
        writers.death().await
    }
}

/// The tasks of a leader by their unique names. Dropping them aborts them.
#[derive(Default)]
struct Writers(JoinMap<&'static str, Infallible>);

impl Writers {
    fn start(&mut self, name: &'static str, task: impl Future<Output = Infallible> + Send + 'static) {
        self.0.spawn(name, task.instrument(info_span!("leader", writer = name)));
    }

    /// Waits for the first writer that ends, and returns the cause.
    async fn death(&mut self) -> WriterEnded {
        match self.0.join_next().await {
            Some((writer, Err(cause))) => WriterEnded { writer, cause },
            Some((_, Ok(never))) => match never {},
            None => future::pending().await,
        }
    }
}
