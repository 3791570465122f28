//! The watches that fill the stores: one task each, for as long as the process lives. An API server that does not
//! answer, a kind that does not exist yet and a right that is missing are all waited for; the stores keep what they
//! held last.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tracing::{Instrument, info, info_span, warn};

use crate::cluster::Cluster;
use crate::cluster::client::WATCH;
use crate::cluster::sinks::{AccountSink, NamespaceSink, ObjectSink, PolicySink, RevisionSink, Sink};
use crate::cluster::store::Store;
use crate::k8s::slim::SlimKind;

/// Objects in one page of a list: about 1 MB of JSON at most.
const PAGE: u32 = 100;

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
        Some(Ok((id, ()))) => (Some(id), "its events ended".to_owned()),
        Some(Err(died)) => (Some(died.id()), died.to_string()),
        None => (None, "there was none".to_owned()),
    };
    let store = id.and_then(|id| stores.get(&id).copied()).unwrap_or("the cluster");
    Err(WatchEnded { store, cause })
}

/// One store, for ever.
async fn fill(store: Store, cluster: Arc<Cluster>, client: Client) {
    let filled = Arc::clone(&cluster);
    let done = move || {
        info!("filled");
        filled.synced.fill(store);
    };
    match store {
        Store::ClusterImagePolicies => {
            follow(Api::all(client), PolicySink::cluster_wide(cluster), done).await;
        }
        Store::ImagePolicies => {
            follow(Api::all(client), PolicySink::namespaced(cluster), done).await;
        }
        Store::Namespaces => follow(Api::all(client), NamespaceSink(cluster), done).await,
        Store::ServiceAccounts => follow(Api::all(client), AccountSink(cluster), done).await,
        Store::ControllerRevisions => {
            follow(Api::all_with(client, &SlimKind::ControllerRevision), RevisionSink(cluster), done).await;
        }
        Store::Objects(kind) => {
            follow(Api::all_with(client, &SlimKind::Object(kind)), ObjectSink::new(cluster, kind), done)
                .await;
        }
    }
}

/// Passes every event on, and calls `done` whenever the store holds a complete list.
async fn follow<S: Sink>(api: Api<S::Object>, sink: S, done: impl Fn())
where
    S::Object: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().page_size(PAGE).timeout(WATCH);
    loop {
        let mut events = pin!(watcher(api.clone(), config.clone()).default_backoff());
        let mut listed = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => listed.extend(sink.parse(object)),
                Ok(Event::InitDone) => {
                    sink.replace(std::mem::take(&mut listed));
                    done();
                }
                Ok(Event::Apply(object)) => sink.parse(object).into_iter().for_each(|item| sink.apply(item)),
                Ok(Event::Delete(object)) => {
                    sink.parse(object).into_iter().for_each(|item| sink.delete(item))
                }
                Err(error) => {
                    warn!(error = %Cause(&error), "watch failed; what is held stays in use");
                    if must_list_again(&error) {
                        break;
                    }
                }
            }
        }
    }
}

/// kube's watcher would ask for the same version again and again when the answer to the request is 410 itself.
fn must_list_again(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

/// What went wrong, with what to do where that is known.
struct Cause<'a>(&'a watcher::Error);

impl std::fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = match self.0 {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        };
        write!(f, "{}", self.0)?;
        match status {
            Some(403) => f.write_str(" (the chart's ClusterRole gives this right)"),
            Some(404) => f.write_str(" (the API server does not know this kind; are the CRDs installed?)"),
            _ => Ok(()),
        }
    }
}
