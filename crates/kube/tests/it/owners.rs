//! The owners of objects, and the images that their revisions carry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tagpin_domain::kind::Kind;
use tagpin_domain::slot::{PullPolicy, Slot, SlotKey};
use tagpin_domain::subject::TopOwner;
use tagpin_domain::workload::{ControllerRef, Known, Labels, Workload};
use tagpin_kube::Cluster;
use tagpin_kube::discovery::ServedKinds;
use tagpin_kube::reader::Reader;
use tagpin_kube::stored::{OldRevision, Stored};
use tagpin_objects::kinds::{CRON_JOB, DAEMON_SET, DEPLOYMENT, JOB, Kinds, POD, REPLICA_SET, STATEFUL_SET};
use tagpin_review::Surroundings;
use tokio::time::Instant;

use tagpin_testing::{object, owned_by};

/// An API server that has these objects and records each read.
#[derive(Clone, Default)]
struct Api {
    objects: Arc<Mutex<Vec<Stored>>>,
    namespaces: Arc<Mutex<BTreeMap<String, Labels>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Reader for Api {
    async fn object(&self, kind: Kind, namespace: &str, name: &str, _: Instant) -> Option<Stored> {
        self.asked.lock().unwrap().push(format!("{kind} {namespace}/{name}"));
        let objects = self.objects.lock().unwrap();
        let is_it = |o: &&Stored| {
            let Workload { kind: of, namespace: within, name: called, .. } = &o.workload;
            *of == kind && within == namespace && called == name
        };
        objects.iter().find(is_it).cloned()
    }

    async fn namespace_labels(&self, name: &str, _: Instant) -> Option<Labels> {
        self.asked.lock().unwrap().push(format!("Namespace {name}"));
        self.namespaces.lock().unwrap().get(name).cloned()
    }

    async fn pull_secrets(&self, _: &str, _: &str, _: Instant) -> Known<Option<Vec<String>>> {
        Known::Unknown
    }

    async fn served_kinds(&self, _: Instant) -> Option<ServedKinds> {
        None
    }
}

fn workload(kind: Kind, name: &str, owners: Value) -> Stored {
    object(
        kind,
        json!({ "metadata": { "name": name, "namespace": "shop", "uid": name, "ownerReferences": owners } }),
    )
}

fn reference(api_version: &str, kind: &str, name: &str) -> ControllerRef {
    Kinds::default().controller(api_version, kind, name, name)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

/// Returns a pod with this controller.
fn pod(namespace: &str, controller: Option<&ControllerRef>) -> Workload {
    Workload { controller: controller.cloned(), ..Workload::new(POD, true, namespace, "web-1-x") }
}

async fn top(cluster: &Cluster, controller: &ControllerRef) -> TopOwner {
    cluster.top_owner(&pod("shop", Some(controller)), soon()).await
}

#[tokio::test(start_paused = true)]
async fn controllers_are_followed_while_they_are_validated() {
    let cluster = Cluster::new(Kinds::default(), Api::default());
    let deployment = owned_by("apps/v1", "Deployment", "web", "web");
    let rollout = owned_by("argoproj.io/v1alpha1", "Rollout", "web", "rollout");
    let kruise = owned_by("apps.kruise.io/v1alpha1", "StatefulSet", "x", "x");
    for workload in [
        workload(DEPLOYMENT, "web", json!([])),
        workload(REPLICA_SET, "web-1", deployment),
        workload(REPLICA_SET, "alone", json!([])),
        workload(REPLICA_SET, "of-rollout", rollout),
        workload(JOB, "of-cronjob", owned_by("batch/v1", "CronJob", "nightly", "nightly")),
        workload(CRON_JOB, "nightly", json!([])),
        workload(STATEFUL_SET, "of-kruise", kruise),
    ] {
        cluster.workloads.apply(workload);
    }
    for (api_version, kind, name, expected) in [
        ("apps/v1", "ReplicaSet", "web-1", DEPLOYMENT),
        ("apps/v1", "ReplicaSet", "alone", REPLICA_SET),
        ("apps/v1", "ReplicaSet", "of-rollout", REPLICA_SET),
        ("batch/v1", "Job", "of-cronjob", CRON_JOB),
        ("apps/v1", "StatefulSet", "of-kruise", STATEFUL_SET),
        ("apps.kruise.io/v1alpha1", "StatefulSet", "elsewhere", POD),
        ("postgresql.cnpg.io/v1", "Cluster", "db", POD),
    ] {
        let found = top(&cluster, &reference(api_version, kind, name)).await;
        assert_eq!(found, TopOwner::Known(expected), "{api_version} {kind} {name}");
    }
    assert_eq!(cluster.top_owner(&pod("shop", None), soon()).await, TopOwner::Known(POD));
    let passed = Instant::now();
    let held = reference("apps/v1", "ReplicaSet", "web-1");
    let found = cluster.top_owner(&pod("shop", Some(&held)), passed).await;
    assert_eq!(found, TopOwner::Known(DEPLOYMENT), "what is in memory needs no time");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_a_watch_reports_late_is_waited_for() {
    let api = Api::default();
    let cluster = Arc::new(Cluster::new(Kinds::default(), api.clone()));
    let asking = tokio::spawn({
        let cluster = Arc::clone(&cluster);
        async move { top(&cluster, &reference("apps/v1", "ReplicaSet", "web-1")).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.workloads.apply(workload(REPLICA_SET, "other", json!([])));
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.workloads.apply(workload(REPLICA_SET, "web-1", json!([])));
    assert_eq!(asking.await.unwrap(), TopOwner::Known(REPLICA_SET));
    assert!(api.asked.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_no_watch_reports_is_read_once() {
    let api = Api::default();
    let web = owned_by("apps/v1", "Deployment", "web", "web");
    *api.objects.lock().unwrap() =
        vec![workload(REPLICA_SET, "web-1", web), workload(DEPLOYMENT, "web", json!([]))];
    let cluster = Cluster::new(Kinds::default(), api.clone());
    let start = Instant::now();
    let found = top(&cluster, &reference("apps/v1", "ReplicaSet", "web-1")).await;
    assert_eq!(found, TopOwner::Known(DEPLOYMENT));
    assert_eq!(*api.asked.lock().unwrap(), ["ReplicaSet shop/web-1", "Deployment shop/web"]);
    assert!(start.elapsed() < Duration::from_millis(600), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_cannot_be_found_in_time_is_unknown() {
    let api = Api::default();
    let cluster = Cluster::new(Kinds::default(), api.clone());
    assert_eq!(top(&cluster, &reference("apps/v1", "ReplicaSet", "missing")).await, TopOwner::Unknown);
    assert_eq!(api.asked.lock().unwrap().len(), 1);

    let start = Instant::now();
    let missing = reference("apps/v1", "ReplicaSet", "missing");
    let near = start + Duration::from_millis(50);
    let found = cluster.top_owner(&pod("shop", Some(&missing)), near).await;
    assert_eq!((found, start.elapsed()), (TopOwner::Unknown, Duration::from_millis(50)));
    assert_eq!(api.asked.lock().unwrap().len(), 1, "there was no time left to ask");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_no_watch_reports_is_waited_for_and_then_read_once() {
    let api = Api::default();
    let labels = |env: &str| Labels::from([("env".to_owned(), env.to_owned())]);
    api.namespaces.lock().unwrap().insert("new".to_owned(), labels("read"));
    let cluster = Arc::new(Cluster::new(Kinds::default(), api.clone()));
    let found = Surroundings::namespace_labels(&*cluster, "new", soon()).await;
    assert_eq!(found.as_deref(), Some(&labels("read")));
    assert_eq!(*api.asked.lock().unwrap(), ["Namespace new"]);
    assert_eq!(Surroundings::namespace_labels(&*cluster, "missing", soon()).await, None);

    let asking = tokio::spawn({
        let cluster = Arc::clone(&cluster);
        async move { Surroundings::namespace_labels(&*cluster, "late", soon()).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.namespaces.apply("late".to_owned(), labels("reported"));
    assert_eq!(asking.await.unwrap().as_deref(), Some(&labels("reported")));
    let passed = Instant::now();
    assert!(
        Surroundings::namespace_labels(&*cluster, "late", passed).await.is_some(),
        "memory needs no time"
    );
    assert_eq!(Surroundings::namespace_labels(&*cluster, "new", passed).await, None);
    assert_eq!(api.asked.lock().unwrap().len(), 2, "nor is there time left to ask");
}

#[tokio::test(start_paused = true)]
async fn another_object_of_the_same_name_is_not_the_owner() {
    let api = Api::default();
    api.objects.lock().unwrap().push(workload(REPLICA_SET, "web-1", json!([])));
    let cluster = Cluster::new(Kinds::default(), api);
    let earlier = Kinds::default().controller("apps/v1", "ReplicaSet", "web-1", "an earlier uid");
    assert_eq!(top(&cluster, &earlier).await, TopOwner::Unknown);
    // The owner's UID is not enough: the namespace and the kind must match too.
    cluster.workloads.apply(workload(REPLICA_SET, "web-2", json!([])));
    let owner = reference("apps/v1", "ReplicaSet", "web-2");
    let found = cluster.top_owner(&pod("other", Some(&owner)), soon()).await;
    assert_eq!(found, TopOwner::Unknown);
    assert_eq!(top(&cluster, &reference("apps/v1", "DaemonSet", "web-2")).await, TopOwner::Unknown);
}

#[tokio::test(start_paused = true)]
async fn owners_in_a_circle_are_unknown() {
    let cluster = Cluster::new(Kinds::default(), Api::default());
    cluster.workloads.apply(workload(REPLICA_SET, "a", owned_by("apps/v1", "ReplicaSet", "b", "b")));
    cluster.workloads.apply(workload(REPLICA_SET, "b", owned_by("apps/v1", "ReplicaSet", "a", "a")));
    assert_eq!(top(&cluster, &reference("apps/v1", "ReplicaSet", "a")).await, TopOwner::Unknown);
}

fn template(image: &str) -> Value {
    json!({ "spec": { "template": { "spec": { "containers": [{ "name": "app", "image": image }] } } } })
}

fn revision(name: &str, owners: Value, data: Value) -> OldRevision {
    let metadata = json!({ "name": name, "namespace": "shop", "uid": name, "ownerReferences": owners });
    let slim = json!({ "metadata": metadata, "data": data }).to_string();
    OldRevision::new(&Kinds::default(), &serde_json::from_str(&slim).unwrap()).unwrap()
}

fn carries_in(
    cluster: &Cluster,
    kind: Kind,
    namespace: &str,
    uid: &str,
    slot: &str,
    reference: &str,
) -> bool {
    let key: SlotKey = slot.parse().unwrap();
    let place = Kinds::default().row(kind).unwrap().place(key.role, &key.name, 0);
    let workload = Workload { uid: uid.to_owned(), ..Workload::new(kind, false, namespace, uid) };
    let slot = Slot::new(place, reference, PullPolicy::Unset);
    !cluster.carries(&workload, &[&slot], &BTreeSet::new()).concat().is_empty()
}

fn carries(cluster: &Cluster, kind: Kind, uid: &str, slot: &str, reference: &str) -> bool {
    carries_in(cluster, kind, "shop", uid, slot, reference)
}

/// Returns a Deployment or a ReplicaSet with this number of containers.
fn wide(kind: Kind, name: &str, containers: usize, label: &str) -> Stored {
    let containers: Vec<_> =
        (0..containers).map(|n| json!({ "name": format!("c{n:04}"), "image": "web:1" })).collect();
    let template =
        json!({ "metadata": { "labels": { "tier": label } }, "spec": { "containers": containers } });
    let owners =
        if kind == REPLICA_SET { owned_by("apps/v1", "Deployment", "web", "web") } else { json!([]) };
    let metadata = json!({ "name": name, "namespace": "shop", "uid": name, "ownerReferences": owners });
    object(kind, json!({ "metadata": metadata, "spec": { "template": template } }))
}

#[test]
fn a_slot_costs_the_same_beside_few_and_beside_many() {
    let cluster = Cluster::new(Kinds::default(), Api::default());
    for n in 0..500 {
        cluster.workloads.apply(wide(REPLICA_SET, &n.to_string(), 50, &n.to_string()));
    }
    let workload = wide(DEPLOYMENT, "web", 1000, "").workload;
    let slots: Vec<_> = workload.slots.iter().collect();
    let keys = BTreeSet::from(["tier"]);
    let compared = |slots: &[&Slot]| {
        let started = std::time::Instant::now();
        let carried = cluster.carries(&workload, slots, &keys);
        (started.elapsed(), carried)
    };
    // The shortest of a few times is the one that nothing else disturbed.
    let shortest = |slots: &[&Slot]| (0..5).map(|_| compared(slots).0).min().unwrap();
    let (few, many) = (shortest(&slots[..50]), shortest(&slots));
    // Compared slot by slot, twenty times as many take twenty times as long.
    assert!(many < 8 * few, "{few:?} for 50 slots and {many:?} for 1000");
    let (_, carried) = compared(&slots);
    let counts: Vec<_> = carried.iter().map(Vec::len).collect();
    assert_eq!((counts.len(), &counts[..50], &counts[50..52]), (1000, &[16; 50][..], &[0, 0][..]));
}

#[test]
fn a_deployment_carries_what_its_replica_sets_hold() {
    let cluster = Cluster::new(Kinds::default(), Api::default());
    let mut old = template("web:1");
    old["metadata"] = json!({
        "name": "web-1", "namespace": "shop", "uid": "web-1",
        "ownerReferences": owned_by("apps/v1", "Deployment", "web", "web"),
    });
    cluster.workloads.apply(object(REPLICA_SET, old));
    assert!(carries(&cluster, DEPLOYMENT, "web", "containers/app", "web:1"));
    assert!(!carries(&cluster, DEPLOYMENT, "web", "containers/app", "web:2"));
    assert!(!carries(&cluster, DEPLOYMENT, "web", "initContainers/app", "web:1"));
    assert!(!carries(&cluster, DEPLOYMENT, "other", "containers/app", "web:1"));
    assert!(!carries(&cluster, STATEFUL_SET, "web", "containers/app", "web:1"));
    assert!(!carries_in(&cluster, DEPLOYMENT, "other", "web", "containers/app", "web:1"));
    cluster.workloads.delete(REPLICA_SET, "web-1");
    assert!(!carries(&cluster, DEPLOYMENT, "web", "containers/app", "web:1"));
}

#[test]
fn stateful_and_daemon_sets_carry_what_their_revisions_hold() {
    let cluster = Cluster::new(Kinds::default(), Api::default());
    for (kind, name) in [(STATEFUL_SET, "db"), (DAEMON_SET, "agent")] {
        let owners = owned_by("apps/v1", kind.name(), name, name);
        cluster.workloads.apply_revision(revision(&format!("{name}-1"), owners, template("web:1")));
        assert!(carries(&cluster, kind, name, "containers/app", "web:1"), "{name}");
        assert!(!carries(&cluster, kind, name, "containers/app", "web:2"), "{name}");
        assert!(!carries(&cluster, DEPLOYMENT, name, "containers/app", "web:1"), "{name}");
    }
    cluster.workloads.replace_revisions(vec![]);
    assert!(!carries(&cluster, STATEFUL_SET, "db", "containers/app", "web:1"));
}

#[test]
fn revisions_of_custom_resources_may_hold_anything() {
    let cluster = Cluster::new(Kinds::default(), Api::default());
    let owners = owned_by("apps.kruise.io/v1alpha1", "StatefulSet", "db", "db");
    for data in
        [Value::Null, json!("text"), json!([1]), json!({ "spec": { "template": "text" } }), template("web:1")]
    {
        cluster.workloads.apply_revision(revision("db-1", owners.clone(), data.clone()));
        assert!(!carries(&cluster, STATEFUL_SET, "db", "containers/app", "web:1"), "{data}");
    }
}
