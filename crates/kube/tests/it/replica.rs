//! A replica that watches, in process, and the scripted API server that it watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tagpin_kube::budget::Budget;
use tagpin_kube::client::ApiReader;
use tagpin_kube::{Cluster, watch};
use tagpin_objects::kinds::Kinds;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use tagpin_testing::scripted_api::{Api, Call, Watch};

/// Time limit for a call of one path, while calls of other paths come. Tests pause the clock, so the time passes at once.
const LIMIT: Duration = Duration::from_secs(3600);

/// A replica that watches, and the API server that it watches.
pub(super) struct Replica {
    pub(super) cluster: Arc<Cluster>,
    api: Api,
    /// Calls that arrived while a call of another path was awaited.
    pub(super) waiting: BTreeMap<String, Vec<Call>>,
    task: JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Replica {
    pub(super) fn start() -> Self {
        Self::with_budget(Budget::default())
    }

    pub(super) fn with_budget(budget: Budget) -> Self {
        let (client, api) = Api::new();
        let reader = ApiReader::new(client.clone(), Kinds::default());
        let cluster = Arc::new(Cluster::with_budget(Kinds::default(), reader, budget));
        let watching = watch::run(Arc::clone(&cluster), client);
        let task = tokio::spawn(async { panic!("{}", watching.await.unwrap_err()) });
        Self { cluster, api, waiting: BTreeMap::new(), task }
    }

    /// Returns the next call of any path.
    pub(super) async fn next(&mut self) -> Call {
        self.api.next().await
    }

    /// Returns the next call of this path.
    pub(super) async fn call(&mut self, path: &str) -> Call {
        if let Some(calls) = self.waiting.get_mut(path).filter(|calls| !calls.is_empty()) {
            return calls.remove(0);
        }
        let found = async {
            loop {
                let call = self.api.next().await;
                if call.path == path {
                    return call;
                }
                self.waiting.entry(call.path.clone()).or_default().push(call);
            }
        };
        timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("{path} should have been called"))
    }

    /// Lists these objects and opens the watch.
    pub(super) async fn fill(&mut self, path: &str, items: Value) -> Watch {
        self.call(path).await.list(items, "10");
        let watch = self.call(path).await;
        assert_eq!((watch.query["watch"].as_str(), watch.query["resourceVersion"].as_str()), ("true", "10"));
        watch.watch()
    }

    /// Waits until the condition holds.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Cluster) -> bool) {
        let mut changes = self.cluster.changes();
        let waited = async {
            while !holds(&self.cluster) {
                changes.changed().await;
            }
        };
        timeout(Duration::from_secs(60), waited).await.expect(what);
    }
}
