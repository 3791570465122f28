//! The Secret with the keys for marks, call by call.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tagpin_kube::pin_keys::use_newest;
use tagpin_kube::store::Store;
use tagpin_kube::{Cluster, Observed};
use tagpin_leader::pin_keys::keep;
use tagpin_leader::reconcile::Reconcile;
use tagpin_objects::kinds::Kinds;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::reach::reach;
use tagpin_testing::NoObjects;
use tagpin_testing::scripted_api::{Api, Call};

const DEPLOYMENT: &str = "GET /apis/apps/v1/namespaces/tagpin-system/deployments/tagpin";
const SECRETS: &str = "/api/v1/namespaces/tagpin-system/secrets";
const THE_SECRET: &str = "PUT /api/v1/namespaces/tagpin-system/secrets/tagpin-pin-keys";

struct Keeper {
    api: Api,
    seen: watch::Sender<Observed<Secret>>,
    cluster: Arc<Cluster>,
    reconcile: Reconcile,
    task: JoinHandle<std::convert::Infallible>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    fn start(seen: Observed<Secret>) -> Self {
        Self::after(seen, None)
    }

    /// Starts a leader that knew this Secret before it led.
    fn after(seen: Observed<Secret>, newest: Option<Value>) -> Self {
        let newest = newest.map(|secret| Arc::new(serde_json::from_value::<Secret>(secret).unwrap()));
        let (_, newest) = watch::channel(newest);
        let (client, api) = Api::new();
        let (sender, receiver) = watch::channel(seen);
        let (cluster, reconcile) =
            (Arc::new(Cluster::new(Kinds::default(), NoObjects)), Reconcile::default());
        let (known, passes) = (Arc::clone(&cluster), reconcile.clone());
        let task =
            tokio::spawn(async move { keep(client, "tagpin-system", known, receiver, newest, passes).await });
        Self { api, seen: sender, cluster, reconcile, task }
    }

    /// Answers the read of the Deployment with this number of updated replicas. The first key is made once
    /// all replicas are of one version.
    async fn asked_for_the_roll_out(&mut self, updated: u32) {
        let status = json!({ "observedGeneration": 3, "replicas": 2, "updatedReplicas": updated });
        let metadata = json!({ "name": "tagpin", "uid": "d", "generation": 3 });
        let asked = self.api.expect(DEPLOYMENT).await;
        asked.ok(
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "status": status }),
        );
    }

    /// Returns the write of the Secret, after the read of the Deployment, which becomes its owner.
    async fn write(&mut self, line: &str) -> Call {
        let metadata = json!({ "name": "tagpin", "uid": "d" });
        let asked = self.api.expect(DEPLOYMENT).await;
        asked.ok(
            json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata }),
        );
        let write = self.api.expect(line).await;
        let owners = json!([{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "tagpin", "uid": "d" }]);
        assert_eq!(write.json()["metadata"]["ownerReferences"], owners);
        write
    }

    fn tell(&self, secret: Value) {
        self.seen.send_replace(Observed::Present(Arc::new(serde_json::from_value(secret).unwrap())));
    }
}

/// Returns a Secret with one key that was made this number of days ago.
fn secret(days: i64) -> Value {
    use base64::Engine as _;
    let now = jiff::Timestamp::now();
    let id = now.as_second() - days * 24 * 3600;
    let key = base64::engine::general_purpose::STANDARD.encode([7; 32]);
    let metadata = json!({
        "name": "tagpin-pin-keys", "namespace": "tagpin-system", "resourceVersion": "7",
        "creationTimestamp": "2026-01-02T03:04:05Z",
    });
    json!({ "metadata": metadata, "data": { id.to_string(): key } })
}

/// Returns the names of the entries of this Secret's data.
fn entries(secret: &Value) -> Vec<String> {
    secret["data"].as_object().unwrap().keys().cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_key_is_made_once_no_replica_of_another_version_is_left() {
    let mut keeper = Keeper::start(Observed::Unknown);
    keeper.api.quiet(Duration::from_hours(2)).await;
    keeper.seen.send_replace(Observed::Absent);
    keeper.asked_for_the_roll_out(1).await;
    keeper.asked_for_the_roll_out(2).await;
    let create = keeper.write(&format!("POST {SECRETS}")).await;
    let made = create.json();
    assert_eq!((made["type"].as_str(), entries(&made).len()), (Some("Opaque"), 1));
    create.answer(201, made.clone());
    keeper.tell(made);
    keeper.api.quiet(Duration::from_hours(24)).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_key_is_followed_by_another_and_stays_while_it_is_not_known_who_uses_it() {
    let mut keeper = Keeper::start(Observed::Unknown);
    let old = secret(31);
    keeper.tell(old.clone());
    let put = keeper.write(THE_SECRET).await;
    let new = put.json();
    let names = entries(&new);
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.contains(&entries(&old)[0]) && names.contains(&"since".to_owned()), "{names:?}");
    assert_eq!(new["metadata"]["resourceVersion"], "7");
    put.ok(new.clone());
    keeper.tell(new.clone());
    keeper.api.quiet(Duration::from_hours(24)).await;
    // Once every pod is known, the next check removes the key that no pod uses.
    Store::all(&Kinds::default()).for_each(|store| keeper.cluster.synced.fill(store));
    let put = keeper.write(THE_SECRET).await;
    let left = entries(&put.json());
    assert!(left.len() == 2 && !left.contains(&entries(&old)[0]), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_deleted_comes_back_with_its_keys_and_its_age() {
    let mut keeper = Keeper::start(Observed::Unknown);
    let held = secret(1);
    keeper.tell(held.clone());
    keeper.api.quiet(Duration::from_hours(2)).await;
    keeper.seen.send_replace(Observed::Absent);
    let create = keeper.write(&format!("POST {SECRETS}")).await;
    let made = create.json();
    let id = &entries(&held)[0];
    assert_eq!(made["data"][id], held["data"][id]);
    let since: Secret = serde_json::from_value(made.clone()).unwrap();
    assert_eq!(tagpin_kube::pin_keys::since(&since).to_string(), "2026-01-02T03:04:05Z");
    create.refuse(403, "Forbidden");
    // A write that fails is tried again.
    keeper.write(&format!("POST {SECRETS}")).await.answer(201, made);
    assert_eq!(keeper.reconcile.failures(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_writes_again_what_it_knew_before_it_led() {
    let held = secret(1);
    let mut spoilt = held.clone();
    spoilt["data"] = json!({});
    let spoilt = Observed::Present(Arc::new(serde_json::from_value(spoilt).unwrap()));
    for (seen, line) in [(Observed::Absent, format!("POST {SECRETS}")), (spoilt, THE_SECRET.to_owned())] {
        let mut keeper = Keeper::after(seen, Some(held.clone()));
        let made = keeper.write(&line).await.json();
        let id = &entries(&held)[0];
        assert_eq!(made["data"][id], held["data"][id]);
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_keep_the_keys_of_a_secret_that_is_gone() {
    let cluster = Cluster::new(Kinds::default(), NoObjects);
    let (seeing, seen) = watch::channel(Observed::Unknown);
    let ((holding, mut newest), (hearing, mut heard)) = (watch::channel(None), watch::channel(false));
    tokio::spawn(use_newest(Arc::clone(&cluster.pods), seen, holding, hearing));
    seeing.send_replace(Observed::Present(Arc::new(serde_json::from_value(secret(1)).unwrap())));
    reach(&mut heard, |heard| *heard).await;
    reach(&mut newest, Option::is_some).await;
    assert!(cluster.pods.keys().is_some());
    let mut spoilt = secret(1);
    spoilt["data"] = json!({});
    let spoilt = Observed::Present(Arc::new(serde_json::from_value(spoilt).unwrap()));
    for seen in [Observed::Absent, spoilt] {
        heard.mark_unchanged();
        seeing.send_replace(seen);
        heard.changed().await.unwrap();
        let held = newest.borrow().as_ref().and_then(|secret| secret.data.clone());
        assert!(held.is_some_and(|held| !held.is_empty()) && cluster.pods.keys().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_hears_of_no_secret_goes_on_without_keys() {
    let cluster = Cluster::new(Kinds::default(), NoObjects);
    let (_seeing, seen) = watch::channel(Observed::Unknown);
    let ((holding, _newest), (hearing, mut heard)) = (watch::channel(None), watch::channel(false));
    tokio::spawn(use_newest(Arc::clone(&cluster.pods), seen, holding, hearing));
    let waited = tokio::time::timeout(Duration::from_secs(60), heard.wait_for(|heard| *heard)).await;
    assert!(waited.is_ok() && cluster.pods.keys().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_key_is_no_key() {
    let mut keeper = Keeper::start(Observed::Unknown);
    let mut spoilt = secret(1);
    spoilt["data"] = json!({ "1700000000": "c2hvcnQ=", "name": "c2hvcnQ=" });
    keeper.tell(spoilt);
    keeper.asked_for_the_roll_out(2).await;
    let put = keeper.write(THE_SECRET).await;
    let names = entries(&put.json());
    assert!(names.len() == 2 && !names.contains(&"1700000000".to_owned()), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn no_key_is_made_once_the_deployment_is_gone() {
    let mut keeper = Keeper::start(Observed::Absent);
    for _ in 0..3 {
        keeper.api.expect(DEPLOYMENT).await.refuse(404, "NotFound");
    }
}
