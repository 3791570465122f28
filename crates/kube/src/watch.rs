//! The watches that fill the stores: one task each, for as long as the process lives. An API server that does not
//! answer, a kind that does not exist yet and a right that is missing are all waited for; the stores keep what they
//! held last.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use kube::{Api, Client};
use tokio::task::JoinSet;
use tracing::{Instrument, info_span};

use crate::Cluster;
use crate::follow::{config, follow};
use crate::image_policy::{ClusterImagePolicy, ImagePolicy};
use crate::sinks::{AccountSink, NamespaceSink, ObjectSink, PolicySink, RevisionSink};
use crate::store::Store;
use crate::unreadable::Watched;
use tagpin_objects::slim::SlimKind;

/// A watch ended, which none does unless its task died.
#[derive(Debug, thiserror::Error)]
#[error("the watch of {store} ended: {cause}")]
pub struct WatchEnded {
    store: &'static str,
    cause: String,
}

/// Fills the stores of this cluster for ever.
///
/// # Errors
/// When one of the watches died.
pub async fn run(cluster: Arc<Cluster>, client: Client) -> Result<Infallible, WatchEnded> {
    let mut tasks = JoinSet::new();
    let mut stores = HashMap::new();
    for store in Store::all() {
        let span = info_span!("watch", store = store.name());
        let task = fill(store, Arc::clone(&cluster), client.clone()).instrument(span);
        stores.insert(tasks.spawn(task).id(), store.name());
    }
    let (id, cause) = match tasks.join_next_with_id().await {
        Some(Ok((_, never))) => match never {},
        Some(Err(died)) => (Some(died.id()), died.to_string()),
        None => (None, "there was none".to_owned()),
    };
    let store = id.and_then(|id| stores.get(&id).copied()).unwrap_or("the cluster");
    Err(WatchEnded { store, cause })
}

/// One store, for ever.
async fn fill(store: Store, cluster: Arc<Cluster>, client: Client) -> Infallible {
    let (lost, watched) = (&cluster.unreadable.clone(), Watched::Store(store));
    match store {
        Store::ClusterImagePolicies => {
            let sink = PolicySink::<ClusterImagePolicy>::new(cluster);
            follow(Api::all(client), config(), sink, lost, watched).await
        }
        Store::ImagePolicies => {
            let sink = PolicySink::<ImagePolicy>::new(cluster);
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
