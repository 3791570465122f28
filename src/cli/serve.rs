//! `tagpin serve`: the composition root. It builds the parts and joins them; it decides nothing.

use std::future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::cli::serve::args::Args as Typed;
use crate::cli::serve::tasks::Tasks;
use crate::cli::{Done, Exit, Failure};
use crate::cluster::client::{self, ApiReader};
use crate::cluster::store::Store;
use crate::cluster::{Cluster, watch};
use crate::settings::Settings;
use crate::telemetry;
use crate::telemetry::readiness::{Gate, Readiness};
use crate::telemetry::{admin, logging};

mod args;
mod tasks;

pub(crate) use args::Args;

/// For what is to be finished once nothing new is taken.
const LAST_WORDS: Duration = Duration::from_secs(13);

/// Runs until a signal ends it (0) or a vital part dies (3).
pub(crate) fn run(args: Typed) -> Done {
    logging::start(&args.log, args.log_format()).map_err(Failure::wrong_use)?;
    let settings = args.settings().map_err(Failure::wrong_use)?;
    let runtime = workers().map_err(Failure::could_not_find_out)?;
    runtime.block_on(serve(settings)).map_err(Failure::could_not_find_out)?;
    Ok(Exit::Fine)
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let stop = CancellationToken::new();
    let readiness = Readiness::default();
    let mut tasks = Tasks::default();

    let client = client::connect().await?;
    let cluster = Arc::new(Cluster::new(ApiReader::new(client.clone())));
    let stores = Store::all().map(|store| (store, readiness.gate(store.name()))).collect();
    tasks.spawn("readiness", open_when_filled(Arc::clone(&cluster), stores));
    let watches = watch::run(Arc::clone(&cluster), client);
    tasks.spawn("watches", async { Ok(watches.await.map(|never| match never {})?) });

    let in_force = Arc::clone(&cluster);
    let pages = admin::router(telemetry::metrics(), readiness.clone(), move || in_force.policies.rows());
    let listener = listen(settings.admin_port).await?;
    let stopped = stop.clone().cancelled_owned();
    tasks.spawn_finishing("admin", async move {
        admin::serve(listener, pages, stopped).await;
        Ok(())
    });
    info!(pod = settings.pod, namespace = settings.namespace, admin = settings.admin_port, "started");

    tokio::select! {
        cause = tasks.death() => return Err(cause),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("draining");
    readiness.drain();
    stop.cancel();
    tasks.finish(LAST_WORDS).await
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
