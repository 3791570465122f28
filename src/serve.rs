//! `tagpin serve`, the composition root. It builds the parts and connects them; it decides nothing.

use std::convert::Infallible;
use std::fs;
use std::future::{self, Future};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;
use tokio::time::sleep;
use tracing::info;

use crate::serve::compose::{Composed, IN_FLIGHT, Parts, compose};
use crate::serve::probe::Probe;
use crate::serve::signals::Signals;
use crate::serve::state::{Leading, Shown};
use crate::serve::tasks::Tasks;
use crate::settings::{Baseline, Settings};
use crate::telemetry::admin;
use crate::telemetry::readiness::Readiness;
use crate::telemetry::{self, Metrics};
use tagpin_kube::budget::Budget;
use tagpin_kube::client::{ApiReader, Connector};
use tagpin_kube::store::Store;
use tagpin_kube::{Cluster, Observed, certificate, pin_keys, pinning};
use tagpin_leader::Controller;
use tagpin_leader::baseline;
use tagpin_leader::canaries::Metrics as CanaryMetrics;
use tagpin_leader::certificates::issue::Lifetimes;
use tagpin_leader::lease::LeaseManager;
use tagpin_leader::reconcile;
use tagpin_leader::webhook_config::Installed;
use tagpin_objects::door::Token;
use tagpin_objects::findings::FINDINGS;
use tagpin_objects::kinds::Kinds;
use tagpin_registry::{Client, Current, Profiles};
use tagpin_webhook::door::Door;
use tagpin_webhook::metrics::Connections;
use tagpin_webhook::server::{self, Callers, Drain};
use tagpin_webhook::tls::{ClientCa, CurrentCertificate};

pub mod compose;
mod door;
mod gates;
mod probe;
mod registry;
mod signals;
mod state;
mod tasks;

pub(crate) use registry::configuration;

/// Time limit for tasks to finish once no new requests are accepted.
const FINISH_TIMEOUT: Duration = Duration::from_secs(13);

/// Serves until a signal ends the process.
///
/// # Errors
/// Fails if a part cannot be started, or if a vital task ends.
pub(crate) async fn run(
    settings: Settings,
    registries: Current,
    client_ca: Option<ClientCa>,
) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    let mut signals = Signals::listen()?;
    let connector = Connector::infer().await?;
    let client = connector.client()?;
    let kinds = Kinds::default();
    let budget = Budget::of_memory(settings.memory_limit);
    let reader = ApiReader::new(client.clone(), kinds.clone());
    let mut replica = Replica {
        cluster: Arc::new(Cluster::with_budget(kinds, reader, budget)),
        client,
        connector,
        registries: Arc::new(registries),
        readiness,
        drain: Drain::default(),
        metrics: telemetry::metrics(),
        tasks: Tasks::default(),
    };
    let (filled, keys, tokens) = (replica.watch(), replica.pin_keys(&settings), replica.tokens(&settings));
    let Composed { router, cache: registry, client: asking, asked, remembered, .. } =
        replica.composed(&settings, &tokens);
    let door = Arc::clone(&tokens.door);
    let configuration = registry::follow(Arc::clone(&replica.registries), asked.clone());
    replica.tasks.spawn("registries file", never(configuration));
    let heard = [filled, keys.heard.clone(), tokens.heard.clone()];
    let certificate = replica.answer(&settings, router, client_ca, heard).await?;
    let seen = certificate.seen.clone();
    let leading = replica.lead(&settings, certificate, keys, tokens);
    let Replica { cluster, readiness, drain, mut metrics, mut tasks, .. } = replica;

    cluster.watches.register(&mut metrics);
    let registries = registry::page(asked, asking);
    let excluded = settings.excluded_namespaces.clone();
    let shown = Shown { cluster: Arc::clone(&cluster), registry, leading, excluded, certificate: seen };
    telemetry::state::register(&mut metrics, move || shown.state());
    let unreadable = cluster.unreadable.clone();
    let pages = admin::router(metrics, readiness.clone(), move || cluster.policies.rows());
    let pages = admin::with_page(pages, "/registries", registries);
    let pages = admin::with_page(pages, "/unreadable", move || unreadable.rows());
    let pages = admin::with_guarded_page(pages, FINDINGS, move |secret| {
        let proved = Token::parse(secret).is_some_and(|token| door.proves(token));
        proved.then(|| remembered.page(Timestamp::now()))
    });
    let listener = listen(settings.admin_port).await?;
    let stopped = drain.stop.clone().cancelled_owned();
    tasks.spawn_finishing("admin", async move {
        admin::serve(listener, pages, stopped).await;
        Ok(())
    });
    info!(pod = settings.pod, namespace = settings.namespace, version = env!("CARGO_PKG_VERSION"), "started");

    tokio::select! {
        cause = tasks.death() => return Err(cause),
        () = signals.any() => {}
    }
    // The API server switches to another replica while this one still answers. The Lease is released at once.
    info!(seconds = settings.drain.as_secs(), "draining");
    readiness.drain();
    drain.leaving.cancel();
    tokio::select! {
        () = sleep(settings.drain) => {}
        () = signals.any() => info!("got a second signal: not waiting any longer"),
    }
    drain.stop.cancel();
    tasks.finish(FINISH_TIMEOUT).await?;
    info!("ended");
    Ok(())
}

/// The parts of one replica, while they are connected.
struct Replica {
    client: kube::Client,
    connector: Connector,
    cluster: Arc<Cluster>,
    registries: Arc<Current>,
    readiness: Readiness,
    drain: Drain,
    metrics: Metrics,
    tasks: Tasks,
}

/// The state of the webhook's certificate.
struct Certificate {
    /// The Secret that holds the certificate.
    seen: watch::Receiver<Observed<Secret>>,
    /// True while the server answers with a usable certificate.
    answered: watch::Receiver<bool>,
}

/// The state of the keys for marks.
struct PinKeys {
    /// The Secret that holds the keys.
    seen: watch::Receiver<Observed<Secret>>,
    /// The last Secret that held a key.
    newest: watch::Receiver<Option<Arc<Secret>>>,
    /// True once the keys are known, or are no longer waited for.
    heard: watch::Receiver<bool>,
}

/// The state of the tokens in the webhook's paths.
struct DoorTokens {
    /// The Secret that holds the tokens.
    seen: watch::Receiver<Observed<Secret>>,
    /// The door that they open.
    door: Arc<Door>,
    /// True once the tokens are known, or are no longer waited for.
    heard: watch::Receiver<bool>,
}

impl Replica {
    /// Starts the watches that fill the stores. The receiver becomes true once all stores have been filled.
    fn watch(&mut self) -> watch::Receiver<bool> {
        let stores = Store::all(self.cluster.kinds())
            .map(|store| (store, self.readiness.gate(store.name())))
            .collect();
        let (all, filled) = watch::channel(false);
        self.tasks.spawn("readiness", never(gates::open_when_filled(Arc::clone(&self.cluster), stores, all)));
        let watches = tagpin_kube::watch::run(Arc::clone(&self.cluster), self.client.clone());
        self.tasks.spawn("watches", async { Ok(watches.await.map(|never| match never {})?) });
        let looks = tagpin_kube::by_name::watch(Arc::clone(&self.cluster), self.client.clone());
        self.tasks.spawn("baseline by name", never(looks));
        let (client, cluster) = (self.client.clone(), Arc::clone(&self.cluster));
        let pinning = async move { pinning::watch(client, &cluster.pinning, &cluster.unreadable).await };
        self.tasks.spawn("mutating webhook watch", never(pinning));
        filled
    }

    /// Starts the watch of the keys for marks.
    fn pin_keys(&mut self, settings: &Settings) -> PinKeys {
        let (secret, seen) = watch::channel(Observed::Unknown);
        let (client, namespace) = (self.client.clone(), settings.namespace.clone());
        let lost = self.cluster.unreadable.clone();
        let watching = async move { pin_keys::watch(client, &namespace, secret, &lost).await };
        self.tasks.spawn("pin keys watch", never(watching));
        let ((holding, newest), (hearing, heard)) = (watch::channel(None), watch::channel(false));
        let using = pin_keys::use_newest(Arc::clone(&self.cluster.pods), seen.clone(), holding, hearing);
        self.tasks.spawn("pin keys", never(using));
        PinKeys { seen, newest, heard }
    }

    /// Starts the watch of the tokens in the webhook's paths.
    fn tokens(&mut self, settings: &Settings) -> DoorTokens {
        let (secret, seen) = watch::channel(Observed::Unknown);
        let (client, namespace) = (self.client.clone(), settings.namespace.clone());
        let lost = self.cluster.unreadable.clone();
        let watching = async move { tagpin_kube::door::watch(client, &namespace, secret, &lost).await };
        self.tasks.spawn("door watch", never(watching));
        let (hearing, heard) = watch::channel(false);
        let door = Arc::new(Door::open());
        let following = door::follow(Arc::clone(&door), seen.clone(), self.cluster.pinning.seen(), hearing);
        self.tasks.spawn("door", never(following));
        DoorTokens { seen, door, heard }
    }

    /// Composes the parts that answer reviews, and the registries behind them.
    fn composed(&mut self, settings: &Settings, tokens: &DoorTokens) -> Composed<Client> {
        compose(Parts {
            cluster: Arc::clone(&self.cluster),
            api: self.client.clone(),
            registries: Arc::clone(&self.registries),
            pull_secrets: settings.pull_secrets.clone(),
            controller_identities: settings.controller_identities.clone(),
            excluded_namespaces: settings.excluded_namespaces.clone(),
            in_flight: IN_FLIGHT,
            door: Arc::clone(&tokens.door),
            now: Timestamp::now,
            metrics: &mut self.metrics,
        })
    }

    /// Starts the webhook server with the certificate in the Secret.
    async fn answer(
        &mut self,
        settings: &Settings,
        reviews: Router,
        client_ca: Option<ClientCa>,
        [filled, keys, tokens]: [watch::Receiver<bool>; 3],
    ) -> anyhow::Result<Certificate> {
        let (secret, seen) = watch::channel(Observed::Unknown);
        let (client, namespace) = (self.client.clone(), settings.namespace.clone());
        let lost = self.cluster.unreadable.clone();
        let watching = async move { certificate::watch(client, &namespace, secret, &lost).await };
        self.tasks.spawn("certificate watch", never(watching));
        let (showing, shown) = watch::channel(false);
        let current = CurrentCertificate::default();
        let gate = self.readiness.gate("certificate");
        let answering = self.readiness.gate("webhook");
        let show = gates::open_with_certificate(seen.clone(), current.clone(), gate, showing);
        self.tasks.spawn("certificate", show);

        let listener = listen(settings.webhook_port).await?;
        let (router, drain) = (probe::with_page(reviews), self.drain.clone());
        let (answers, answered) = watch::channel(false);
        let probe = Probe::new(listener.local_addr()?.port(), &current)?;
        let (ready, leaving) = ([filled, keys, tokens, shown], drain.leaving.clone());
        let callers = Callers { client_ca, metrics: Connections::register(&mut self.metrics) };
        let served = ready.clone();
        self.tasks.spawn("webhook probe", async move {
            all(served).await?;
            let asks = gates::open_while_answering(|| probe.clone().ask(), answering, answers);
            leaving.run_until_cancelled(asks).await.map_or_else(future::pending, |never| match never {}).await
        });
        self.tasks.spawn_finishing("webhook", async move {
            // Requests may arrive at once, because this process may replace a dead one. They wait in the listener's
            // queue until the stores are filled, because empty stores would allow everything. They wait for the keys as
            // well: without the keys for marks no existing pin would count, and a pod could get another digest than its
            // siblings. They wait for the tokens in the paths, because without them everybody counts as the API server.
            tokio::select! {
                ready = all(ready) => ready?,
                () = drain.stop.cancelled() => return Ok(()),
            }
            Ok(server::serve(listener, &current, router, drain, callers).await?)
        });
        Ok(Certificate { seen, answered })
    }

    /// Starts the leader's part, which claims the Lease, and writes while this replica holds the Lease.
    fn lead(
        &mut self,
        settings: &Settings,
        certificate: Certificate,
        pin_keys: PinKeys,
        tokens: DoorTokens,
    ) -> Leading {
        let lease = LeaseManager::new(self.client.clone(), &settings.namespace, &settings.pod);
        let installed = watch::Sender::new(Installed::NotYet);
        let closed = watch::Sender::new(false);
        let (added, baseline_differs) = (watch::Sender::default(), watch::Sender::default());
        let leading = Leading {
            leads: lease.leads(),
            installed: installed.subscribe(),
            closed: closed.subscribe(),
            added: added.subscribe(),
            baseline_differs: baseline_differs.subscribe(),
        };
        let registries = Arc::clone(&self.registries);
        let connector = self.connector.clone();
        let controller = Controller {
            client: self.client.clone(),
            connect: Arc::new(move || connector.client()),
            cluster: Arc::clone(&self.cluster),
            namespace: settings.namespace.clone(),
            pod: settings.pod.clone(),
            admin_port: settings.admin_port,
            excluded_namespaces: settings.excluded_namespaces.clone(),
            baseline: settings.baseline.enabled.then(|| baseline(&settings.baseline)),
            offline: Arc::new(move |image| registries.profile(image.domain()).offline),
            listens: certificate.answered,
            certificate: certificate.seen,
            pin_keys: pin_keys.seen,
            newest_pin_keys: pin_keys.newest,
            door: tokens.seen,
            installed,
            closed,
            added,
            baseline_differs,
            lifetimes: Lifetimes {
                leaf: settings.certificate_lifetime,
                authority: settings.authority_lifetime,
            },
            canaries: CanaryMetrics::register(&mut self.metrics),
            passes: reconcile::Metrics::register(&mut self.metrics),
        };
        let stop = self.drain.leaving.clone();
        self.tasks.spawn_finishing("leader", async move { Ok(controller.run(&lease, stop).await?) });
        leading
    }
}

/// Reads the authority of the API server's client certificate, if the settings name its file.
///
/// # Errors
/// Fails if the file cannot be read, or has no certificate.
pub(crate) fn client_ca(settings: &Settings) -> anyhow::Result<Option<ClientCa>> {
    let read = |file: &PathBuf| {
        let pem = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        ClientCa::from_pem(&pem).with_context(|| format!("use the certificates in {}", file.display()))
    };
    settings.client_ca.as_ref().map(read).transpose()
}

/// Converts the settings of the baseline.
fn baseline(settings: &Baseline) -> baseline::Baseline {
    baseline::Baseline {
        mode: settings.mode,
        pin: settings.pin,
        namespace_selector: settings.namespace_selector.clone(),
        exceptions: settings.exceptions.clone(),
    }
}

/// Waits until each of these conditions has been true.
async fn all<const N: usize>(conditions: [watch::Receiver<bool>; N]) -> Result<(), RecvError> {
    for mut condition in conditions {
        condition.wait_for(|holds| *holds).await?;
    }
    Ok(())
}

/// Converts work that never ends into a task.
async fn never(work: impl Future<Output = Infallible>) -> anyhow::Result<()> {
    match work.await {}
}

/// Listens on every address of the pod, in IPv6 and IPv4.
async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let every: [SocketAddr; 2] = [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()];
    TcpListener::bind(every.as_slice()).await.with_context(|| format!("listen on port {port}"))
}
