//! The watches that fill the stores: one task each, for as long as the process lives. An API server that does not
//! answer, a kind that does not exist yet and a right that is missing are all waited for; the stores keep what they
//! held last.

use std::convert::Infallible;
use std::future;
use std::sync::Arc;

use kube::{Api, Client};
use tokio::task::JoinError;
use tokio_util::task::JoinMap;
use tracing::{Instrument, info_span};

use crate::Cluster;
use crate::follow::{config, follow};
use crate::sinks::{AccountSink, NamespaceSink, ObjectSink, PolicySink, RevisionSink};
use crate::store::Store;
use crate::unreadable::Watched;
use tagpin_objects::slim::SlimKind;

/// The error for a watch that ended, which only happens when its task panics.
#[derive(Debug, thiserror::Error)]
#[error("the watch of {store} ended")]
pub struct WatchEnded {
    store: &'static str,
    #[source]
    cause: JoinError,
}

/// Fills the stores of this cluster for ever.
///
/// # Errors
/// Fails if the task of a watch panics.
pub async fn run(cluster: Arc<Cluster>, client: Client) -> Result<Infallible, WatchEnded> {
    let mut tasks = JoinMap::new();
    for store in Store::all() {
        let span = info_span!("watch", store = store.name());
        tasks.spawn(store, fill(store, Arc::clone(&cluster), client.clone()).instrument(span));
    }
    match tasks.join_next().await {
        Some((store, Err(cause))) => Err(WatchEnded { store: store.name(), cause }),
        Some((_, Ok(never))) => match never {},
        None => future::pending().await,
    }
}

/// Fills one store for ever.
async fn fill(store: Store, cluster: Arc<Cluster>, client: Client) -> Infallible {
    let (lost, watched) = (&cluster.unreadable.clone(), Watched::Store(store));
    match store {
        Store::ClusterImagePolicies => {
            let sink = PolicySink::cluster_wide(cluster);
            follow(Api::all(client), config(), sink, lost, watched).await
        }
        Store::ImagePolicies => {
            let sink = PolicySink::namespaced(cluster);
            follow(Api::all(client), config(), sink, lost, watched).await
        }
        Store::Namespaces => follow(Api::all(client), config(), NamespaceSink(cluster), lost, watched).await,
        Store::ServiceAccounts => {
            follow(Api::all(client), config(), AccountSink(cluster), lost, watched).await
        }
        Store::ControllerRevisions => {
            let api = Api::all_with(client, &SlimKind::ControllerRevision);
            follow(api, config(), RevisionSink(cluster), lost, watched).await
        }
        Store::Objects(kind) => {
            let api = Api::all_with(client, &SlimKind::Object(kind));
            follow(api, config(), ObjectSink::new(cluster, kind), lost, watched).await
        }
    }
}
