//! One stored object that cannot be read among good objects, for every watched kind, in lists and in events.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tagpin_domain::policy::PolicyId;
use tagpin_kube::store::Store;
use tagpin_kube::unreadable::{Named, Unreadables, Watched};
use tagpin_kube::{Cluster, Observed, certificate};
use tagpin_objects::kinds::Kinds;
use tokio::sync::watch::Sender;

use tagpin_testing::path;
use tagpin_testing::scripted_api::Api;

use crate::replica::Replica;

/// Returns a good object of any kind.
fn good(name: &str, version: &str) -> Value {
    let image = json!({ "name": "app", "image": "web:1" });
    let spec = json!({ "containers": [image] });
    let template = json!({ "metadata": { "labels": { "app": "web" } }, "spec": spec });
    json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": version, "generation": 1,
            "labels": { "env": name },
        },
        "imagePullSecrets": [{ "name": "pull" }],
        "template": template,
        "data": { "spec": { "template": template } },
    })
}

/// Returns a good object with fields that anybody may set and that no reader may fail on.
fn strange(name: &str, version: &str) -> Value {
    let mut object = good(name, version);
    let nested = (0..300).fold(json!(1), |inner, _| json!([inner]));
    let managed = json!([{ "manager": "kubectl", "time": "9999-12-31T23:59:59Z", "fieldsV1": nested }, 5]);
    object["metadata"]["managedFields"] = managed;
    object["metadata"]["deletionTimestamp"] = json!("11532-01-01T00:00:00Z");
    object["metadata"]["selfLink"] = json!({});
    object["more"] = nested;
    object
}

/// Returns an object that cannot be read as any kind.
fn bad(name: &str, version: &str) -> Value {
    let mut object = good(name, version);
    object["metadata"]["labels"] = json!({ "a": { "HIDDEN": 1 } });
    object
}

/// Returns true if the replica knows the good object of this name.
fn knows(cluster: &Cluster, store: Store, name: &str) -> bool {
    let uid = format!("uid-{name}");
    match store {
        Store::ClusterImagePolicies | Store::ImagePolicies => {
            cluster.policies.rows().iter().any(|row| row.uid == uid)
        }
        Store::Namespaces => cluster.namespace_labels(name).is_some(),
        Store::ServiceAccounts => cluster.accounts.pull_secrets("shop", name).is_some(),
        // ControllerRevisions are known only by the images that they carry.
        Store::ControllerRevisions => true,
        Store::Objects(row) if row.is_pod() => cluster.pods.get(&uid).is_some(),
        Store::Objects(row) => cluster.workloads.get(row.kind, &uid).is_some(),
    }
}

fn count(unreadable: &Unreadables, watched: Watched) -> usize {
    unreadable.counts(&Kinds::default()).into_iter().find(|(name, _)| *name == watched.name()).unwrap().1
}

/// Returns the names of the objects that cannot be read.
fn named(unreadable: &Unreadables, watched: Watched) -> Vec<Named> {
    let rows = unreadable.rows().into_iter();
    rows.filter(|row| row.watch == watched.name()).flat_map(|row| row.named).collect()
}

/// Waits until the reports of the watch have been taken in. Tests pause the clock, so that nothing else can
/// happen before.
async fn told(holds: impl Fn() -> bool, what: &str) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{what}");
}

#[tokio::test(start_paused = true)]
async fn in_a_list_one_bad_object_of_any_kind_hides_no_other() {
    let mut replica = Replica::start();
    let mut open = Vec::new();
    for store in Store::all(&Kinds::default()) {
        let items = json!([good("a", "1"), bad("b", "2"), null, strange("c", "3")]);
        open.push(replica.fill(&path(store), items).await);
        let cluster = Arc::clone(&replica.cluster);
        assert!(!cluster.synced.missing().contains(&store), "{}", store.name());
        assert!(knows(&cluster, store, "a") && knows(&cluster, store, "c"), "{}", store.name());
        let named = named(&cluster.unreadable, Watched::Store(store));
        let names: Vec<_> = named.iter().map(|named| (named.namespace.as_deref(), &*named.name)).collect();
        assert_eq!(names, [(None, ""), (Some("shop"), "b")], "{}", store.name());
        assert_eq!(named[1].fault, "metadata.labels.a: expected a string");
    }
    assert!(replica.cluster.synced.missing().is_empty(), "the replica is ready");
}

#[tokio::test(start_paused = true)]
async fn in_an_event_one_bad_object_of_any_kind_hides_no_other() {
    let mut replica = Replica::start();
    let cluster = Arc::clone(&replica.cluster);
    for store in Store::all(&Kinds::default()) {
        let watched = Watched::Store(store);
        let policy = matches!(store, Store::ClusterImagePolicies | Store::ImagePolicies);
        let revision = store == Store::ControllerRevisions;
        let watch = replica.fill(&path(store), json!([good("a", "1")])).await;
        watch.event("MODIFIED", bad("a", "11"));
        watch.event("ADDED", bad("b", "12"));
        watch.event("ADDED", good("c", "13"));
        told(|| knows(&cluster, store, "c") && count(&cluster.unreadable, watched) == 2, store.name()).await;
        // The object's content is unknown now; a policy stays in force.
        assert!(knows(&cluster, store, "a") == (policy || revision), "{}", store.name());
        assert!(policy || revision || !knows(&cluster, store, "b"), "{}", store.name());
        watch.event("MODIFIED", good("b", "14"));
        watch.event("DELETED", bad("a", "15"));
        told(|| count(&cluster.unreadable, watched) == 0, store.name()).await;
        assert!(knows(&cluster, store, "b"), "{}", store.name());
        assert!(revision || !knows(&cluster, store, "a"), "{}", store.name());
        // The same stream goes on, without a new list.
        assert!(replica.waiting.get(&path(store)).is_none_or(Vec::is_empty), "{}", store.name());
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_a_list_cannot_read_stays_in_force() {
    let mut replica = Replica::start();
    let store = Store::ClusterImagePolicies;
    let policy = |mut object: Value| {
        object["metadata"].as_object_mut().unwrap().remove("namespace");
        object
    };
    let watch = replica.fill(&path(store), json!([policy(good("a", "1")), policy(good("gone", "1"))])).await;
    watch.expired();
    replica.fill(&path(store), json!([policy(bad("a", "11"))])).await;
    let cluster = &replica.cluster;
    let id = PolicyId { namespace: None, name: "a".into() };
    told(|| count(&cluster.unreadable, Watched::Store(store)) == 1, "unreadable").await;
    assert!(cluster.policies.get(&id).is_some() && cluster.policies.rows().len() == 1);
}

const SECRET: &str = "GET /api/v1/namespaces/tagpin-system/secrets";

#[tokio::test(start_paused = true)]
async fn the_one_secret_is_read_whatever_its_metadata_holds_and_kept_when_it_cannot_be() {
    let (client, mut api) = Api::new();
    let (sender, unreadable) = (Sender::new(Observed::Unknown), Unreadables::default());
    let (mut secret, counted) = (sender.subscribe(), unreadable.clone());
    let task =
        tokio::spawn(async move { certificate::watch(client, "tagpin-system", sender, &counted).await });
    let there = |seen: &Observed<Secret>| matches!(seen, Observed::Present(_));
    let mut first = strange("tagpin-webhook-tls", "1");
    first["data"] = json!({ "tls.crt": "dg==" });
    api.expect(SECRET).await.list(json!([first]), "10");
    let watch = api.expect(SECRET).await.watch();
    assert!(there(&secret.borrow_and_update()));
    watch.event("MODIFIED", bad("tagpin-webhook-tls", "11"));
    told(|| count(&unreadable, Watched::Certificate) == 1, "counted").await;
    assert!(there(&secret.borrow()) && !secret.has_changed().unwrap(), "what was known is kept");
    watch.expired();
    api.expect(SECRET).await.list(json!([bad("tagpin-webhook-tls", "20")]), "21");
    let watch = api.expect(SECRET).await.watch();
    assert!(there(&secret.borrow()), "it is not gone");
    watch.event("DELETED", bad("tagpin-webhook-tls", "22"));
    told(|| matches!(*secret.borrow(), Observed::Absent), "gone").await;
    assert_eq!(count(&unreadable, Watched::Certificate), 0);
    task.abort();
}
