//! The composition of `tagpin serve` with a table instead of the registry client: the answer for a known tag comes from
//! memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tagpin::serve::compose::{Composed, IN_FLIGHT, Parts, compose_around};
use tagpin::settings::PullSecrets;
use tagpin::telemetry;
use tagpin_domain::asker::Asker;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::Fact;
use tagpin_domain::image::ImageRef;
use tagpin_kube::Cluster;
use tagpin_kube::image_policy::ClusterImagePolicy;
use tagpin_kube::policies::Reported;
use tagpin_objects::kinds::Kinds;
use tagpin_registry::{Candidate, Current, Lookup, Registries};
use tagpin_review::Suggest;
use tagpin_testing::NoObjects;
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::support::webhook::{Table, create, pod};

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A registry that has every tag and counts look-ups.
#[derive(Clone, Default)]
struct Everything(Arc<AtomicUsize>);

impl Lookup for Everything {
    async fn look_up(&self, _: &ImageRef, _: &[Candidate], _: Instant) -> Fact {
        self.0.fetch_add(1, Ordering::SeqCst);
        Fact::Present(Digest::parse(&format!("sha256:{HEX}")).unwrap())
    }
}

fn composed(cluster: &Arc<Cluster>, lookup: Everything) -> Composed<Everything> {
    let nobody = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let parts = Parts {
        cluster: Arc::clone(cluster),
        api: kube::Client::try_from(nobody).unwrap(),
        registries: Arc::new(Current::from(Registries::default())),
        pull_secrets: PullSecrets::Cluster,
        controller_identities: ["system:serviceaccount:kube-system:replicaset-controller".to_owned()].into(),
        excluded_namespaces: ["kube-system".to_owned()].into(),
        in_flight: IN_FLIGHT,
        now: Timestamp::now,
        metrics: &mut telemetry::metrics(),
    };
    let suggest: Arc<dyn Suggest> = Arc::new(Table::default());
    compose_around(parts, |_| (lookup, suggest))
}

#[tokio::test]
async fn a_tag_that_was_pinned_once_is_known_without_waiting_and_without_allocating() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let (cluster, registry) = (Arc::new(Cluster::new(Kinds::default(), NoObjects)), Everything::default());
    let composed = composed(&cluster, registry.clone());
    let metadata = json!({ "name": "pin", "uid": "pin", "generation": 1 });
    let spec = json!({ "mode": "Enforce", "pin": { "targets": ["Pods"] } });
    let metadata = serde_json::from_value(metadata).unwrap();
    cluster.policies.apply(Reported::parse::<ClusterImagePolicy>(&metadata, spec, Value::Null));

    let (image, asker) = (
        ImageRef::parse("nginx:1").unwrap(),
        Asker { namespace: "shop".to_owned(), pull_secrets: Vec::new() },
    );
    let resolve = &composed.registries.resolve;
    assert_eq!(resolve.remembered(&image, &asker, None, Instant::now()), None);
    for _ in 0..2 {
        let review = create(pod("nginx:1")).to_string();
        let request = Request::post("/mutate?timeout=5s").body(Body::from(review)).unwrap();
        let answer = composed.router.clone().oneshot(request).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert!(answer["response"]["patch"].is_string(), "{answer}");
    }
    assert_eq!(registry.0.load(Ordering::SeqCst), 1);
    // The cache does maintenance in some calls, so the test takes the smallest count.
    let ask = || {
        let ask = || assert!(resolve.remembered(&image, &asker, None, Instant::now()).is_some());
        allocation_counter::measure(ask).count_total
    };
    assert_eq!((0..10).map(|_| ask()).min(), Some(0));
    assert!(resolve.remembered(&image, &asker, None, Instant::now() + Duration::from_secs(61)).is_none());
}
