//! The composition of `tagpin serve` with a table instead of the registry client: the answer for a known tag comes from
//! memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures::future::join_all;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tagpin::serve::compose::{Composed, IN_FLIGHT, Parts, compose_around};
use tagpin::settings::PullSecrets;
use tagpin::telemetry;
use tagpin_domain::asker::Asker;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::{Fact, Unavailable};
use tagpin_domain::image::ImageRef;
use tagpin_kube::Cluster;
use tagpin_kube::image_policy::ClusterImagePolicy;
use tagpin_kube::policies::Reported;
use tagpin_objects::kinds::Kinds;
use tagpin_registry::{Candidate, Current, Lookup, Registries};
use tagpin_review::Suggest;
use tagpin_testing::{NoObjects, owned_by};
use tagpin_webhook::door::Door;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::support::webhook::{Table, create, pod};

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A registry that has every tag and counts look-ups.
#[derive(Clone, Default)]
struct Everything {
    asked: Arc<AtomicUsize>,
    /// Each look-up takes a permit from here, if there is anything.
    gate: Option<Arc<Semaphore>>,
    /// True while the registry is down.
    down: Arc<AtomicBool>,
}

impl Everything {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Lookup for Everything {
    async fn look_up(&self, _: &ImageRef, _: &[Candidate], _: Instant) -> Fact {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        if self.down.load(Ordering::SeqCst) {
            return Fact::unavailable(Unavailable::Connect);
        }
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
        door: Arc::new(Door::open()),
        now: Timestamp::now,
        metrics: &mut telemetry::metrics(),
    };
    let suggest: Arc<dyn Suggest> = Arc::new(Table::default());
    compose_around(parts, |_| (lookup, suggest))
}

/// Returns the parts around this registry, with a policy that pins pods.
fn pinning(registry: Everything) -> Composed<Everything> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let cluster = Arc::new(Cluster::new(Kinds::default(), NoObjects));
    cluster.accounts.apply("shop".to_owned(), "default".to_owned(), Vec::new());
    let composed = composed(&cluster, registry);
    let metadata = json!({ "name": "pin", "uid": "pin", "generation": 1 });
    let spec = json!({ "mode": "Enforce", "pin": { "targets": ["Pods"] } });
    let metadata = serde_json::from_value(metadata).unwrap();
    cluster.policies.apply(Reported::parse::<ClusterImagePolicy>(&metadata, spec, Value::Null));
    composed
}

/// Sends this pod to /mutate, and returns the response.
async fn mutate(composed: &Composed<Everything>, pod: Value) -> Value {
    let request = Request::post("/mutate?timeout=5s").body(Body::from(create(pod).to_string())).unwrap();
    let answer = composed.router.clone().oneshot(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert!(answer["response"]["patch"].is_string(), "{answer}");
    answer["response"].clone()
}

/// Returns a pod of this revision of a ReplicaSet.
fn pod_of(revision: &str) -> Value {
    let mut pod = pod("nginx:1");
    pod["metadata"]["labels"] = json!({ "pod-template-hash": revision });
    pod["metadata"]["ownerReferences"] = owned_by("apps/v1", "ReplicaSet", revision, revision);
    pod
}

#[tokio::test]
async fn the_first_pod_of_a_revision_asks_and_the_others_share_its_answer() {
    let registry = Everything::default();
    let composed = pinning(registry.clone());
    for (pod, asked) in [
        (pod_of("one"), 1),
        (pod_of("one"), 1),
        (pod_of("two"), 2),
        (pod("nginx:1"), 2),
        (pod_of("one"), 2),
        (pod_of("two"), 2),
    ] {
        mutate(&composed, pod.clone()).await;
        assert_eq!(registry.asked(), asked, "{pod}");
    }
}

#[tokio::test]
async fn two_hundred_pods_of_a_cold_tag_cost_one_look_up() {
    let gate = Arc::new(Semaphore::new(0));
    let registry = Everything { gate: Some(Arc::clone(&gate)), ..Everything::default() };
    let composed = pinning(registry.clone());
    let opens = async {
        // Every review is polled once before this.
        tokio::task::yield_now().await;
        gate.add_permits(200);
    };
    let answers = join_all((0..200).map(|_| mutate(&composed, pod_of("one"))));
    let (answers, ()) = tokio::join!(answers, opens);
    assert_eq!((answers.len(), registry.asked()), (200, 1));
}

#[tokio::test]
async fn a_new_revision_gets_the_last_known_digest_with_a_warning_while_the_registry_is_down() {
    let registry = Everything::default();
    let composed = pinning(registry.clone());
    assert_eq!(mutate(&composed, pod_of("one")).await["warnings"], Value::Null);
    registry.down.store(true, Ordering::SeqCst);
    // A revision that was seen before has its answer.
    assert_eq!(mutate(&composed, pod_of("one")).await["warnings"], Value::Null);
    let answer = mutate(&composed, pod_of("two")).await;
    let stale = answer["auditAnnotations"]["stale-seconds"].as_str().unwrap();
    let [warning] = &answer["warnings"].as_array().unwrap()[..] else { panic!("{answer}") };
    let end = format!("; pinned to the digest that the tag named {stale} s ago");
    assert!(warning.as_str().unwrap().ends_with(&end), "{warning}");
}

#[tokio::test]
async fn a_tag_that_was_pinned_once_is_known_without_waiting_and_without_allocating() {
    let registry = Everything::default();
    let composed = pinning(registry.clone());
    let (image, asker) = (ImageRef::parse("nginx:1").unwrap(), Asker::new("shop".to_owned(), Vec::new()));
    let resolve = &composed.registries.resolve;
    assert_eq!(resolve.remembered(&image, &asker, None, Instant::now()), None);
    for _ in 0..2 {
        mutate(&composed, pod("nginx:1")).await;
    }
    assert_eq!(registry.asked(), 1);
    // The cache does maintenance in some calls, so the test takes the smallest count.
    let ask = || {
        let ask = || assert!(resolve.remembered(&image, &asker, None, Instant::now()).is_some());
        allocation_counter::measure(ask).count_total
    };
    assert_eq!((0..10).map(|_| ask()).min(), Some(0));
    assert!(resolve.remembered(&image, &asker, None, Instant::now() + Duration::from_secs(61)).is_none());
}
