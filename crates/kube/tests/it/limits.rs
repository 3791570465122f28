//! Limits on what the stores keep: of one object, of the objects of one namespace, and of all objects.

use serde_json::{Value, json};
use std::sync::Arc;
use tagpin_domain::policy::PolicyId;
use tagpin_kube::Cluster;
use tagpin_kube::budget::Budget;
use tagpin_kube::store::Store;
use tagpin_kube::unreadable::{Row, Watched};
use tagpin_objects::kinds::Kinds;
use tagpin_review::Surroundings as _;
use tokio::time::Instant;

use tagpin_testing::path;

use crate::replica::Replica;

/// Returns an object of any kind with about this many bytes in each part that a store keeps.
fn of_size(namespace: &str, name: &str, bytes: usize) -> Value {
    let many = bytes / 100;
    let containers: Vec<_> = (0..many.min(900))
        .map(|number| json!({ "name": format!("c{number}"), "image": "x".repeat(100) }))
        .collect();
    let secrets: Vec<_> =
        (0..many).map(|number| json!({ "name": format!("s{number}-{}", "x".repeat(90)) })).collect();
    let labels: Value =
        (0..many).map(|number| (format!("l{number}-{}", "x".repeat(90)), json!("v"))).collect();
    let template = json!({ "metadata": { "labels": labels }, "spec": { "containers": containers } });
    json!({
        "metadata": { "name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"), "resourceVersion": "5", "generation": 1, "labels": labels },
        "imagePullSecrets": secrets,
        "spec": { "containers": containers, "template": template, "jobTemplate": { "spec": { "template": template } } },
        "template": template,
        "data": { "spec": { "template": template } },
    })
}

fn row(cluster: &Cluster, store: Store) -> Option<Row> {
    cluster.unreadable.rows().into_iter().find(|row| row.watch == Watched::Store(store).name())
}

/// Returns true for the stores that keep of any object so little that it always fits.
fn always_fits(store: Store) -> bool {
    store == Store::ServiceAccounts
}

/// Returns true for the stores of policies, which have limits of their own.
fn is_policies(store: Store) -> bool {
    matches!(store, Store::ClusterImagePolicies | Store::ImagePolicies)
}

#[tokio::test(start_paused = true)]
async fn an_object_beyond_its_budget_is_unknown_and_counted() {
    let mut replica = Replica::start();
    let mut open = Vec::new();
    for store in Store::all(&Kinds::default()).filter(|store| !is_policies(*store) && !always_fits(*store)) {
        let items = json!([of_size("shop", "small", 500), of_size("shop", "huge", 1_200_000)]);
        open.push(replica.fill(&path(store), items).await);
        let cluster = Arc::clone(&replica.cluster);
        let row = row(&cluster, store).unwrap_or_else(|| panic!("{}", store.name()));
        assert_eq!(row.count, 1, "{}", store.name());
        assert_eq!(row.named[0].name, "huge");
        let fault = &row.named[0].fault;
        assert!(
            fault.starts_with("takes ") && fault.ends_with("tagpin keeps at most 64 KiB of one object"),
            "{fault}"
        );
        assert!(cluster.budget.held() < 1024 * 1024, "{}: {}", store.name(), cluster.budget.held());
    }
    let (cluster, pod) = (&replica.cluster, "shop-huge");
    assert!(cluster.pods.get(pod).is_none() && cluster.pods.get("shop-small").is_some());
    assert!(cluster.namespace_labels("huge").is_none() && cluster.namespace_labels("small").is_some());
}

#[tokio::test(start_paused = true)]
async fn an_account_keeps_as_many_pull_secrets_as_are_used() {
    let mut replica = Replica::start();
    let _watch =
        replica.fill(&path(Store::ServiceAccounts), json!([of_size("shop", "robot", 1_200_000)])).await;
    assert_eq!(replica.cluster.accounts.pull_secrets("shop", "robot").map(|names| names.len()), Some(64));
    assert!(replica.cluster.budget.held() < 64 * 1024);
}

const PODS: &str = "/api/v1/pods";

#[tokio::test(start_paused = true)]
async fn one_namespace_leaves_room_for_others_and_room_that_is_free_again_is_used() {
    let mut replica = Replica::with_budget(Budget::of_memory(800 * 1024));
    let cluster = Arc::clone(&replica.cluster);
    let pods = |namespace: &str, number: usize| -> Vec<Value> {
        (0..number).map(|number| of_size(namespace, &number.to_string(), 1000)).collect()
    };
    let all = [pods("loud", 200), pods("shop", 10)].concat();
    let watch = replica.fill(PODS, json!(all)).await;
    let listed = Instant::now();
    let held = cluster.budget.held();
    let share = 800 * 1024 / 8 * 3 / 2;
    assert!(held > share && held < share * 3 / 2, "{held}");
    assert!((0..10).all(|number| cluster.pods.get(&format!("shop-{number}")).is_some()));
    let row = row(&cluster, Store::Objects(&tagpin_objects::kinds::PODS)).unwrap();
    assert!(
        row.count > 100 && row.named.iter().all(|named| named.namespace.as_deref() == Some("loud")),
        "{row:?}"
    );
    assert!(row.named[0].fault.starts_with("the objects of its namespace take their whole share"), "{row:?}");
    // An event about an object without room changes nothing, and one about another is taken in.
    watch.event("MODIFIED", of_size("loud", "199", 1000));
    watch.event("ADDED", of_size("shop", "new", 1000));
    replica.until("event", |cluster| cluster.pods.get("shop-new").is_some()).await;

    // Two of them are deleted. After five minutes the objects without room are listed once more.
    for number in [0, 1] {
        watch.event("DELETED", of_size("loud", &number.to_string(), 1000));
    }
    replica.until("deleted", |cluster| cluster.pods.get("loud-1").is_none()).await;
    let again = loop {
        let call = replica.call(PODS).await;
        if call.lists() {
            break call;
        }
        drop(call);
    };
    assert!((290..310).contains(&listed.elapsed().as_secs()), "{:?}", listed.elapsed());
    again.list(json!(all.get(2..)), "30");
    replica
        .until("room", |cluster| cluster.pods.get("loud-2").is_some() && cluster.budget.held() > share)
        .await;
    drop(watch);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_grows_beyond_its_budget_is_forgotten_and_one_that_shrinks_is_known_again() {
    let mut replica = Replica::start();
    let watch = replica.fill(PODS, json!([of_size("shop", "a", 500)])).await;
    watch.event("MODIFIED", of_size("shop", "a", 1_000_000));
    replica.until("grown", |cluster| cluster.pods.get("shop-a").is_none()).await;
    assert_eq!(replica.cluster.budget.held(), 0);
    watch.event("MODIFIED", of_size("shop", "a", 500));
    replica.until("shrunk", |cluster| cluster.pods.get("shop-a").is_some()).await;
    assert_eq!(row(&replica.cluster, Store::Objects(&tagpin_objects::kinds::PODS)), None);
}

const POLICIES: &str = "/apis/tagpin.dev/v1alpha1/imagepolicies";

fn policy(name: &str, created: &str, spec: Value) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop", "uid": name, "resourceVersion": "5", "generation": 1, "creationTimestamp": created },
        "spec": spec,
    })
}

#[tokio::test(start_paused = true)]
async fn of_a_namespaces_policies_the_64_oldest_are_in_force() {
    let mut replica = Replica::start();
    let named = |number: usize| format!("p{number:03}");
    // The names run against the ages.
    let of = |number: usize| {
        policy(
            &named(99 - number),
            &format!("2026-01-01T00:{:02}:{:02}Z", number / 60, number % 60),
            json!({}),
        )
    };
    let watch = replica.fill(POLICIES, json!((0..70).map(of).collect::<Vec<_>>())).await;
    let cluster = Arc::clone(&replica.cluster);
    let in_force = |cluster: &Cluster| {
        let policies = cluster.policies();
        let names = policies.namespaced["shop"].iter().map(|policy| policy.id.name.clone());
        names.collect::<Vec<_>>()
    };
    let oldest = |from: usize, to: usize| {
        let mut names: Vec<_> = (from..to).map(|number| named(99 - number)).collect();
        names.sort();
        names
    };
    assert_eq!(in_force(&cluster), oldest(0, 64));
    let row = cluster.policies.rows().into_iter().find(|row| row.name == named(99 - 64)).unwrap();
    let error = "namespace shop has 64 older policies, and no more than that are in force";
    assert_eq!((row.generation, row.error.as_deref()), (None, Some(error)));
    watch.event("DELETED", of(0));
    replica.until("next", |cluster| in_force(cluster) == oldest(1, 65)).await;
    let row = cluster.policies.rows().into_iter().find(|row| row.name == named(99 - 64)).unwrap();
    assert_eq!((row.generation, row.error), (Some(1), None));
}

#[tokio::test(start_paused = true)]
async fn a_policy_without_room_is_invalid_and_its_last_good_generation_stays() {
    let mut replica = Replica::start();
    let globs = |number: usize| -> Vec<String> {
        (0..number).map(|at| format!("ghcr.io/{at}/{}", "x".repeat(200))).collect()
    };
    let spec = |number: usize| json!({ "match": { "images": globs(number) } });
    let watch = replica.fill(POLICIES, json!([policy("a", "2026-01-01T00:00:00Z", spec(2))])).await;
    let cluster = Arc::clone(&replica.cluster);
    let id = PolicyId { namespace: Some("shop".into()), name: "a".into() };
    let held = cluster.budget.held();
    assert!(held > 0 && cluster.policies.get(&id).unwrap().error.is_none());
    let mut next = policy("a", "2026-01-01T00:00:00Z", spec(2));
    next["spec"]["more"] = json!("x".repeat(3 << 20));
    next["metadata"]["generation"] = json!(2);
    watch.event("MODIFIED", next);
    replica.until("invalid", |cluster| cluster.policies.get(&id).unwrap().error.is_some()).await;
    let policy = cluster.policies.get(&id).unwrap();
    assert_eq!(policy.good.unwrap().generation, 1);
    let error = policy.error.unwrap().to_string();
    assert!(error.starts_with("takes 13 MiB of memory"), "{error}");
    assert_eq!(cluster.budget.held(), held, "what is held has the room that it had");
}

#[tokio::test(start_paused = true)]
async fn of_a_hundred_thousand_faults_a_few_are_kept_and_all_that_matter_are_counted() {
    let mut replica = Replica::start();
    let bad = |number: usize| json!({ "metadata": { "name": format!("n{number:06}"), "labels": 5, "resourceVersion": "7" } });
    let watch = replica.fill("/api/v1/namespaces", json!((0..70_000).map(bad).collect::<Vec<_>>())).await;
    let cluster = Arc::clone(&replica.cluster);
    let found = row(&cluster, Store::Namespaces).unwrap();
    assert_eq!((found.count, found.named.len()), (256 + 64 * 1024, 20));
    watch.event("DELETED", bad(0));
    watch.event("DELETED", bad(300));
    watch.event("ADDED", json!({ "metadata": { "name": "good", "resourceVersion": "8" } }));
    replica.until("good", |cluster| cluster.namespace_labels("good").is_some()).await;
    assert_eq!(row(&cluster, Store::Namespaces).unwrap().count, 254 + 64 * 1024);
}
