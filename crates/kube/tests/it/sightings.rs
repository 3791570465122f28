//! The time at which a replica first saw a revision, from watches and reviews.

use std::time::Duration;

use serde_json::{Value, json};
use tagpin_domain::kind::Kind;
use tagpin_domain::pin::Revision;
use tagpin_kube::Cluster;
use tagpin_kube::slim::Slim;
use tagpin_kube::stored::{OldRevision, Stored};
use tagpin_objects::kinds::{DEPLOYMENT, JOB, Kinds, REPLICA_SET};
use tagpin_review::Pins as _;
use tagpin_testing::{NoObjects, object, owned_by};
use tokio::time::{Instant, advance};

fn cluster() -> Cluster {
    Cluster::new(Kinds::default(), NoObjects)
}

/// Returns a workload with this UID, whose template has these labels.
fn workload(kind: Kind, uid: &str, labels: &Value, owners: Value) -> Stored {
    object(
        kind,
        json!({
            "metadata": { "name": uid, "namespace": "shop", "uid": uid, "ownerReferences": owners },
            "spec": { "template": { "metadata": { "labels": labels }, "spec": { "containers": [] } } },
        }),
    )
}

fn replica_set(uid: &str) -> Stored {
    let owner = owned_by("apps/v1", "Deployment", "web", "web");
    workload(REPLICA_SET, uid, &json!({ "pod-template-hash": "5d4f" }), owner)
}

/// Returns a ControllerRevision of a workload whose UID is `web`.
fn controller_revision(kind: &str, name: &str, hash: &str) -> OldRevision {
    let slim = json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": name, "labels": { "controller-revision-hash": hash },
            "ownerReferences": owned_by("apps/v1", kind, "web", "web"),
        },
        "data": { "spec": { "template": { "spec": { "containers": [] } } } },
    });
    let slim = serde_json::from_str::<Slim>(&slim.to_string()).unwrap();
    OldRevision::new(&Kinds::default(), &slim).unwrap()
}

fn revision(controller: &str, hash: &str) -> Revision {
    let [namespace, controller, hash] = ["shop", controller, hash].map(str::to_owned);
    Revision { namespace, controller, hash }
}

/// Returns the time since a revision was first seen; none if its pods may get an answer of any age.
fn seen(cluster: &Cluster, controller: &str, hash: &str) -> Option<Duration> {
    let now = Instant::now();
    Some(now - cluster.pods.first_seen(&revision(controller, hash), now)?)
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_revision_is_seen_with_the_first_event_or_the_first_review() {
    let cluster = cluster();
    cluster.workloads.apply(replica_set("watched"));
    advance(SECOND).await;
    assert_eq!(seen(&cluster, "watched", "5d4f"), Some(SECOND));
    assert_eq!(seen(&cluster, "reviewed", "5d4f"), Some(Duration::ZERO));
    advance(SECOND).await;
    // Later events and lists change nothing.
    for uid in ["watched", "reviewed"] {
        cluster.workloads.apply(replica_set(uid));
    }
    cluster.workloads.replace(REPLICA_SET, ["watched", "reviewed", "listed"].map(replica_set).into());
    assert_eq!(seen(&cluster, "watched", "5d4f"), Some(2 * SECOND));
    assert_eq!(seen(&cluster, "reviewed", "5d4f"), Some(SECOND));
    advance(SECOND).await;
    assert_eq!(seen(&cluster, "listed", "5d4f"), Some(SECOND));
    // The label of the pod counts, which is another revision of the same controller.
    assert_eq!(seen(&cluster, "watched", "other"), Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_revision_is_forgotten_with_the_object_that_makes_it() {
    let cluster = cluster();
    for uid in ["deleted", "unlisted", "kept"] {
        cluster.workloads.apply(replica_set(uid));
    }
    cluster.workloads.apply_revision(controller_revision("StatefulSet", "web-1", "1"));
    cluster.workloads.apply_revision(controller_revision("StatefulSet", "web-2", "2"));
    advance(SECOND).await;
    cluster.workloads.delete(REPLICA_SET, "deleted");
    cluster.workloads.replace(REPLICA_SET, vec![replica_set("kept")]);
    cluster.workloads.replace_revisions(vec![controller_revision("StatefulSet", "web-2", "2")]);
    for (controller, hash, age) in [
        ("deleted", "5d4f", Duration::ZERO),
        ("unlisted", "5d4f", Duration::ZERO),
        ("kept", "5d4f", SECOND),
        ("web", "web-1", Duration::ZERO),
        ("web", "web-2", SECOND),
    ] {
        assert_eq!(seen(&cluster, controller, hash), Some(age), "{controller} {hash}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_revision_is_seen_under_the_label_of_its_pods() {
    for (kind, known, unknown) in [("StatefulSet", "web-5d4f", "5d4f"), ("DaemonSet", "5d4f", "web-5d4f")] {
        let cluster = cluster();
        cluster.workloads.apply_revision(controller_revision(kind, "web-5d4f", "5d4f"));
        advance(SECOND).await;
        assert_eq!(seen(&cluster, "web", known), Some(SECOND), "{kind}");
        assert_eq!(seen(&cluster, "web", unknown), Some(Duration::ZERO), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_is_a_revision_unless_a_cron_job_made_it() {
    let cluster = cluster();
    let of_cron_job = || workload(JOB, "tick-1", &json!({}), owned_by("batch/v1", "CronJob", "tick", "tick"));
    cluster.workloads.apply(workload(JOB, "once", &json!({}), Value::Null));
    let foreign = owned_by("example.com/v1", "CronJob", "tick", "tick");
    cluster.workloads.apply(workload(JOB, "foreign", &json!({}), foreign));
    cluster.workloads.apply(of_cron_job());
    // A Deployment is no revision: its ReplicaSets are.
    cluster.workloads.apply(workload(DEPLOYMENT, "web", &json!({}), Value::Null));
    advance(SECOND).await;
    assert_eq!(seen(&cluster, "once", ""), Some(SECOND));
    assert_eq!(seen(&cluster, "foreign", ""), Some(SECOND));
    assert_eq!(seen(&cluster, "tick-1", ""), None);
    assert_eq!(seen(&cluster, "web", ""), Some(Duration::ZERO));
    // Until the watch reports the Job, nothing tells who made it.
    assert_eq!(seen(&cluster, "tick-2", ""), Some(Duration::ZERO));
}
