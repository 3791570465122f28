//! The watches against a scripted API server.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tagpin_kube::Cluster;
use tagpin_kube::store::Store;
use tagpin_objects::kinds::{Kinds, POD, REPLICA_SET};
use tagpin_review::Surroundings as _;
use tokio::time::Instant;

use tagpin_testing::path;

use crate::replica::Replica;

const NAMESPACES: &str = "/api/v1/namespaces";
const POLICIES: &str = "/apis/tagpin.dev/v1alpha1/clusterimagepolicies";

fn namespace(name: &str, version: &str, env: &str) -> Value {
    json!({ "metadata": { "name": name, "resourceVersion": version, "labels": { "env": env } } })
}

fn env(cluster: &Cluster, name: &str) -> Option<String> {
    cluster.namespace_labels(name).map(|labels| labels["env"].clone())
}

#[tokio::test(start_paused = true)]
async fn every_store_is_filled_before_the_replica_is_ready() {
    let mut replica = Replica::start();
    let mut open = Vec::new();
    assert_eq!(replica.cluster.synced.missing(), Store::all(&Kinds::default()).collect::<Vec<_>>());
    for store in Store::all(&Kinds::default()) {
        let path = path(store);
        assert!(replica.cluster.synced.missing().contains(&store), "{path}");
        open.push(replica.fill(&path, json!([])).await);
        replica.until(&path, |cluster| !cluster.synced.missing().contains(&store)).await;
    }
    assert!(replica.cluster.synced.missing().is_empty());
}

#[tokio::test(start_paused = true)]
async fn events_are_followed_and_a_forgotten_version_is_listed_again() {
    let mut replica = Replica::start();
    let watch = replica.fill(NAMESPACES, json!([namespace("old", "1", "x")])).await;
    watch.event("ADDED", namespace("new", "11", "x"));
    watch.event("ADDED", namespace("new", "11", "x"));
    watch.event("MODIFIED", namespace("new", "12", "y"));
    watch.event("DELETED", namespace("old", "13", "x"));
    replica.until("events", |c| env(c, "new").as_deref() == Some("y") && env(c, "old").is_none()).await;
    watch.expired();
    let again = replica.call(NAMESPACES).await;
    assert!(again.lists());
    assert_eq!(env(&replica.cluster, "new").as_deref(), Some("y"), "what is held stays in use meanwhile");
    again.list(json!([namespace("newest", "20", "z")]), "21");
    replica.until("list", |c| env(c, "newest").is_some() && env(c, "new").is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_for_a_forgotten_version_is_followed_by_a_list() {
    let mut replica = Replica::start();
    replica.call(NAMESPACES).await.list(json!([]), "10");
    replica.call(NAMESPACES).await.refuse(410, "Expired");
    let again = replica.call(NAMESPACES).await;
    assert!(again.lists(), "a list, not the same watch for ever");
}

/// Returns true if the API server does not know the kind.
fn unknown(replica: &Replica) -> bool {
    replica.cluster.synced.unknown_kinds().borrow().contains(&Store::ClusterImagePolicies)
}

#[tokio::test(start_paused = true)]
async fn a_missing_kind_and_a_missing_right_are_waited_for() {
    let mut replica = Replica::start();
    let start = Instant::now();
    for (code, reason) in [(404, "NotFound"), (403, "Forbidden"), (503, "ServiceUnavailable")] {
        replica.call(POLICIES).await.refuse(code, reason);
    }
    assert!(start.elapsed() > Duration::from_secs(1), "not in a tight loop");
    assert!(replica.cluster.synced.missing().contains(&Store::ClusterImagePolicies));
    let policy =
        json!({ "metadata": { "name": "base", "uid": "u", "generation": 1, "resourceVersion": "5" } });
    let watch = replica.fill(POLICIES, json!([policy])).await;
    replica.until("policies", |cluster| cluster.policies().cluster.len() == 1).await;
    let mut metrics = Registry::default();
    replica.cluster.watches.register(&mut metrics);
    let mut text = String::new();
    encode(&mut text, &metrics).unwrap();
    assert!(text.contains(r#"watch_restarts_total{kind="clusterimagepolicies"} 3"#), "{text}");
    // The definition is deleted, and its objects with it, but no event reports them.
    assert!(!unknown(&replica));
    drop(watch);
    replica.call(POLICIES).await.refuse(404, "NotFound");
    replica.until("gone", |cluster| cluster.policies().cluster.is_empty()).await;
    assert!(!replica.cluster.synced.missing().contains(&Store::ClusterImagePolicies), "ready once, ready on");
    let list = replica.call(POLICIES).await;
    assert!(unknown(&replica) && list.lists(), "what was known is of no use");
    // The definition is created again.
    list.list(json!([policy]), "30");
    replica.until("policies", |cluster| cluster.policies().cluster.len() == 1).await;
    assert!(!unknown(&replica));
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_this_version_cannot_read_does_not_hide_the_others() {
    let mut replica = Replica::start();
    let policy = |name: &str, spec: Value| json!({ "metadata": { "name": name, "uid": name, "generation": 1, "resourceVersion": "5" }, "spec": spec });
    let items = json!([policy("a", json!({ "mode": "Later" })), policy("b", json!({ "mode": "Enforce" }))]);
    let _watch = replica.fill(POLICIES, items).await;
    replica.until("policies", |cluster| cluster.policies.rows().len() == 2).await;
    let set = replica.cluster.policies();
    assert_eq!(set.cluster.iter().map(|policy| policy.id.name.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_no_watch_reported_is_asked_for_by_name() {
    use tagpin_domain::subject::TopOwner;
    use tagpin_domain::workload::Workload;

    let mut replica = Replica::start();
    let cluster = Arc::clone(&replica.cluster);
    let asking = tokio::spawn(async move {
        let owner = Kinds::default().controller("apps/v1", "ReplicaSet", "web-1", "u1");
        let pod = Workload { controller: Some(owner), ..Workload::new(POD, true, "shop", "web") };
        cluster.top_owner(&pod, Instant::now() + Duration::from_secs(5)).await
    });
    let call = replica.call("/apis/apps/v1/namespaces/shop/replicasets/web-1").await;
    assert_eq!(call.method, "GET");
    call.ok(json!({ "metadata": { "name": "web-1", "namespace": "shop", "uid": "u1" } }));
    assert_eq!(asking.await.unwrap(), TopOwner::Known(REPLICA_SET));

    // An API server that does not answer costs one second, not the time until the deadline.
    let cluster = Arc::clone(&replica.cluster);
    let start = Instant::now();
    let asking = tokio::spawn(async move {
        let owner = Kinds::default().controller("apps/v1", "ReplicaSet", "web-2", "u2");
        let pod = Workload { controller: Some(owner), ..Workload::new(POD, true, "shop", "web") };
        cluster.top_owner(&pod, Instant::now() + Duration::from_secs(5)).await
    });
    let _hangs = replica.call("/apis/apps/v1/namespaces/shop/replicasets/web-2").await;
    assert_eq!(asking.await.unwrap(), TopOwner::Unknown);
    assert!(start.elapsed() < Duration::from_millis(1300), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn after_a_long_outage_a_replica_is_blind_for_seconds_only_and_during_it_asks_calmly() {
    let mut replica = Replica::start();
    drop(replica.fill(NAMESPACES, json!([])).await);
    let start = Instant::now();
    for _ in 0..60 {
        let asked = Instant::now();
        replica.call(NAMESPACES).await.refuse(503, "ServiceUnavailable");
        assert!(asked.elapsed() <= Duration::from_secs(10), "{:?}", asked.elapsed());
    }
    assert!(start.elapsed() >= Duration::from_secs(60 * 4), "{:?}", start.elapsed());
}
