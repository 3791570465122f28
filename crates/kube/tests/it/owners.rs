//! Who owns whom, and what another revision carries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tagpin_domain::policy::Labels;
use tagpin_domain::slot::{Kind, SlotKey};
use tagpin_domain::subject::TopOwner;
use tagpin_kube::Cluster;
use tagpin_kube::object::{ControllerRef, Object, OldRevision};
use tagpin_kube::reader::Reader;
use tokio::time::Instant;

use tagpin_testing::{object, owned_by};

/// An API server that has these objects, and notes what was asked.
#[derive(Clone, Default)]
struct Api {
    objects: Arc<Mutex<Vec<Object>>>,
    namespaces: Arc<Mutex<BTreeMap<String, Labels>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Reader for Api {
    async fn object(&self, kind: Kind, namespace: &str, name: &str, _: Instant) -> Option<Object> {
        self.asked.lock().unwrap().push(format!("{kind} {namespace}/{name}"));
        let objects = self.objects.lock().unwrap();
        objects.iter().find(|o| o.kind == kind && o.namespace == namespace && o.name == name).cloned()
    }

    async fn namespace_labels(&self, name: &str, _: Instant) -> Option<Labels> {
        self.asked.lock().unwrap().push(format!("Namespace {name}"));
        self.namespaces.lock().unwrap().get(name).cloned()
    }
}

fn workload(kind: Kind, name: &str, owners: Value) -> Object {
    object(
        kind,
        json!({ "metadata": { "name": name, "namespace": "shop", "uid": name, "ownerReferences": owners } }),
    )
}

fn reference(api_version: &str, kind: &str, name: &str) -> ControllerRef {
    ControllerRef::new(api_version, kind, name, name)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

async fn top(cluster: &Cluster, controller: &ControllerRef) -> TopOwner {
    cluster.top_owner("shop", Kind::Pod, Some(controller), soon()).await
}

#[tokio::test(start_paused = true)]
async fn controllers_are_followed_while_they_are_validated() {
    let cluster = Cluster::new(Api::default());
    let deployment = owned_by("apps/v1", "Deployment", "web", "web");
    let rollout = owned_by("argoproj.io/v1alpha1", "Rollout", "web", "rollout");
    let kruise = owned_by("apps.kruise.io/v1alpha1", "StatefulSet", "x", "x");
    for workload in [
        workload(Kind::Deployment, "web", json!([])),
        workload(Kind::ReplicaSet, "web-1", deployment),
        workload(Kind::ReplicaSet, "alone", json!([])),
        workload(Kind::ReplicaSet, "of-rollout", rollout),
        workload(Kind::Job, "of-cronjob", owned_by("batch/v1", "CronJob", "nightly", "nightly")),
        workload(Kind::CronJob, "nightly", json!([])),
        workload(Kind::StatefulSet, "of-kruise", kruise),
    ] {
        cluster.workloads.apply(workload);
    }
    for (api_version, kind, name, expected) in [
        ("apps/v1", "ReplicaSet", "web-1", Kind::Deployment),
        ("apps/v1", "ReplicaSet", "alone", Kind::ReplicaSet),
        ("apps/v1", "ReplicaSet", "of-rollout", Kind::ReplicaSet),
        ("batch/v1", "Job", "of-cronjob", Kind::CronJob),
        ("apps/v1", "StatefulSet", "of-kruise", Kind::StatefulSet),
        ("apps.kruise.io/v1alpha1", "StatefulSet", "elsewhere", Kind::Pod),
        ("postgresql.cnpg.io/v1", "Cluster", "db", Kind::Pod),
    ] {
        let found = top(&cluster, &reference(api_version, kind, name)).await;
        assert_eq!(found, TopOwner::Known(expected), "{api_version} {kind} {name}");
    }
    assert_eq!(cluster.top_owner("shop", Kind::Pod, None, soon()).await, TopOwner::Known(Kind::Pod));
    let passed = Instant::now();
    let held = reference("apps/v1", "ReplicaSet", "web-1");
    let found = cluster.top_owner("shop", Kind::Pod, Some(&held), passed).await;
    assert_eq!(found, TopOwner::Known(Kind::Deployment), "what is in memory needs no time");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_a_watch_reports_late_is_waited_for() {
    let api = Api::default();
    let cluster = Arc::new(Cluster::new(api.clone()));
    let asking = tokio::spawn({
        let cluster = Arc::clone(&cluster);
        async move { top(&cluster, &reference("apps/v1", "ReplicaSet", "web-1")).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.workloads.apply(workload(Kind::ReplicaSet, "other", json!([])));
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.workloads.apply(workload(Kind::ReplicaSet, "web-1", json!([])));
    assert_eq!(asking.await.unwrap(), TopOwner::Known(Kind::ReplicaSet));
    assert!(api.asked.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_no_watch_reports_is_read_once() {
    let api = Api::default();
    let web = owned_by("apps/v1", "Deployment", "web", "web");
    *api.objects.lock().unwrap() =
        vec![workload(Kind::ReplicaSet, "web-1", web), workload(Kind::Deployment, "web", json!([]))];
    let cluster = Cluster::new(api.clone());
    let start = Instant::now();
    let found = top(&cluster, &reference("apps/v1", "ReplicaSet", "web-1")).await;
    assert_eq!(found, TopOwner::Known(Kind::Deployment));
    assert_eq!(*api.asked.lock().unwrap(), ["ReplicaSet shop/web-1", "Deployment shop/web"]);
    assert!(start.elapsed() < Duration::from_millis(600), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_can_not_be_found_in_time_is_unknown() {
    let api = Api::default();
    let cluster = Cluster::new(api.clone());
    assert_eq!(top(&cluster, &reference("apps/v1", "ReplicaSet", "missing")).await, TopOwner::Unknown);
    assert_eq!(api.asked.lock().unwrap().len(), 1);

    let start = Instant::now();
    let missing = reference("apps/v1", "ReplicaSet", "missing");
    let near = start + Duration::from_millis(50);
    let found = cluster.top_owner("shop", Kind::Pod, Some(&missing), near).await;
    assert_eq!((found, start.elapsed()), (TopOwner::Unknown, Duration::from_millis(50)));
    assert_eq!(api.asked.lock().unwrap().len(), 1, "there was no time left to ask");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_no_watch_reports_is_waited_for_and_then_read_once() {
    let api = Api::default();
    let labels = |env: &str| Labels::from([("env".to_owned(), env.to_owned())]);
    api.namespaces.lock().unwrap().insert("new".to_owned(), labels("read"));
    let cluster = Arc::new(Cluster::new(api.clone()));
    let found = cluster.awaited_namespace_labels("new", soon()).await;
    assert_eq!(found.as_deref(), Some(&labels("read")));
    assert_eq!(*api.asked.lock().unwrap(), ["Namespace new"]);
    assert_eq!(cluster.awaited_namespace_labels("missing", soon()).await, None);

    let asking = tokio::spawn({
        let cluster = Arc::clone(&cluster);
        async move { cluster.awaited_namespace_labels("late", soon()).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.namespaces.apply("late".to_owned(), labels("reported"));
    assert_eq!(asking.await.unwrap().as_deref(), Some(&labels("reported")));
    let passed = Instant::now();
    assert!(cluster.awaited_namespace_labels("late", passed).await.is_some(), "memory needs no time");
    assert_eq!(cluster.awaited_namespace_labels("new", passed).await, None);
    assert_eq!(api.asked.lock().unwrap().len(), 2, "nor is there time left to ask");
}

#[tokio::test(start_paused = true)]
async fn another_object_of_the_same_name_is_not_the_owner() {
    let api = Api::default();
    api.objects.lock().unwrap().push(workload(Kind::ReplicaSet, "web-1", json!([])));
    let cluster = Cluster::new(api);
    let earlier = ControllerRef::new("apps/v1", "ReplicaSet", "web-1", "an earlier uid");
    assert_eq!(top(&cluster, &earlier).await, TopOwner::Unknown);
    // Nor is the owner's UID enough, in another namespace or under another kind.
    cluster.workloads.apply(workload(Kind::ReplicaSet, "web-2", json!([])));
    let owner = reference("apps/v1", "ReplicaSet", "web-2");
    let found = cluster.top_owner("other", Kind::Pod, Some(&owner), soon()).await;
    assert_eq!(found, TopOwner::Unknown);
    assert_eq!(top(&cluster, &reference("apps/v1", "DaemonSet", "web-2")).await, TopOwner::Unknown);
}

#[tokio::test(start_paused = true)]
async fn owners_in_a_circle_are_unknown() {
    let cluster = Cluster::new(Api::default());
    cluster.workloads.apply(workload(Kind::ReplicaSet, "a", owned_by("apps/v1", "ReplicaSet", "b", "b")));
    cluster.workloads.apply(workload(Kind::ReplicaSet, "b", owned_by("apps/v1", "ReplicaSet", "a", "a")));
    assert_eq!(top(&cluster, &reference("apps/v1", "ReplicaSet", "a")).await, TopOwner::Unknown);
}

fn template(image: &str) -> Value {
    json!({ "spec": { "template": { "spec": { "containers": [{ "name": "app", "image": image }] } } } })
}

fn revision(name: &str, owners: Value, data: Value) -> OldRevision {
    let metadata = json!({ "name": name, "namespace": "shop", "uid": name, "ownerReferences": owners });
    OldRevision::new(&serde_json::from_value(json!({ "metadata": metadata, "data": data })).unwrap()).unwrap()
}

fn carries(cluster: &Cluster, kind: Kind, uid: &str, slot: &str, reference: &str) -> bool {
    cluster.carries(kind, "shop", uid, &slot.parse::<SlotKey>().unwrap(), reference)
}

#[test]
fn a_deployment_carries_what_its_replica_sets_hold() {
    let cluster = Cluster::new(Api::default());
    let mut old = template("web:1");
    old["metadata"] = json!({
        "name": "web-1", "namespace": "shop", "uid": "web-1",
        "ownerReferences": owned_by("apps/v1", "Deployment", "web", "web"),
    });
    cluster.workloads.apply(object(Kind::ReplicaSet, old));
    assert!(carries(&cluster, Kind::Deployment, "web", "containers/app", "web:1"));
    assert!(!carries(&cluster, Kind::Deployment, "web", "containers/app", "web:2"));
    assert!(!carries(&cluster, Kind::Deployment, "web", "initContainers/app", "web:1"));
    assert!(!carries(&cluster, Kind::Deployment, "other", "containers/app", "web:1"));
    assert!(!carries(&cluster, Kind::StatefulSet, "web", "containers/app", "web:1"));
    assert!(!cluster.carries(Kind::Deployment, "other", "web", &"containers/app".parse().unwrap(), "web:1"));
    cluster.workloads.delete(Kind::ReplicaSet, "web-1");
    assert!(!carries(&cluster, Kind::Deployment, "web", "containers/app", "web:1"));
}

#[test]
fn stateful_and_daemon_sets_carry_what_their_revisions_hold() {
    let cluster = Cluster::new(Api::default());
    for (kind, name) in [(Kind::StatefulSet, "db"), (Kind::DaemonSet, "agent")] {
        let owners = owned_by("apps/v1", kind.name(), name, name);
        cluster.workloads.apply_revision(revision(&format!("{name}-1"), owners, template("web:1")));
        assert!(carries(&cluster, kind, name, "containers/app", "web:1"), "{name}");
        assert!(!carries(&cluster, kind, name, "containers/app", "web:2"), "{name}");
        assert!(!carries(&cluster, Kind::Deployment, name, "containers/app", "web:1"), "{name}");
    }
    cluster.workloads.replace_revisions(vec![]);
    assert!(!carries(&cluster, Kind::StatefulSet, "db", "containers/app", "web:1"));
}

#[test]
fn revisions_of_custom_resources_may_hold_anything() {
    let cluster = Cluster::new(Api::default());
    let owners = owned_by("apps.kruise.io/v1alpha1", "StatefulSet", "db", "db");
    for data in
        [Value::Null, json!("text"), json!([1]), json!({ "spec": { "template": "text" } }), template("web:1")]
    {
        cluster.workloads.apply_revision(revision("db-1", owners.clone(), data.clone()));
        assert!(!carries(&cluster, Kind::StatefulSet, "db", "containers/app", "web:1"), "{data}");
    }
}
