//! The watches that fill the stores, one task each. They retry for as long as the process lives: while the API server
//! does not answer, a kind does not exist or a right is missing, the stores keep what they held last.

use std::convert::Infallible;
use std::future;
use std::sync::Arc;

use kube::{Api, Client};
use tokio::task::JoinError;
use tokio_util::task::JoinMap;
use tracing::{Instrument, info_span};

use crate::Cluster;
use crate::follow::{Progress, follow_all};
use crate::image_policy::{ClusterImagePolicy, ImagePolicy};
use crate::item::Item;
use crate::slim::Unparsed;
use crate::store::Store;
use crate::unreadable::Watched;
use tagpin_domain::policy::PolicyKind;
use tagpin_objects::kinds::CONTROLLER_REVISIONS;

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
    for store in Store::all(&cluster.kinds) {
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
    let Cluster { policies, namespaces, accounts, workloads, pods, unreadable: lost, budget, .. } = &*cluster;
    let watched = Watched::Store(store);
    let report = |progress| match progress {
        Progress::Listed => cluster.synced.fill(store),
        Progress::Failed => cluster.watches.restarted(store.name()),
        Progress::UnknownKind => cluster.unknown_kind(store),
    };
    match store {
        Store::ClusterImagePolicies => {
            let api = Api::<Item<Unparsed<ClusterImagePolicy>>>::all(client);
            follow_all(api, policies, lost, watched, report, budget).await
        }
        Store::ImagePolicies => {
            let api = Api::<Item<Unparsed<ImagePolicy>>>::all(client);
            follow_all(api, policies, lost, watched, report, budget).await
        }
        Store::Namespaces => follow_all(Api::all(client), namespaces, lost, watched, report, budget).await,
        Store::ServiceAccounts => follow_all(Api::all(client), accounts, lost, watched, report, budget).await,
        Store::ControllerRevisions => {
            let api = Api::all_with(client, &&CONTROLLER_REVISIONS);
            follow_all(api, &workloads.revisions(), lost, watched, report, budget).await
        }
        Store::Objects(row) if row.is_pod() => {
            let api = Api::all_with(client, &row);
            follow_all(api, &**pods, lost, watched, report, budget).await
        }
        Store::Objects(row) => {
            let api = Api::all_with(client, &row);
            follow_all(api, &workloads.of_kind(row), lost, watched, report, budget).await
        }
    }
}

impl Cluster {
    /// Handles an API server that does not know the kind of a store. Only the kinds of policies can be
    /// unknown, while their CRDs are missing. Then no policy is in force.
    fn unknown_kind(&self, store: Store) {
        let kind = match store {
            Store::ClusterImagePolicies => PolicyKind::ClusterImagePolicy,
            Store::ImagePolicies => PolicyKind::ImagePolicy,
            _ => return,
        };
        self.policies.replace(kind, Vec::new());
        self.synced.unknown(store);
    }
}
