//! `tagpin serve`: the composition root. It builds the parts and joins them; it decides nothing.

use std::convert::Infallible;
use std::future::{self, Future};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::info;

use crate::admission::server::{self, Drain};
use crate::admission::tls::CurrentCertificate;
use crate::admission::{self, Admission};
use crate::cli::serve::args::Args as Typed;
use crate::cli::serve::leader::Leader;
use crate::cli::serve::tasks::Tasks;
use crate::cli::{Done, Exit, Failure};
use crate::cluster::client::{self, ApiReader};
use crate::cluster::store::Store;
use crate::cluster::{self, Cluster, Seen, certificate};
use crate::controller::leader::Election;
use crate::controller::webhook_config::Installed;
use crate::registry::config::Registries;
use crate::settings::Settings;
use crate::telemetry;
use crate::telemetry::admission::Metrics as AdmissionMetrics;
use crate::telemetry::readiness::{Gate, Readiness};
use crate::telemetry::registry::RegistryMetrics;
use crate::telemetry::{admin, logging};

mod args;
mod counters;
mod leader;
mod registry;
mod tasks;
mod webhook;

pub(crate) use args::Args;

/// Reviews at the same time; more are turned away.
const IN_FLIGHT: usize = 256;
/// For what is to be finished once nothing new is taken.
const LAST_WORDS: Duration = Duration::from_secs(13);

/// Runs until a signal ends it (0) or a vital part dies (3).
pub(crate) fn run(args: Typed) -> Done {
    logging::start(&args.log, args.log_format()).map_err(Failure::wrong_use)?;
    let settings = args.settings().map_err(Failure::wrong_use)?;
    let registries = registry::configuration(&settings).map_err(Failure::wrong_use)?;
    let runtime = workers().map_err(Failure::could_not_find_out)?;
    runtime.block_on(serve(settings, registries)).map_err(Failure::could_not_find_out)?;
    Ok(Exit::Fine)
}

async fn serve(settings: Settings, registries: Registries) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let mut metrics = telemetry::metrics();
    let readiness = Readiness::default();
    let drain = Drain::default();
    let mut tasks = Tasks::default();

    let client = client::connect().await?;
    let cluster = Arc::new(Cluster::new(ApiReader::new(client.clone())));
    let stores = Store::all().map(|store| (store, readiness.gate(store.name()))).collect();
    let with_certificate = readiness.gate("certificate");
    tasks.spawn("readiness", open_when_filled(Arc::clone(&cluster), stores));
    let watches = cluster::watch::run(Arc::clone(&cluster), client.clone());
    tasks.spawn("watches", async { Ok(watches.await.map(|never| match never {})?) });

    let registry = registry::assemble(
        registries,
        settings.pull_secrets,
        client.clone(),
        cluster.pods.clone(),
        RegistryMetrics::register(&mut metrics),
    );
    let admission = Admission::new(
        Arc::clone(&cluster),
        registry,
        admission::Settings {
            controller_identities: settings.controller_identities,
            in_flight: IN_FLIGHT,
            now: Timestamp::now,
        },
        AdmissionMetrics::register(&mut metrics),
    );

    let (secret, held) = watch::channel(Seen::NotYet);
    let (listening, listens) = watch::channel(false);
    let shown = CurrentCertificate::default();
    let listener = listen(settings.webhook_port).await?;
    let (api, namespace) = (client.clone(), settings.namespace.clone());
    tasks.spawn("certificate watch", async move { never(certificate::watch(api, &namespace, secret)).await });
    let showing = webhook::show_certificates(held.clone(), shown.clone(), with_certificate, listening);
    tasks.spawn("certificate", showing);
    let (router, draining) = (admission::router(admission), drain.clone());
    tasks.spawn_finishing(
        "webhook",
        async move { Ok(server::serve(listener, &shown, router, draining).await?) },
    );

    let election = Election::new(client.clone(), &settings.namespace, &settings.pod);
    let leader = Leader {
        client,
        namespace: settings.namespace.clone(),
        excluded: settings.excluded_namespaces,
        cluster: Arc::clone(&cluster),
        listens,
        certificate: held,
        installed: watch::Sender::new(Installed::NotYet),
    };
    let leaving = drain.leaving.clone();
    tasks.spawn_finishing("leader", async move {
        election.run(leaving, || leader.lead()).await.map_err(|never: Infallible| match never {})
    });

    let pages = admin::router(metrics, readiness.clone(), move || cluster.policies.rows());
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
    // Callers find another replica while this one still answers; the Lease is given back at once.
    info!(seconds = settings.drain.as_secs(), "draining");
    readiness.drain();
    drain.leaving.cancel();
    tokio::select! {
        () = sleep(settings.drain) => {}
        () = signals.any() => info!("told twice: not waiting any longer"),
    }
    drain.stop.cancel();
    tasks.finish(LAST_WORDS).await?;
    info!("ended");
    Ok(())
}

/// What never ends, as a task that would have to fail to end.
async fn never(work: impl Future<Output = Infallible>) -> anyhow::Result<()> {
    match work.await {}
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Opens the gate of each store once it has been filled; then there is nothing left to do.
async fn open_when_filled(cluster: Arc<Cluster>, mut shut: Vec<(Store, Gate)>) -> anyhow::Result<()> {
    let mut changes = cluster.changes();
    while !shut.is_empty() {
        let missing = cluster.synced.missing();
        shut.retain(|(store, gate)| {
            let filled = !missing.contains(store);
            if filled {
                gate.open();
            }
            !filled
        });
        changes.changed().await;
    }
    future::pending().await
}

/// Work is a few requests a second at most; without a bound, a node of 64 cores would give us 64 threads.
fn workers() -> io::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    runtime::Builder::new_multi_thread().worker_threads(cores.clamp(1, 4)).enable_all().build()
}

/// A listener on every address of the pod, of whichever families its network has.
async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let every: [SocketAddr; 2] = [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()];
    TcpListener::bind(every.as_slice()).await.with_context(|| format!("listen on port {port}"))
}
