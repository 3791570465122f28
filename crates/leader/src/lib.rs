//! Everything that only the leader writes: the status of policies, the baseline, the certificate, the keys
//! for marks, the webhook configurations, and Events.
//!
//! This crate decides nothing about requests, and no request needs it: every replica answers from its own
//! memory.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::{self, Future};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::JoinMap;
use tracing::{Instrument, info, info_span};

use crate::canaries::Metrics;
use tagpin_domain::image::ImageRef;
use tagpin_kube::{Cluster, Observed};

pub mod canaries;
pub mod lease;
pub mod reconcile;

pub mod baseline;
pub mod break_glass;
pub mod certificates;
pub mod door;
pub mod findings;
pub mod pin_keys;
pub mod policy_status;
pub mod replicas;
pub mod webhook_config;
pub mod workload_events;

mod call;
mod owner;
mod rows;
mod secret;

use baseline::Baseline;
use break_glass::Audit;
use certificates::issue::Lifetimes;
use door::{DoorKeeper, Paths};
use findings::{Found, Gatherer};
use lease::{LeaseManager, Notes};
use policy_status::StatusWriter;
use policy_status::standing::Count;
use replicas::{AskByAddress, Replica};
use webhook_config::{Connect, Installed, WebhookConfig};
use workload_events::WorkloadEvents;

/// Time limit for the last statuses of a leader that stops. The lease outlasts it by far.
const LAST_PASS: Duration = Duration::from_secs(3);

/// The parts that the writers of a leader need.
pub struct Controller {
    /// Client of the API server.
    pub client: Client,
    /// Makes the client of each canary.
    pub connect: Connect,
    /// The stores that the watches fill.
    pub cluster: Arc<Cluster>,
    /// Namespace of the release.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// Port of `GET /policies` on every replica.
    pub admin_port: u16,
    /// Namespaces that are never intercepted, including that of the release.
    pub excluded_namespaces: BTreeSet<String>,
    /// The baseline policy; none deletes the one that tagpin created.
    pub baseline: Option<Baseline>,
    /// Returns true if the registry of this image is offline, so that its images are never pinned.
    pub offline: Arc<dyn Fn(&ImageRef) -> bool + Send + Sync>,
    /// True while the webhook server answers with a certificate.
    pub listens: watch::Receiver<bool>,
    /// The Secret with the certificate, from [`tagpin_kube::certificate::watch`].
    pub certificate: watch::Receiver<Observed<Secret>>,
    /// The Secret with the keys for marks, from [`tagpin_kube::pin_keys::watch`].
    pub pin_keys: watch::Receiver<Observed<Secret>>,
    /// The newest of these Secrets that this replica knows, from [`tagpin_kube::pin_keys::use_newest`].
    pub newest_pin_keys: watch::Receiver<Option<Arc<Secret>>>,
    /// The Secret with the tokens in the webhook's paths, from [`tagpin_kube::door::watch`].
    pub door: watch::Receiver<Observed<Secret>>,
    /// Receives the state of the webhook configurations.
    pub installed: watch::Sender<Installed>,
    /// Receives true while an entry refuses requests that no replica answers.
    pub closed: watch::Sender<bool>,
    /// Receives the number of parts that others added to the selectors and conditions of the webhooks.
    pub added: watch::Sender<usize>,
    /// Receives the fields of the baseline policy that are not as the values of the release say.
    pub baseline_differs: watch::Sender<BTreeSet<String>>,
    /// Lifetimes of the webhook's certificate and its authority.
    pub lifetimes: Lifetimes,
    /// Counters of canaries.
    pub canaries: Metrics,
    /// Metrics of the writers.
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
    /// Claims the lease, and writes while it holds it, until the stop. Then it releases the lease, and empties the
    /// webhook configurations if the Deployment was deleted.
    ///
    /// # Errors
    /// Fails if the task of a writer panics.
    pub async fn run(&self, lease: &LeaseManager, stop: CancellationToken) -> Result<(), WriterEnded> {
        let ready = watch::Sender::new(Vec::new());
        let lead = || self.lead(ready.clone(), lease.notes());
        lease.run(stop, lead, || self.leave(&ready)).await?;
        webhook_config::clear_if_gone(&self.client, &self.namespace).await;
        Ok(())
    }

    /// Writes once more into the status of every policy, if no other replica is left to answer.
    async fn leave(&self, ready: &watch::Sender<Vec<Replica>>) {
        let others = ready.borrow().iter().any(|replica| replica.name != self.pod);
        if others && replicas::are_wanted(&self.client, &self.namespace).await {
            return;
        }
        if timeout(LAST_PASS, self.status(ready, watch::channel(None).1, watch::Sender::new(None)).leave())
            .await
            .is_err()
        {
            info!("not every policy could be told in time that no replica is left");
        }
    }

    /// Returns the writer of statuses.
    fn status(
        &self,
        ready: &watch::Sender<Vec<Replica>>,
        found: watch::Receiver<Option<Arc<Found>>>,
        counted: watch::Sender<Option<Arc<Count>>>,
    ) -> StatusWriter {
        StatusWriter {
            client: self.client.clone(),
            cluster: Arc::clone(&self.cluster),
            excluded: self.excluded_namespaces.clone(),
            offline: Arc::clone(&self.offline),
            installed: self.installed.subscribe(),
            replicas: ready.subscribe(),
            found,
            counted,
            ask: Arc::new(AskByAddress { port: self.admin_port }),
            now: Arc::new(Timestamp::now),
            reconcile: self.passes.of("policy_status"),
        }
    }

    /// Returns the writer of Events on workloads.
    fn workload_events(
        &self,
        found: watch::Receiver<Option<Arc<Found>>>,
        counted: watch::Receiver<Option<Arc<Count>>>,
    ) -> WorkloadEvents {
        WorkloadEvents {
            client: self.client.clone(),
            cluster: Arc::clone(&self.cluster),
            counted,
            found,
            reconcile: self.passes.of("workload_events"),
        }
    }

    /// Runs every writer until one ends. Dropping this aborts them.
    async fn lead(&self, ready: watch::Sender<Vec<Replica>>, notes: Notes) -> WriterEnded {
        let mut writers = Writers::default();
        let (client, namespace) = (|| self.client.clone(), || self.namespace.clone());
        let (found, counted) = (watch::Sender::new(None), watch::Sender::new(None));
        let events = self.workload_events(found.subscribe(), counted.subscribe());
        let status = self.status(&ready, found.subscribe(), counted);
        ready.send_replace(Vec::new());
        self.installed.send_replace(Installed::NotYet);
        self.closed.send_replace(false);
        self.baseline_differs.send_replace(BTreeSet::new());
        self.added.send_replace(0);

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
        let (paths, deployment) = (watch::Sender::new(Paths::Unknown), watch::Sender::new(Observed::Unknown));
        writers.start("door", {
            let keeper = DoorKeeper {
                client: client(),
                namespace: namespace(),
                seen: self.door.clone(),
                deployment: deployment.subscribe(),
                installed: self.installed.subscribe(),
                paths: paths.clone(),
                reconcile: self.passes.of("door"),
            };
            keeper.keep()
        });
        writers.start("webhook_config", {
            let keeper = WebhookConfig {
                client: client(),
                connect: Arc::clone(&self.connect),
                namespace: namespace(),
                excluded: self.excluded_namespaces.clone(),
                cluster: Arc::clone(&self.cluster),
                listens: self.listens.clone(),
                certificate: self.certificate.clone(),
                paths: paths.subscribe(),
                deployment,
                notes,
                installed: self.installed.clone(),
                closed: self.closed.clone(),
                added: self.added.clone(),
                metrics: self.canaries.clone(),
                reconcile: self.passes.of("webhook_config"),
            };
            async move { keeper.keep().await }
        });
        writers.start("break_glass", {
            let audit = Audit {
                client: client(),
                namespace: namespace(),
                excluded: self.excluded_namespaces.clone(),
                cluster: Arc::clone(&self.cluster),
                installed: self.installed.subscribe(),
                reconcile: self.passes.of("break_glass"),
            };
            async move { audit.keep().await }
        });
        writers.start("baseline", {
            let (cluster, reconcile) = (Arc::clone(&self.cluster), self.passes.of("baseline"));
            baseline::keep(client(), cluster, self.baseline.clone(), self.baseline_differs.clone(), reconcile)
        });
        writers.start("findings", {
            let gatherer = Gatherer {
                ask: Arc::new(AskByAddress { port: self.admin_port }),
                door: self.door.clone(),
                replicas: ready.subscribe(),
                found,
            };
            gatherer.keep()
        });
        writers.start("replicas", {
            let (client, namespace, lost) = (client(), namespace(), self.cluster.unreadable.clone());
            async move { replicas::watch(client, &namespace, ready, &lost).await }
        });
        writers.start("policy_status", async move { status.keep().await });
        writers.start("workload_events", events.keep());
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
