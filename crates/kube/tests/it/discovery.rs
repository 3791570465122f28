//! The kinds that the API server serves: when they are read, and what counts while they cannot be.

use std::time::Duration;

use serde_json::{Value, json};
use tagpin_domain::workload::{ForeignKind, Served};
use tagpin_kube::Cluster;
use tagpin_kube::client::ApiReader;
use tagpin_objects::kinds::Kinds;
use tagpin_review::Surroundings;
use tagpin_testing::scripted_api::Api;
use tokio::time::{Instant, advance};

fn kind(name: &str) -> ForeignKind {
    let (group, kind) = name.split_once('/').unwrap();
    ForeignKind { group: group.into(), kind: kind.into() }
}

fn cluster() -> (Cluster, Api) {
    let (client, api) = Api::new();
    (Cluster::new(Kinds::default(), ApiReader::new(client, Kinds::default())), api)
}

async fn serves(cluster: &Cluster, name: &str) -> Served {
    cluster.serves(&kind(name), Instant::now() + Duration::from_secs(2)).await
}

/// Returns one group as the API server lists it.
fn group(name: &str, kinds: &[&str], freshness: &str) -> Value {
    let resources: Vec<Value> = kinds
        .iter()
        .map(|kind| {
            let of = json!({ "group": name, "version": "v1", "kind": kind });
            json!({ "resource": kind.to_lowercase(), "responseKind": of, "scope": "Namespaced", "verbs": ["get"] })
        })
        .collect();
    json!({ "metadata": { "name": name }, "versions": [
        { "version": "v1", "freshness": freshness, "resources": resources } ] })
}

/// Answers one listing with these groups.
async fn list(api: &mut Api, groups: &[Value]) {
    let call = api.next().await;
    assert_eq!((&*call.method, &*call.path), ("GET", "/apis"));
    call.ok(
        json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": groups }),
    );
}

#[tokio::test(start_paused = true)]
async fn kinds_are_read_once_and_known_ones_cost_no_call() {
    let (cluster, mut api) = cluster();
    let groups = [group("db.example", &["Database"], "Current"), group("batch", &["Job"], "Current")];
    let (served, ()) = tokio::join!(serves(&cluster, "db.example/Database"), list(&mut api, &groups));
    assert_eq!(served, Served::Yes);
    for (name, expected) in [
        ("db.example/Database", Served::Yes),
        ("db.example/Other", Served::No),
        ("other.example/Database", Served::No),
    ] {
        assert_eq!(serves(&cluster, name).await, expected, "{name}");
    }
    // A kind that is new is found half a minute later.
    advance(Duration::from_secs(31)).await;
    assert_eq!(serves(&cluster, "db.example/Database").await, Served::Yes);
    let groups = [group("db.example", &["Database", "Other"], "Current")];
    let (served, ()) = tokio::join!(serves(&cluster, "db.example/Other"), list(&mut api, &groups));
    assert_eq!(served, Served::Yes);
    // What was read does not count for ever.
    advance(Duration::from_secs(601)).await;
    let (served, ()) = tokio::join!(serves(&cluster, "db.example/Database"), list(&mut api, &[]));
    assert_eq!(served, Served::No);
}

#[tokio::test(start_paused = true)]
async fn a_kind_is_unknown_while_nobody_can_say() {
    let (cluster, mut api) = cluster();
    let fails = async { drop(api.next().await) };
    let (served, ()) = tokio::join!(serves(&cluster, "db.example/Database"), fails);
    assert_eq!(served, Served::Unknown);
    // A failure is not tried again at once, so no review waits for it.
    assert_eq!(serves(&cluster, "db.example/Database").await, Served::Unknown);
    advance(Duration::from_secs(31)).await;
    let groups = [group("stale.example", &[], "Stale")];
    let (served, ()) = tokio::join!(serves(&cluster, "stale.example/Thing"), list(&mut api, &groups));
    assert_eq!(served, Served::Unknown);
    assert_eq!(serves(&cluster, "db.example/Database").await, Served::No);
}

#[tokio::test(start_paused = true)]
async fn reviews_share_one_reading() {
    let (cluster, mut api) = cluster();
    let groups = [group("db.example", &["Database"], "Current")];
    let (one, other, ()) = tokio::join!(
        serves(&cluster, "db.example/Database"),
        serves(&cluster, "db.example/Other"),
        list(&mut api, &groups)
    );
    assert_eq!((one, other), (Served::Yes, Served::No));
    api.quiet(Duration::from_secs(1)).await;
}
