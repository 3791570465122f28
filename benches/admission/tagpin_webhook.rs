//! tagpin as it is published, with other surroundings: the stores hold the chart's baseline alone, and a look-up that
//! knows every tag replaces the client of registries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use jiff::Timestamp;
use serde_json::{Value, json};
use tagpin::serve::compose::{Composed, Inside, Parts, compose_around};
use tagpin::settings::PullSecrets;
use tagpin::telemetry;
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::Fact;
use tagpin_domain::image::ImageRef;
use tagpin_domain::policy::Mode;
use tagpin_kube::Cluster;
use tagpin_kube::image_policy::ClusterImagePolicy;
use tagpin_kube::policies::Reported;
use tagpin_leader::baseline::Baseline;
use tagpin_objects::kinds::Kinds;
use tagpin_registry::{Candidate, Current, Lookup, Registries};
use tagpin_review::{Effort, Named, Suggest};
use tagpin_testing::NoObjects;
use tagpin_webhook::door::Door;
use tokio::time::{Instant, sleep};

use crate::review::digest;

/// A registry that has every tag, and answers after a delay.
#[derive(Clone)]
pub(crate) struct Registry {
    after: Duration,
    asked: Arc<AtomicUsize>,
}

impl Registry {
    pub(crate) fn new(after: Duration) -> Self {
        Self { after, asked: Arc::default() }
    }

    /// Returns the number of look-ups so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Lookup for Registry {
    async fn look_up(&self, _: &ImageRef, _: &[Candidate], _: Instant) -> Fact {
        self.asked.fetch_add(1, Ordering::Relaxed);
        sleep(self.after).await;
        Fact::Present(digest())
    }
}

#[async_trait]
impl Suggest for Registry {
    async fn version_of(&self, _: &ImageRef, _: &Asker, _: Effort) -> Named {
        Named::default()
    }

    async fn similar_tags(&self, _: &ImageRef, _: &Asker, _: Effort) -> Vec<String> {
        Vec::new()
    }
}

/// Composes tagpin as `tagpin serve` does, but with this client of registries. Must be called inside a runtime.
pub(crate) fn composed<L: Lookup + 'static>(
    cluster: &Arc<Cluster>,
    in_flight: usize,
    innermost: impl FnOnce(Inside) -> (L, Arc<dyn Suggest>),
) -> Composed<L> {
    let nobody = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let parts = Parts {
        cluster: Arc::clone(cluster),
        api: kube::Client::try_from(nobody).unwrap(),
        registries: Arc::new(Current::from(Registries::default())),
        pull_secrets: PullSecrets::Cluster,
        controller_identities: ["system:serviceaccount:kube-system:replicaset-controller".to_owned()].into(),
        excluded_namespaces: ["kube-system".to_owned()].into(),
        in_flight,
        door: Arc::new(Door::open()),
        now: Timestamp::now,
        metrics: &mut telemetry::metrics(),
    };
    compose_around(parts, innermost)
}

/// Composes tagpin around a registry that knows every tag.
pub(crate) fn around(registry: Registry, in_flight: usize) -> (Arc<Cluster>, Composed<Registry>) {
    let cluster = Arc::new(Cluster::new(Kinds::default(), NoObjects));
    for namespace in ["shop", "loud"] {
        for account in ["default", "checkout"] {
            cluster.accounts.apply(namespace.to_owned(), account.to_owned(), Vec::new());
        }
    }
    let composed = composed(&cluster, in_flight, |_| (registry.clone(), Arc::new(registry)));
    (cluster, composed)
}

/// Returns the router of the webhook under the chart's baseline. It takes at most `in_flight` reviews at the same time.
pub(crate) fn router(registry: Registry, in_flight: usize) -> Router {
    let (cluster, composed) = around(registry, in_flight);
    let baseline = Baseline {
        mode: Mode::Enforce,
        pin: true,
        namespace_selector: Default::default(),
        exceptions: vec![],
    };
    let metadata = json!({ "name": "baseline", "uid": "baseline", "generation": 1 });
    cluster.policies.apply(Reported::parse::<ClusterImagePolicy>(
        &serde_json::from_value(metadata).unwrap(),
        baseline.document()["spec"].clone(),
        Value::Null,
    ));
    composed.router
}
