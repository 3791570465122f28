//! A replica that stops after its Deployment was deleted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tagpin_kube::client::ApiReader;
use tagpin_kube::{Cluster, Observed};
use tagpin_leader::Controller;
use tagpin_leader::canaries;
use tagpin_leader::certificates::issue::Lifetimes;
use tagpin_leader::lease::LeaseManager;
use tagpin_leader::reconcile;
use tagpin_leader::webhook_config::{Installed, clear_if_gone};
use tagpin_objects::kinds::Kinds;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::webhook_config::{MUTATING, VALIDATING, armed, emptied, live, mutating, opened};
use tagpin_testing::scripted_api::{Api, Call};

const DEPLOYMENT: &str = "GET /apis/apps/v1/namespaces/tagpin-system/deployments/tagpin";

/// Starts to clear, and answers the read of the Deployment with this object; none says that it does not exist.
async fn clearing(deployment: Option<Value>) -> (Api, JoinHandle<()>) {
    let (client, mut api) = Api::new();
    let task = tokio::spawn(async move { clear_if_gone(&client, "tagpin-system").await });
    let call = api.expect(DEPLOYMENT).await;
    match deployment {
        Some(found) => call.ok(found),
        None => call.refuse(404, "NotFound"),
    }
    (api, task)
}

fn deployment(leaves: bool) -> Value {
    let mut metadata = json!({ "name": "tagpin", "uid": "d" });
    if leaves {
        metadata["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
    }
    json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata })
}

/// Returns what the next call, a JSON patch, makes of this configuration.
async fn patched(api: &mut Api, path: &str, held: &Value) -> (Call, Value) {
    let name = held["metadata"]["name"].as_str().unwrap();
    let call = api.expect(&format!("PATCH {path}/{name}")).await;
    assert_eq!(call.content_type, "application/json-patch+json");
    let patch: json_patch::Patch = serde_json::from_slice(&call.body).unwrap();
    let mut left = held.clone();
    json_patch::patch(&mut left, &patch).unwrap();
    (call, left)
}

#[tokio::test(start_paused = true)]
async fn it_empties_both_lists_and_those_of_others_stay() {
    for gone in [None, Some(deployment(true))] {
        let (mut api, task) = clearing(gone).await;
        let mut held = live(armed(), "5");
        let mut other = held["webhooks"][0].clone();
        other["name"] = json!("policy.example.com");
        held["webhooks"].as_array_mut().unwrap().push(other.clone());
        api.expect(&format!("GET {VALIDATING}")).await.list(json!([held]), "5");
        let call = api.expect(&format!("PATCH {VALIDATING}/tagpin")).await;
        assert_eq!(call.content_type, "application/apply-patch+yaml", "what is closed is opened first");
        let mut held = opened(held);
        held["metadata"]["resourceVersion"] = json!("6");
        call.ok(held.clone());
        let (call, left) = patched(&mut api, VALIDATING, &held).await;
        assert_eq!(left["webhooks"].as_array().unwrap().len(), 1);
        assert_eq!(left["webhooks"][0]["name"], other["name"]);
        call.ok(left);
        api.expect(&format!("GET {MUTATING}")).await.list(json!([live(mutating(), "5")]), "5");
        // The API server is given time to take the change in.
        api.quiet(Duration::from_secs(1)).await;
        let (call, left) = patched(&mut api, MUTATING, &live(mutating(), "5")).await;
        assert_eq!(left["webhooks"], json!([]));
        call.ok(left);
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_stays_and_lists_that_are_empty_need_nothing() {
    let (mut api, task) = clearing(Some(deployment(false))).await;
    api.quiet(Duration::from_secs(20)).await;
    task.await.unwrap();
    let (mut api, task) = clearing(None).await;
    api.expect(&format!("GET {VALIDATING}")).await.list(json!([live(emptied(armed()), "5")]), "5");
    api.expect(&format!("GET {MUTATING}")).await.list(json!([]), "5");
    api.quiet(Duration::from_secs(20)).await;
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_about_the_deployment_nothing_is_written() {
    let (client, mut api) = Api::new();
    let task = tokio::spawn(async move { clear_if_gone(&client, "tagpin-system").await });
    api.expect(DEPLOYMENT).await.refuse(403, "Forbidden");
    api.quiet(Duration::from_secs(20)).await;
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_is_tried_again_and_not_for_ever() {
    let (mut api, task) = clearing(None).await;
    let start = Instant::now();
    api.expect(&format!("GET {VALIDATING}")).await.refuse(500, "InternalError");
    let hangs = api.expect(&format!("GET {VALIDATING}")).await;
    hangs.given_up().await;
    let also_hangs = api.expect(&format!("GET {VALIDATING}")).await;
    also_hangs.given_up().await;
    task.await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(8));
}

#[tokio::test(start_paused = true)]
async fn every_replica_that_stops_looks_whether_the_deployment_is_gone() {
    let (client, mut api) = Api::new();
    let connecting = client.clone();
    let controller = Controller {
        client: client.clone(),
        connect: Arc::new(move || Ok(connecting.clone())),
        cluster: Arc::new(Cluster::new(Kinds::default(), ApiReader::new(client.clone(), Kinds::default()))),
        namespace: "tagpin-system".to_owned(),
        pod: "tagpin-0".to_owned(),
        admin_port: 1,
        excluded_namespaces: BTreeSet::new(),
        baseline: None,
        offline: Arc::new(|_| false),
        listens: watch::channel(true).1,
        certificate: watch::channel(Observed::Unknown).1,
        pin_keys: watch::channel(Observed::Unknown).1,
        newest_pin_keys: watch::channel(None).1,
        door: watch::channel(Observed::Unknown).1,
        installed: watch::Sender::new(Installed::NotYet),
        closed: watch::Sender::new(false),
        added: watch::Sender::new(0),
        baseline_differs: watch::Sender::default(),
        lifetimes: Lifetimes { leaf: Duration::from_hours(2), authority: Duration::from_hours(4) },
        canaries: canaries::Metrics::default(),
        passes: reconcile::Metrics::register(&mut Registry::default()),
    };
    let stop = CancellationToken::new();
    let task = tokio::spawn({
        let stop = stop.clone();
        let lease = LeaseManager::new(client, "tagpin-system", "tagpin-0");
        async move { controller.run(&lease, stop).await }
    });
    // The Lease was deleted with the Deployment, so this replica does not lead.
    api.expect("GET /apis/coordination.k8s.io/v1/namespaces/tagpin-system/leases/tagpin")
        .await
        .refuse(404, "NotFound");
    api.expect(DEPLOYMENT).await.refuse(404, "NotFound");
    stop.cancel();
    api.expect(DEPLOYMENT).await.refuse(404, "NotFound");
    api.expect(&format!("GET {VALIDATING}")).await.list(json!([]), "5");
    api.expect(&format!("GET {MUTATING}")).await.list(json!([]), "5");
    task.await.unwrap().unwrap();
}
