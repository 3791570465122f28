//! The pull secrets of service accounts that no watch has reported: when they are read, and what counts while they are not
//! known.

use std::time::Duration;

use serde_json::json;
use tagpin_domain::kind::Kind;
use tagpin_domain::subject::TopOwner;
use tagpin_domain::workload::{ForeignKind, Known, Served, Workload};
use tagpin_kube::Cluster;
use tagpin_kube::client::ApiReader;
use tagpin_objects::kinds::Kinds;
use tagpin_review::Surroundings as _;
use tagpin_testing::scripted_api::Api;
use tokio::time::{Instant, advance};

const ROBOT: &str = "GET /api/v1/namespaces/shop/serviceaccounts/robot";
/// Time for which a read counts.
const KEPT: Duration = Duration::from_secs(5);

fn cluster() -> (Cluster, Api) {
    let (client, api) = Api::new();
    (Cluster::new(Kinds::default(), ApiReader::new(client, Kinds::default())), api)
}

async fn secrets(cluster: &Cluster, name: &str) -> Known<Vec<String>> {
    cluster.pull_secrets("shop", name, Instant::now() + Duration::from_secs(3)).await
}

fn named(names: &[&str]) -> Known<Vec<String>> {
    Known::Yes(names.iter().map(|&name| name.to_owned()).collect())
}

#[tokio::test(start_paused = true)]
async fn an_account_that_no_watch_reports_is_read_once_for_all_reviews() {
    let (cluster, mut api) = cluster();
    let answers = async {
        let secrets = json!([{ "name": "pull" }, { "name": "" }, { "name": "other" }]);
        let metadata = json!({ "name": "robot", "namespace": "shop", "uid": "robot" });
        api.expect(ROBOT).await.ok(json!({ "metadata": metadata, "imagePullSecrets": secrets }));
    };
    let both = futures::future::join(secrets(&cluster, "robot"), secrets(&cluster, "robot"));
    let ((one, two), ()) = tokio::join!(both, answers);
    assert_eq!((one, two), (named(&["pull", "other"]), named(&["pull", "other"])));
    let start = Instant::now();
    assert_eq!(secrets(&cluster, "robot").await, named(&["pull", "other"]));
    assert_eq!(start.elapsed(), Duration::ZERO, "what was just read is neither awaited nor read again");
    // A report counts more than a read.
    cluster.accounts.apply("shop".to_owned(), "robot".to_owned(), Vec::new());
    assert_eq!(secrets(&cluster, "robot").await, named(&[]));
    api.quiet(Duration::from_secs(1)).await;
    // A read does not count for ever.
    cluster.accounts.delete("shop", "robot");
    advance(KEPT).await;
    let (found, ()) = tokio::join!(secrets(&cluster, "robot"), async {
        api.expect(ROBOT).await.refuse(404, "NotFound");
    });
    assert_eq!(found, Known::Unknown);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_a_watch_reports_meanwhile_is_not_read() {
    let (cluster, mut api) = cluster();
    let reports = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cluster.accounts.apply("shop".to_owned(), "default".to_owned(), Vec::new());
    };
    let (found, ()) = tokio::join!(secrets(&cluster, ""), reports);
    assert_eq!(found, named(&[]), "an account without pull secrets is known too");
    api.quiet(KEPT).await;
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_missing_or_unreadable_is_unknown_and_rests() {
    for (code, reason) in [(404, "NotFound"), (403, "Forbidden"), (500, "InternalError")] {
        let (cluster, mut api) = cluster();
        let refuses = async { api.expect(ROBOT).await.refuse(code, reason) };
        let (found, ()) = tokio::join!(secrets(&cluster, "robot"), refuses);
        assert_eq!(found, Known::Unknown, "{code}");
        assert_eq!(secrets(&cluster, "robot").await, Known::Unknown, "{code}");
        api.quiet(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_ends_with_the_deadline_and_the_next_review_reads_again() {
    let (cluster, mut api) = cluster();
    let start = Instant::now();
    let short = Duration::from_millis(400);
    let hurried = cluster.pull_secrets("shop", "robot", start + short);
    let (found, held) = tokio::join!(hurried, api.expect(ROBOT));
    assert_eq!((found, start.elapsed()), (Known::Unknown, short));
    let answers = async {
        let metadata = json!({ "name": "robot", "namespace": "shop", "uid": "robot" });
        api.expect(ROBOT).await.ok(json!({ "metadata": metadata }));
    };
    let (found, ()) = tokio::join!(secrets(&cluster, "robot"), answers);
    assert_eq!(found, named(&[]));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn one_namespace_has_few_accounts_read() {
    let (cluster, mut api) = cluster();
    let names: Vec<String> = (0..40).map(|number| format!("robot-{number}")).collect();
    let asking = futures::future::join_all(names.iter().map(|name| secrets(&cluster, name)));
    let refuses = async {
        for _ in 0..32 {
            api.next().await.refuse(404, "NotFound");
        }
    };
    let (found, ()) = tokio::join!(asking, refuses);
    assert!(found.iter().all(|secrets| *secrets == Known::Unknown));
    let of_another = async { cluster.pull_secrets("other", "robot", Instant::now() + KEPT).await };
    let refuses = async { api.expect("GET /api/v1/namespaces/other/serviceaccounts/robot").await };
    let (_, call) = tokio::join!(of_another, refuses);
    drop(call);
    api.quiet(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn few_accounts_without_pull_secrets_are_kept_of_one_namespace() {
    let (cluster, _api) = cluster();
    for number in 0..=4096 {
        cluster.accounts.apply("shop".to_owned(), format!("robot-{number}"), Vec::new());
    }
    let held = |name: &str| cluster.accounts.pull_secrets("shop", name);
    assert_eq!((held("robot-4095"), held("robot-4096")), (Some(Vec::new()), None));
    // An account with pull secrets has room of its own, in the budget of all objects.
    cluster.accounts.apply("shop".to_owned(), "robot-4096".to_owned(), vec!["pull".to_owned()]);
    assert_eq!(held("robot-4096"), Some(vec!["pull".to_owned()]));
    cluster.accounts.delete("shop", "robot-0");
    assert_eq!(held("robot-0"), None);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_no_object_has_is_not_read() {
    let (cluster, mut api) = cluster();
    for name in ["../secrets/pull", "a/b", "web?limit=1", ".."] {
        let deadline = Instant::now() + Duration::from_secs(3);
        let set = Kinds::default().controller("apps/v1", "StatefulSet", name, "db");
        assert_eq!(secrets(&cluster, name).await, Known::Unknown, "{name}");
        assert_eq!(cluster.pull_secrets(name, "robot", deadline).await, Known::Unknown, "{name}");
        assert_eq!(cluster.controller_of(&set, "shop", deadline).await, Known::Unknown, "{name}");
        assert_eq!(tagpin_review::Surroundings::namespace_labels(&cluster, name, deadline).await, None);
    }
    api.quiet(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_once_the_deadline_has_passed() {
    let (cluster, mut api) = cluster();
    let passed = Instant::now();
    let owner = Kinds::default().controller("apps/v1", "ReplicaSet", "web-1", "web-1");
    let set = Kinds::default().controller("apps/v1", "StatefulSet", "db", "db");
    let pod =
        Workload { controller: Some(owner), ..Workload::new(Kind::new("", "Pod"), true, "shop", "web-1-x") };
    let database = ForeignKind { group: "db.example".into(), kind: "Database".into() };
    assert_eq!(tagpin_review::Surroundings::namespace_labels(&cluster, "shop", passed).await, None);
    assert_eq!(cluster.top_owner(&pod, passed).await, TopOwner::Unknown);
    assert_eq!(cluster.controller_of(&set, "shop", passed).await, Known::Unknown);
    assert_eq!(cluster.serves(&database, passed).await, Served::Unknown);
    assert_eq!(cluster.pull_secrets("shop", "robot", passed).await, Known::Unknown);
    api.quiet(Duration::from_secs(10)).await;
    // It does not count as an attempt: a review that has time reads.
    let in_time = cluster.serves(&database, Instant::now() + KEPT);
    let (served, _call) = tokio::join!(in_time, api.expect("GET /apis"));
    assert_eq!(served, Served::Unknown);
}
