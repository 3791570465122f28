//! The writes of statuses and their content, call by call.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kube::core::ObjectMeta;
use serde_json::{Value, json};
use tagpin_domain::policy::{PolicyId, PolicyKind};
use tagpin_kube::Cluster;
use tagpin_kube::client::ApiReader;
use tagpin_kube::image_policy::{ClusterImagePolicy, ImagePolicy};
use tagpin_kube::policies::{InForce, Reported};
use tagpin_kube::store::Store;
use tagpin_kube::stored::Stored;
use tagpin_leader::findings::Found;
use tagpin_leader::policy_status::StatusWriter;
use tagpin_leader::policy_status::standing::Count;
use tagpin_leader::reconcile::Reconcile;
use tagpin_leader::replicas::{Ask, Replica};
use tagpin_leader::webhook_config::Installed;
use tagpin_objects::door::Token;
use tagpin_objects::findings::Page;
use tagpin_objects::kinds::{DEPLOYMENT, Kinds, POD};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use tagpin_testing::scripted_api::{Api, Call};

const STATUS: &str = "PATCH /apis/tagpin.dev/v1alpha1/clusterimagepolicies/base/status";

/// Replicas that answer as the test says, by name. Other replicas do not answer, which takes the time in the last field.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<BTreeMap<String, Vec<InForce>>>>, Arc<Mutex<Vec<String>>>, Arc<Mutex<Duration>>);

#[async_trait]
impl Ask for Answers {
    async fn ask(&self, replica: &Replica) -> Option<Vec<InForce>> {
        self.1.lock().unwrap().push(replica.name.clone());
        let answer = self.0.lock().unwrap().get(&replica.name).cloned();
        let silence = *self.2.lock().unwrap();
        if answer.is_none() {
            let _ = timeout(silence, pending::<()>()).await;
        }
        answer
    }

    async fn findings(&self, _: &Replica, _: Token) -> Option<Page> {
        panic!("the writer of statuses is told of findings, and asks for none")
    }
}

impl Answers {
    /// Makes this replica answer that it has this generation of the policy with this UID in force.
    fn has(&self, replica: &str, uid: &str, generation: i64) {
        let row = InForce {
            kind: PolicyKind::ClusterImagePolicy,
            namespace: None,
            name: "base".into(),
            uid: uid.into(),
            generation: Some(generation),
            error: None,
        };
        self.0.lock().unwrap().entry(replica.to_owned()).or_default().push(row);
    }

    fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.1.lock().unwrap());
        asked.sort();
        asked
    }
}

/// The writer of statuses, and everything around it.
struct Writer {
    api: Api,
    cluster: Arc<Cluster>,
    installed: watch::Sender<Installed>,
    replicas: watch::Sender<Vec<Replica>>,
    found: watch::Sender<Option<Arc<Found>>>,
    counted: watch::Sender<Option<Arc<Count>>>,
    answers: Answers,
    reconcile: Reconcile,
    task: JoinHandle<std::convert::Infallible>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn replica(name: &str) -> Replica {
    Replica { name: name.to_owned(), uid: format!("{name}-uid"), address: Ipv4Addr::LOCALHOST.into() }
}

impl Writer {
    /// Starts a writer with two ready replicas, installed webhooks and filled stores.
    fn start() -> Self {
        let (client, api) = Api::new();
        let cluster =
            Arc::new(Cluster::new(Kinds::default(), ApiReader::new(client.clone(), Kinds::default())));
        Store::all(&Kinds::default()).for_each(|store| cluster.synced.fill(store));
        Self::with(client, api, cluster)
    }

    fn with(client: kube::Client, api: Api, cluster: Arc<Cluster>) -> Self {
        let installed = watch::Sender::new(Installed::Yes);
        let replicas = watch::Sender::new(vec![replica("a"), replica("b")]);
        let (found, counted) = (watch::Sender::new(None), watch::Sender::new(None));
        let (answers, start) = (Answers::default(), Instant::now());
        let reconcile = Reconcile::default();
        let writer = StatusWriter {
            client,
            cluster: Arc::clone(&cluster),
            excluded: BTreeSet::from(["kube-system".to_owned()]),
            offline: Arc::new(|_| false),
            installed: installed.subscribe(),
            replicas: replicas.subscribe(),
            found: found.subscribe(),
            counted: counted.clone(),
            ask: Arc::new(answers.clone()),
            now: Arc::new(move || clock(start)),
            reconcile: reconcile.clone(),
        };
        let task = tokio::spawn(async move { writer.keep().await });
        Self { api, cluster, installed, replicas, found, counted, answers, reconcile, task }
    }

    /// Reports this generation of the policy as the watch does.
    fn tell(&self, generation: i64, spec: Value, status: Value) {
        self.cluster.policies.apply(reported(generation, spec, status));
    }

    /// Returns the next call, which must write the status, and the written status.
    async fn status(&mut self) -> (Call, Value) {
        let call = self.api.expect(STATUS).await;
        assert_eq!(call.content_type, "application/apply-patch+yaml");
        assert_eq!(
            (call.query["fieldManager"].as_str(), call.query["force"].as_str()),
            ("tagpin-status", "true")
        );
        let status = call.json()["status"].clone();
        (call, status)
    }
}

/// Returns the wall clock, which follows the clock of the test.
fn clock(start: Instant) -> Timestamp {
    let begin: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
    begin + start.elapsed()
}

fn metadata(generation: i64) -> ObjectMeta {
    serde_json::from_value(json!({ "name": "base", "uid": "p", "generation": generation })).unwrap()
}

fn reported(generation: i64, spec: Value, status: Value) -> Reported {
    Reported::parse::<ClusterImagePolicy>(&metadata(generation), spec, status)
}

/// Answers an apply as the API server does.
fn accept(call: Call, generation: i64, spec: &Value) {
    let status = call.json()["status"].clone();
    call.ok(json!({ "metadata": { "name": "base", "uid": "p", "generation": generation }, "spec": spec, "status": status }));
}

fn condition(status: &Value) -> (&str, &str, &str) {
    let condition = &status["conditions"][0];
    assert_eq!(condition["type"], "Ready");
    let text = |key: &str| condition[key].as_str().unwrap();
    (text("status"), text("reason"), text("message"))
}

fn deployment(name: &str, image: &str) -> Stored {
    let value = json!({
        "metadata": { "name": name, "namespace": "shop", "uid": name },
        "spec": { "template": { "spec": { "containers": [{ "name": "app", "image": image }] } } },
    });
    let (kinds, slim) = (Kinds::default(), serde_json::from_str(&value.to_string()).unwrap());
    Stored::new(&kinds, kinds.row(DEPLOYMENT).unwrap(), &slim).unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_until_every_store_is_filled() {
    let (client, api) = Api::new();
    let cluster = Arc::new(Cluster::new(Kinds::default(), ApiReader::new(client.clone(), Kinds::default())));
    let mut writer = Writer::with(client, api, cluster);
    writer.answers.has("a", "p", 1);
    writer.answers.has("b", "p", 1);
    let all: Vec<_> = Store::all(&Kinds::default()).collect();
    for store in &all {
        writer.tell(1, json!({}), Value::Null);
        writer.api.quiet(Duration::from_secs(10)).await;
        writer.cluster.synced.fill(*store);
    }
    let _ = writer.status().await;
}

#[tokio::test(start_paused = true)]
async fn a_status_is_the_whole_of_what_is_known() {
    let mut writer = Writer::start();
    writer.cluster.workloads.apply(deployment("web", "web:latest"));
    writer.answers.has("a", "p", 3);
    writer.answers.has("b", "p", 3);
    let spec = json!({ "mode": "Enforce" });
    writer.tell(3, spec.clone(), Value::Null);
    let (call, status) = writer.status().await;
    let since = status["conditions"][0]["lastTransitionTime"].clone();
    assert!(since.as_str().is_some_and(|since| since.ends_with('Z') && !since.contains('.')), "{since}");
    assert_eq!(
        call.json(),
        json!({
            "apiVersion": "tagpin.dev/v1alpha1",
            "kind": "ClusterImagePolicy",
            "metadata": { "name": "base", "uid": "p" },
            "status": {
                "observedGeneration": 3,
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Enforcing", "observedGeneration": 3,
                    "message": "in force on every ready replica", "lastTransitionTime": since,
                }],
                "summary": { "workloads": 1, "pinned": 0, "unpinned": 0, "foreign": 0, "violations": 1, "exceptionsActive": 0, "exceptionsExpired": 0 },
                "topViolations": [
                    { "namespace": "shop", "kind": "Deployment", "name": "web", "slot": "app", "code": "TagForbidden", "image": "web:latest" },
                ],
            },
        })
    );
    accept(call, 3, &spec);
    // In a quiet cluster the leader writes nothing and asks no replica.
    writer.answers.asked();
    writer.api.quiet(Duration::from_hours(48)).await;
    assert!(writer.answers.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_status_says_what_was_refused_once_a_replica_told() {
    let row = |image: &str, count: u32| {
        json!({ "namespace": "ci", "kind": "Pod", "user": "system:serviceaccount:ci:runner", "image": image,
            "code": "TagForbidden", "count": count, "last": "2026-11-21T10:00:00Z" })
    };
    let found = |policy: &str, count: u32| {
        let id = PolicyId { namespace: None, name: policy.to_owned() };
        let rows = vec![serde_json::from_value(row("busybox", count)).unwrap()];
        Some(Arc::new(Found { refused: [(id, rows)].into(), ..Found::default() }))
    };
    let mut writer = Writer::start();
    writer.answers.has("a", "p", 3);
    writer.answers.has("b", "p", 3);
    writer.tell(3, json!({}), json!({ "refused": [row("old", 7)] }));
    let (call, status) = writer.status().await;
    assert_eq!(status["refused"], json!([row("old", 7)]), "it stays until a replica tells");
    accept(call, 3, &json!({}));
    writer.found.send_replace(found("base", 12));
    let (call, status) = writer.status().await;
    assert_eq!(status["refused"], json!([row("busybox", 12)]));
    assert_eq!(status["summary"]["workloads"], 0);
    accept(call, 3, &json!({}));
    writer.api.quiet(Duration::from_mins(10)).await;
    writer.found.send_replace(found("other", 12));
    let (call, status) = writer.status().await;
    assert_eq!(status["refused"], Value::Null);
    accept(call, 3, &json!({}));
}

#[tokio::test(start_paused = true)]
async fn a_count_is_passed_on_once_a_replica_told_its_findings() {
    let mut writer = Writer::start();
    let pins = json!({ "pin": { "targets": ["Pods"] } });
    writer.tell(1, pins.clone(), Value::Null);
    let value = json!({
        "metadata": { "name": "bare", "namespace": "shop", "uid": "bare" },
        "spec": { "containers": [{ "name": "app", "image": "web:1" }] },
    });
    let (kinds, slim) = (Kinds::default(), serde_json::from_str(&value.to_string()).unwrap());
    writer.cluster.pods.apply(Stored::new(&kinds, kinds.row(POD).unwrap(), &slim).unwrap().unwrap());
    let (call, status) = writer.status().await;
    assert_eq!(status["summary"]["unpinned"], 1);
    accept(call, 1, &pins);
    writer.api.quiet(Duration::from_mins(10)).await;
    assert!(writer.counted.borrow().is_none(), "the reason may be known to a replica");
    let key = ["shop", "app", "web:1"].map(str::to_owned);
    let found = Found { unpinned: [(key, "RateLimited".to_owned())].into(), ..Found::default() };
    writer.found.send_replace(Some(Arc::new(found)));
    let (call, _) = writer.status().await;
    accept(call, 1, &pins);
    let counted = writer.counted.borrow().clone().unwrap();
    let reasons: Vec<_> =
        counted.unpinned.by_place().keys().map(|bare| (&*bare.uid, &*bare.reason)).collect();
    assert_eq!(reasons, [("bare", "RateLimited")]);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_right_already_is_not_written_by_a_new_leader() {
    let mut writer = Writer::start();
    writer.answers.has("a", "p", 1);
    writer.answers.has("b", "p", 1);
    writer.tell(1, json!({}), Value::Null);
    let (call, status) = writer.status().await;
    accept(call, 1, &json!({}));
    let mut next = Writer::start();
    next.answers.has("a", "p", 1);
    next.answers.has("b", "p", 1);
    next.tell(1, json!({}), status);
    next.api.quiet(Duration::from_hours(3)).await;
}

#[tokio::test(start_paused = true)]
async fn changes_that_do_not_count_and_events_that_say_nothing_new_write_nothing() {
    let mut writer = Writer::start();
    writer.answers.has("a", "p", 1);
    writer.answers.has("b", "p", 1);
    writer.tell(1, json!({}), Value::Null);
    let (call, status) = writer.status().await;
    accept(call, 1, &json!({}));
    writer.cluster.namespaces.apply("new".into(), [("a".to_owned(), "b".to_owned())].into());
    writer.tell(1, json!({}), status);
    let mut elsewhere = deployment("dns", "dns:latest");
    elsewhere.workload.namespace = "kube-system".into();
    writer.cluster.workloads.apply(elsewhere);
    writer.api.quiet(Duration::from_mins(10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_ready_once_every_ready_replica_has_its_generation() {
    let mut writer = Writer::start();
    writer.answers.has("a", "p", 1);
    writer.tell(1, json!({ "mode": "Warn" }), Value::Null);
    let (call, status) = writer.status().await;
    assert_eq!(condition(&status), ("False", "Propagating", "generation 1 is not in force yet on b"));
    accept(call, 1, &json!({ "mode": "Warn" }));
    writer.api.quiet(Duration::from_secs(20)).await;
    assert!(writer.answers.asked().iter().all(|name| name == "b" || name == "a"));
    // Another policy with the same name does not count.
    writer.answers.has("b", "an earlier uid", 1);
    writer.api.quiet(Duration::from_secs(20)).await;
    assert!(writer.answers.asked().iter().all(|name| name == "b"), "who has it is not asked again");
    writer.answers.has("b", "p", 1);
    let (call, status) = writer.status().await;
    assert_eq!(condition(&status), ("True", "Warning", "in force on every ready replica"));
    accept(call, 1, &json!({ "mode": "Warn" }));

    // A new generation, and a replica that is gone.
    writer.answers.has("a", "p", 2);
    writer.tell(2, json!({ "mode": "Audit" }), status);
    let (call, status) = writer.status().await;
    assert_eq!(condition(&status), ("False", "Propagating", "generation 2 is not in force yet on b"));
    accept(call, 2, &json!({ "mode": "Audit" }));
    writer.replicas.send_replace(vec![replica("a")]);
    let (call, status) = writer.status().await;
    assert_eq!(condition(&status).1, "Auditing");
    accept(call, 2, &json!({ "mode": "Audit" }));

    // A new replica that is ready has it, and nothing is written.
    writer.answers.has("c", "p", 2);
    writer.replicas.send_replace(vec![replica("a"), replica("c")]);
    writer.api.quiet(Duration::from_secs(20)).await;
    // A replica without the generation is named.
    writer.replicas.send_replace(vec![replica("a"), replica("c"), replica("d")]);
    let (call, status) = writer.status().await;
    assert_eq!(condition(&status).2, "generation 2 is not in force yet on d");
    accept(call, 2, &json!({ "mode": "Audit" }));
    writer.replicas.send_replace(vec![]);
    let (_call, status) = writer.status().await;
    assert_eq!(condition(&status), ("False", "Propagating", "no replica of tagpin is ready"));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_does_not_answer_keeps_no_policy_waiting() {
    let mut writer = Writer::start();
    *writer.answers.2.lock().unwrap() = Duration::from_secs(5);
    writer.answers.has("a", "p", 9);
    for generation in 1..4 {
        let (told, spec) = (
            Instant::now(),
            json!({ "mode": "Warn", "rules": { "tags": { "forbidden": [ generation.to_string() ] } } }),
        );
        writer.tell(generation, spec.clone(), Value::Null);
        let (call, status) = writer.status().await;
        assert_eq!(status["observedGeneration"], generation);
        assert!(told.elapsed() < Duration::from_secs(20), "{:?}", told.elapsed());
        accept(call, generation, &spec);
    }
}

#[tokio::test(start_paused = true)]
async fn a_generation_that_does_not_compile_says_why_and_keeps_the_last_good_one_for_a_restart() {
    let mut writer = Writer::start();
    writer.answers.has("a", "p", 1);
    writer.answers.has("b", "p", 1);
    let good = json!({ "mode": "Enforce", "unknown": { "kept": "as typed" } });
    writer.tell(1, good.clone(), Value::Null);
    let (call, status) = writer.status().await;
    assert_eq!(status.get("lastGood"), None);
    accept(call, 1, &good);
    let broken = json!({ "match": { "images": ["[a"] } });
    writer.tell(2, broken.clone(), status);
    let (call, status) = writer.status().await;
    let (ready, reason, message) = condition(&status);
    assert_eq!((ready, reason), ("False", "Invalid"));
    assert!(message.starts_with("spec.match.images[0]: "), "{message}");
    assert!(message.ends_with("; generation 1 stays in force"), "{message}");
    assert_eq!(status["observedGeneration"], 2);
    assert_eq!(status["lastGood"], json!({ "generation": 1, "spec": good }));
    accept(call, 2, &broken);
    writer.api.quiet(Duration::from_mins(5)).await;

    // Another process reads the last good generation.
    let mut next = Writer::start();
    next.tell(2, broken, status);
    next.api.quiet(Duration::from_mins(5)).await;
    assert_eq!(next.cluster.policies.rows()[0].generation, Some(1));
    next.answers.has("a", "p", 3);
    next.answers.has("b", "p", 3);
    let held = serde_json::to_value(&next.cluster.policies.all()[0].status).unwrap();
    next.tell(3, json!({}), held);
    let (_call, status) = next.status().await;
    assert_eq!((condition(&status).1, status.get("lastGood")), ("Auditing", None));
}

#[tokio::test(start_paused = true)]
async fn webhooks_that_are_missing_and_namespaces_that_are_excluded_are_told() {
    let mut writer = Writer::start();
    writer.answers.has("a", "p", 1);
    writer.answers.has("b", "p", 1);
    writer.installed.send_replace(Installed::Missing);
    writer.tell(1, json!({}), Value::Null);
    let (call, status) = writer.status().await;
    let (ready, reason, message) = condition(&status);
    assert_eq!((ready, reason), ("False", "WebhooksNotInstalled"));
    assert!(message.contains("helm upgrade"), "{message}");
    accept(call, 1, &json!({}));
    for (installed, expected) in [
        (Installed::Unwritable, "WebhooksNotInstalled"),
        (Installed::Yes, "Auditing"),
        (Installed::Unreachable, "WebhookUnreachable"),
        (Installed::Yes, "Auditing"),
        (Installed::Withdrawn, "WebhookUnreachable"),
        (Installed::Armed, "Auditing"),
        (Installed::BrokenGlass { rearm: "kubectl x".into() }, "WebhooksNotInstalled"),
        (Installed::Yes, "Auditing"),
        (Installed::Contested { configuration: "tagpin", by: "gitops".into() }, "Contested"),
        (Installed::Emptied, "WebhooksNotInstalled"),
        (Installed::Opened, "WebhooksNotInstalled"),
    ] {
        writer.installed.send_replace(installed);
        let (call, status) = writer.status().await;
        assert_eq!(condition(&status).1, expected);
        accept(call, 1, &json!({}));
    }
    let metadata = json!({ "name": "mine", "namespace": "kube-system", "uid": "q", "generation": 1 });
    let mine = serde_json::from_value(metadata).unwrap();
    writer.cluster.policies.apply(Reported::parse::<ImagePolicy>(&mine, json!({}), Value::Null));
    let path = "PATCH /apis/tagpin.dev/v1alpha1/namespaces/kube-system/imagepolicies/mine/status";
    let call = writer.api.expect(path).await;
    assert_eq!(call.json()["metadata"], json!({ "name": "mine", "namespace": "kube-system", "uid": "q" }));
    assert_eq!(call.json()["kind"], "ImagePolicy");
    assert_eq!(condition(&call.json()["status"]).1, "NamespaceExcluded");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_nobody_behind_says_so_of_every_policy_it_knows() {
    for (installed, reason) in [
        (Installed::Armed, "Propagating"),
        (Installed::NotYet, "Propagating"),
        (Installed::Missing, "WebhooksNotInstalled"),
    ] {
        let (client, mut api) = Api::new();
        let cluster =
            Arc::new(Cluster::new(Kinds::default(), ApiReader::new(client.clone(), Kinds::default())));
        let writer = StatusWriter {
            client,
            cluster: Arc::clone(&cluster),
            excluded: BTreeSet::new(),
            offline: Arc::new(|_| false),
            installed: watch::Sender::new(installed).subscribe(),
            replicas: watch::Sender::new(vec![replica("a")]).subscribe(),
            found: watch::Sender::new(None).subscribe(),
            counted: watch::Sender::new(None),
            ask: Arc::new(Answers::default()),
            now: Arc::new(move || clock(Instant::now())),
            reconcile: Reconcile::default(),
        };
        let summary = json!({
            "workloads": 7, "pinned": 9, "unpinned": 1, "foreign": 0, "violations": 2, "exceptionsActive": 0,
            "exceptionsExpired": 0,
        });
        cluster.policies.apply(reported(1, json!({}), json!({ "summary": summary })));
        // Policies that are not known are left alone.
        writer.leave().await;
        api.quiet(Duration::from_secs(1)).await;
        Store::all(&Kinds::default()).for_each(|store| cluster.synced.fill(store));
        let left = tokio::spawn(async move { writer.leave().await });
        let call = api.expect(STATUS).await;
        let status = call.json()["status"].clone();
        assert_eq!((condition(&status).0, condition(&status).1), ("False", reason));
        assert_eq!(status["summary"], summary, "the counts stay");
        accept(call, 1, &json!({}));
        left.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_waits_for_its_look_at_the_webhooks() {
    let (client, api) = Api::new();
    let cluster = Arc::new(Cluster::new(Kinds::default(), ApiReader::new(client.clone(), Kinds::default())));
    Store::all(&Kinds::default()).for_each(|store| cluster.synced.fill(store));
    let mut writer = Writer::with(client, api, cluster);
    writer.installed.send_replace(Installed::NotYet);
    writer.answers.has("a", "p", 1);
    writer.answers.has("b", "p", 1);
    writer.tell(1, json!({}), Value::Null);
    writer.api.quiet(Duration::from_secs(29)).await;
    let (_call, status) = writer.status().await;
    assert_eq!(condition(&status).1, "WebhooksNotInstalled");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_not_ready_says_so_of_the_policies_that_it_knows_and_counts_nothing() {
    let (client, api) = Api::new();
    let cluster = Arc::new(Cluster::new(Kinds::default(), ApiReader::new(client.clone(), Kinds::default())));
    let mut writer = Writer::with(client, api, cluster);
    writer.installed.send_replace(Installed::Opened);
    writer.answers.has("a", "p", 1);
    writer.answers.has("b", "p", 1);
    writer.cluster.synced.fill(Store::ClusterImagePolicies);
    let summary = json!({ "workloads": 7, "pinned": 9, "unpinned": 1, "foreign": 0, "violations": 2, "exceptionsActive": 0, "exceptionsExpired": 0 });
    let ended = json!({ "name": "ended", "reason": "until it is mended", "expires": "2026-01-01T00:00:00Z" });
    writer.tell(1, json!({ "exceptions": [ended] }), json!({ "summary": summary }));
    // The stores are complete only with the policies of the other kind.
    writer.api.quiet(Duration::from_mins(1)).await;
    writer.cluster.synced.fill(Store::ImagePolicies);
    let (_call, status) = writer.status().await;
    let (ready, reason, message) = condition(&status);
    assert_eq!((ready, reason), ("False", "WebhooksNotInstalled"));
    assert!(message.contains("/readyz"), "{message}");
    // The exceptions are known without a count.
    let mut expected = summary;
    expected["exceptionsExpired"] = json!(1);
    assert_eq!(status["summary"], expected);
}

#[tokio::test(start_paused = true)]
async fn counts_alone_are_written_at_most_every_ten_seconds() {
    let mut writer = Writer::start();
    writer.answers.has("a", "p", 1);
    writer.answers.has("b", "p", 1);
    writer.tell(1, json!({}), Value::Null);
    let (call, _) = writer.status().await;
    accept(call, 1, &json!({}));
    let start = Instant::now();
    for number in 0..5 {
        writer.cluster.workloads.apply(deployment(&format!("web-{number}"), "web:latest"));
        writer.api.quiet(Duration::from_secs(1)).await;
    }
    let (call, status) = writer.status().await;
    assert_eq!(status["summary"]["violations"], 5);
    assert!(start.elapsed() >= Duration::from_secs(10) && start.elapsed() < Duration::from_secs(12));
    accept(call, 1, &json!({}));
    // A change of readiness does not wait.
    writer.installed.send_replace(Installed::Missing);
    let before = Instant::now();
    let _ = writer.status().await;
    assert!(before.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn an_exception_that_expires_is_noticed_in_time() {
    let mut writer = Writer::start();
    writer.answers.has("a", "p", 1);
    writer.answers.has("b", "p", 1);
    let spec = json!({ "exceptions": [
        { "name": "soon", "reason": "until it is mended", "expires": "2026-11-21T10:30:00Z" },
    ] });
    writer.tell(1, spec.clone(), Value::Null);
    let start = Instant::now();
    let (call, status) = writer.status().await;
    assert_eq!(status["summary"]["exceptionsActive"], 1);
    accept(call, 1, &spec);
    let (_call, status) = writer.status().await;
    assert_eq!(status["summary"]["exceptionsActive"], 0);
    assert_eq!(status["summary"]["exceptionsExpired"], 1);
    let (ready, _, message) = condition(&status);
    let note = "in force on every ready replica; note: the exception soon expired at 2026-11-21T10:30:00Z";
    assert_eq!((ready, message), ("True", note));
    let waited = start.elapsed();
    assert!(waited >= Duration::from_mins(30) && waited < Duration::from_secs(1803), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again_and_a_policy_made_anew_is_another() {
    let mut writer = Writer::start();
    writer.answers.has("a", "p", 1);
    writer.answers.has("b", "p", 1);
    writer.tell(1, json!({}), Value::Null);
    let (call, _) = writer.status().await;
    call.refuse(409, "Conflict");
    let (call, _) = writer.status().await;
    call.given_up().await;
    let (call, _) = writer.status().await;
    assert_eq!(writer.reconcile.failures(), 2);
    accept(call, 1, &json!({}));
    writer.api.quiet(Duration::from_mins(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_status_is_written_though_nobody_can_read_the_policy_that_comes_back() {
    let mut writer = Writer::start();
    writer.answers.has("a", "p", 1);
    writer.answers.has("b", "p", 1);
    writer.tell(1, json!({}), Value::Null);
    let (call, _) = writer.status().await;
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    accept(call, 2, &json!({ "deep": deep }));
    writer.api.quiet(Duration::from_mins(1)).await;
    assert_eq!(writer.reconcile.failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_policy_beyond_the_64_oldest_of_its_namespace_is_not_ready() {
    let mut writer = Writer::start();
    let named = |number: usize| {
        json!({
            "name": format!("p{number:02}"), "namespace": "shop", "uid": format!("u{number}"), "generation": 1,
            "creationTimestamp": format!("2026-01-01T00:{:02}:{:02}Z", number / 60, number % 60),
        })
    };
    for number in 0..65 {
        let metadata = serde_json::from_value(named(number)).unwrap();
        writer.cluster.policies.apply(Reported::parse::<ImagePolicy>(&metadata, json!({}), Value::Null));
    }
    for number in 0..65 {
        let path =
            format!("PATCH /apis/tagpin.dev/v1alpha1/namespaces/shop/imagepolicies/p{number:02}/status");
        let call = writer.api.expect(&path).await;
        let status = call.json()["status"].clone();
        let (ready, reason, message) = condition(&status);
        assert_eq!((ready, reason == "TooMany"), ("False", number == 64), "{reason}");
        assert!(
            reason != "TooMany" || message.starts_with("namespace shop has 64 older policies"),
            "{message}"
        );
        call.ok(json!({ "metadata": named(number), "spec": {}, "status": status }));
    }
}
