//! A datastore from which the first policy can be read by name, but which leaves it out of every list.

use std::sync::Arc;
use std::time::Duration;

use kube::core::ObjectMeta;
use serde_json::{Value, json};
use tagpin_domain::policy::{PolicyId, PolicyKind};
use tagpin_kube::client::ApiReader;
use tagpin_kube::image_policy::ClusterImagePolicy;
use tagpin_kube::policies::Reported;
use tagpin_kube::store::Store;
use tagpin_kube::{Cluster, by_name};
use tagpin_objects::kinds::Kinds;
use tagpin_review::Surroundings as _;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use tagpin_testing::scripted_api::{Api, Call};

struct Replica {
    api: Api,
    cluster: Arc<Cluster>,
    task: JoinHandle<std::convert::Infallible>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn metadata(generation: i64) -> Value {
    json!({ "name": "baseline", "uid": "u", "generation": generation })
}

impl Replica {
    /// Starts a replica whose list of policies is empty.
    fn start() -> Self {
        let (client, api) = Api::new();
        let cluster =
            Arc::new(Cluster::new(Kinds::default(), ApiReader::new(client.clone(), Kinds::default())));
        cluster.synced.fill(Store::ClusterImagePolicies);
        let task = tokio::spawn(by_name::watch(Arc::clone(&cluster), client));
        Self { api, cluster, task }
    }

    async fn get(&mut self) -> Call {
        let call = self.api.expect("GET /apis/tagpin.dev/v1alpha1/clusterimagepolicies/baseline").await;
        assert!(call.query.is_empty(), "a plain read: {:?}", call.query);
        call
    }

    fn tell(&self, generation: i64) {
        let metadata: ObjectMeta = serde_json::from_value(metadata(generation)).unwrap();
        self.cluster.policies.apply(Reported::parse::<ClusterImagePolicy>(&metadata, json!({}), Value::Null));
    }

    fn generation(&self) -> Option<(i64, bool)> {
        let id = PolicyId { namespace: None, name: "baseline".into() };
        self.cluster.policies.get(&id).map(|held| (held.generation, held.by_name))
    }
}

#[tokio::test(start_paused = true)]
async fn what_lists_leave_out_is_used_until_they_tell() {
    let mut replica = Replica::start();
    let start = Instant::now();
    replica.get().await.ok(json!({ "metadata": metadata(1), "spec": {} }));
    let again = replica.get().await;
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert_eq!(replica.generation(), Some((1, true)));
    assert_eq!(replica.cluster.policies().cluster.len(), 1);
    // A list without the policy comes in, and a newer generation is read.
    replica.cluster.policies.replace(PolicyKind::ClusterImagePolicy, vec![]);
    again.ok(json!({ "metadata": metadata(2), "spec": {} }));
    let again = replica.get().await;
    assert_eq!(replica.generation(), Some((2, true)));
    // The watch reports the policy at last. One more read agrees, and no further read follows.
    replica.tell(2);
    again.ok(json!({ "metadata": metadata(2), "spec": {} }));
    replica.api.quiet(Duration::from_hours(5)).await;
    assert_eq!(replica.generation(), Some((2, false)));
}

#[tokio::test(start_paused = true)]
async fn what_only_a_read_found_goes_when_a_read_finds_it_gone() {
    let mut replica = Replica::start();
    replica.get().await.ok(json!({ "metadata": metadata(1), "spec": {} }));
    replica.get().await.refuse(404, "NotFound");
    let _ = replica.get().await;
    assert_eq!(replica.generation(), None);
}

#[tokio::test(start_paused = true)]
async fn each_change_that_is_reported_is_read_once() {
    let mut replica = Replica::start();
    replica.tell(1);
    replica.get().await.ok(json!({ "metadata": metadata(1), "spec": {} }));
    replica.api.quiet(Duration::from_hours(5)).await;
    replica.tell(2);
    replica.get().await.ok(json!({ "metadata": metadata(2), "spec": {} }));
    replica.api.quiet(Duration::from_hours(5)).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_before_the_first_list_and_failures_are_waited_out() {
    let (client, api) = Api::new();
    let cluster = Arc::new(Cluster::new(Kinds::default(), ApiReader::new(client.clone(), Kinds::default())));
    let task = tokio::spawn(by_name::watch(Arc::clone(&cluster), client));
    let mut replica = Replica { api, cluster, task };
    replica.api.quiet(Duration::from_hours(1)).await;
    replica.cluster.synced.fill(Store::ClusterImagePolicies);
    replica.get().await.refuse(500, "InternalError");
    let hangs = replica.get().await;
    hangs.given_up().await;
    replica.get().await.ok(json!({ "metadata": metadata(1), "spec": {} }));
    let _ = replica.get().await;
    assert_eq!(replica.generation(), Some((1, true)));
}
