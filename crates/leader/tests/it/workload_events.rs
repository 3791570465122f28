//! The Events on workloads whose pods run images without a digest.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tagpin_domain::kind::Kind;
use tagpin_kube::Cluster;
use tagpin_leader::findings::Found;
use tagpin_leader::policy_status::standing::{Count, count};
use tagpin_leader::reconcile::Reconcile;
use tagpin_leader::workload_events::WorkloadEvents;
use tagpin_objects::kinds::{CRON_JOB, DEPLOYMENT, JOB, POD, REPLICA_SET};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::advance;

use tagpin_testing::scripted_api::{Api, Call};

use crate::standings::{NO, cluster, object};

const EVENTS: &str = "POST /apis/events.k8s.io/v1/namespaces/shop/events";
/// Longer than a leader waits for a reason.
const LONG: Duration = Duration::from_secs(120);
const HOUR: Duration = Duration::from_secs(3600);

/// The writer of Events, and the cluster that is counted for it.
struct Writer {
    api: Api,
    cluster: Arc<Cluster>,
    counted: watch::Sender<Option<Arc<Count>>>,
    found: watch::Sender<Option<Arc<Found>>>,
    reconcile: Reconcile,
    task: JoinHandle<Infallible>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Writer {
    /// Starts a writer with a policy that pins, and with a first count of these pods.
    async fn start(pods: &[&str]) -> Self {
        let pins = json!({ "pin": { "targets": ["Pods"] } });
        let mut writer = Self::with(Arc::new(cluster(pins, &[])));
        pods.iter().for_each(|name| writer.pod(name, "web:1"));
        writer.count().await;
        writer.api.quiet(LONG).await;
        writer
    }

    fn with(cluster: Arc<Cluster>) -> Self {
        let (client, api) = Api::new();
        let (counted, found) = (watch::Sender::new(None), watch::Sender::new(None));
        let reconcile = Reconcile::default();
        let events = WorkloadEvents {
            client,
            cluster: Arc::clone(&cluster),
            counted: counted.subscribe(),
            found: found.subscribe(),
            reconcile: reconcile.clone(),
        };
        let task = tokio::spawn(events.keep());
        Self { api, cluster, counted, found, reconcile, task }
    }

    /// Counts the cluster, as the writer of statuses does.
    async fn count(&self) {
        let excluded = BTreeSet::from(["kube-system".to_owned()]);
        let found = self.found.borrow().clone().unwrap_or_default();
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let counted = count(&self.cluster, &excluded, &|_| false, &found, now).await;
        self.counted.send_replace(Some(Arc::new(counted)));
    }

    fn apply(&self, kind: Kind, name: &str, owner: Option<(&str, &str)>, image: &str, more: &Value) {
        let object = object(kind, name, owner, image, more);
        match kind {
            POD => self.cluster.pods.apply(object),
            _ => self.cluster.workloads.apply(object),
        }
    }

    /// Adds a pod without an owner that is younger than the policy.
    fn pod(&self, name: &str, image: &str) {
        let more = json!({ "metadata": { "creationTimestamp": "2026-11-20T11:00:00Z" } });
        self.apply(POD, name, None, image, &more);
    }

    /// Makes the replicas remember these reasons, by the image of the container `app` in `shop`.
    fn remember(&self, reasons: &[(&str, &str)]) {
        let key = |image: &str| ["shop".to_owned(), "app".to_owned(), image.to_owned()];
        let unpinned = reasons.iter().map(|(image, reason)| (key(image), (*reason).to_owned()));
        self.found.send_replace(Some(Arc::new(Found { unpinned: unpinned.collect(), ..Found::default() })));
    }

    /// Returns the next call, which must write an Event, and the Event.
    async fn event(&mut self) -> (Call, Value) {
        let call = self.api.expect(EVENTS).await;
        let event = call.json();
        (call, event)
    }

    /// Accepts the next Event, and returns its workload and reason.
    async fn told(&mut self) -> (String, String) {
        let (call, event) = self.event().await;
        call.ok(event.clone());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&event["regarding"]["name"]), text(&event["reason"]))
    }

    async fn tells(&mut self, name: &str, reason: &str) {
        assert_eq!(self.told().await, (name.to_owned(), reason.to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_image_without_a_digest_has_an_event_on_the_workload_at_the_top() {
    let mut writer = Writer::start(&[]).await;
    writer.remember(&[("web:1", "RateLimited"), ("job:1", "PinUndone")]);
    writer.apply(DEPLOYMENT, "web", None, "web:1", &NO);
    writer.apply(REPLICA_SET, "web-1", Some(("Deployment", "web")), "web:1", &NO);
    for pod in ["web-1-a", "web-1-b"] {
        writer.apply(POD, pod, Some(("ReplicaSet", "web-1")), "web:1", &NO);
    }
    writer.count().await;
    let (call, event) = writer.event().await;
    assert_eq!(
        event["regarding"],
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web", "uid": "web",
            "fieldPath": "spec.template.spec.containers{app}",
        })
    );
    let text = |key: &str| event[key].as_str().unwrap();
    assert_eq!((text("type"), text("reason"), text("action")), ("Warning", "RateLimited", "Pin"));
    assert_eq!(text("reportingController"), "tagpin");
    assert_eq!(
        text("note"),
        "(app): web:1, RateLimited: the image has no digest although a policy pins it; \
         docs/denials.md#ratelimited says what to do, and kubectl -n shop rollout restart deployment/web asks for \
         the digest again"
    );
    call.ok(event.clone());
    writer.api.quiet(LONG).await;

    writer.apply(CRON_JOB, "nightly", None, "job:1", &NO);
    writer.apply(JOB, "nightly-1", Some(("CronJob", "nightly")), "job:1", &NO);
    writer.apply(POD, "nightly-1-a", Some(("Job", "nightly-1")), "job:1", &NO);
    writer.pod("bare", "web:1");
    writer.count().await;
    let mut told = Vec::new();
    for _ in 0..2 {
        let (call, event) = writer.event().await;
        let about = event["regarding"].clone();
        told.push(
            format!("{} {} {}", about["apiVersion"], about["kind"], about["fieldPath"]).replace('"', ""),
        );
        call.ok(event);
    }
    told.sort();
    assert_eq!(
        told,
        [
            "batch/v1 CronJob spec.jobTemplate.spec.template.spec.containers{app}",
            "v1 Pod spec.containers{app}"
        ]
    );
    writer.api.quiet(LONG).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_leader_finds_when_it_starts_is_no_news() {
    let mut writer = Writer::start(&["old"]).await;
    // A quiet cluster writes nothing, however often it is counted.
    for _ in 0..3 {
        writer.count().await;
        writer.api.quiet(2 * HOUR).await;
    }
    // A replica that answers late tells the reason of an image that was there before.
    writer.remember(&[("web:1", "RateLimited")]);
    writer.count().await;
    writer.api.quiet(LONG).await;
    writer.pod("new", "web:2");
    writer.remember(&[("web:1", "RateLimited"), ("web:2", "RateLimited")]);
    writer.count().await;
    writer.tells("new", "RateLimited").await;

    // Another leader writes nothing about any of it.
    let mut other = Writer::with(Arc::clone(&writer.cluster));
    other.remember(&[("web:1", "RateLimited")]);
    other.count().await;
    other.api.quiet(LONG).await;
    // Replicas that were restarted remember nothing.
    other.remember(&[]);
    other.count().await;
    other.api.quiet(LONG).await;
    other.remember(&[("web:1", "RateLimited"), ("web:2", "RateLimited")]);
    other.count().await;
    other.api.quiet(LONG).await;
}

#[tokio::test(start_paused = true)]
async fn a_pin_that_was_undone_and_another_reason_are_news_of_a_known_workload() {
    let mut writer = Writer::start(&[]).await;
    writer.remember(&[("web:1", "RateLimited")]);
    writer.pod("web", "web:1");
    writer.count().await;
    writer.tells("web", "RateLimited").await;
    writer.remember(&[("web:1", "PinUndone")]);
    writer.count().await;
    writer.tells("web", "PinUndone").await;
    // Both reasons were told.
    for reason in ["RateLimited", "PinUndone"] {
        writer.remember(&[("web:1", reason)]);
        writer.count().await;
        writer.api.quiet(LONG).await;
    }
    // A workload without a remembered reason that takes another image.
    let mut writer = Writer::start(&["old"]).await;
    writer.remember(&[("web:2", "AccessDenied")]);
    writer.pod("old", "web:2");
    writer.count().await;
    writer.tells("old", "AccessDenied").await;
}

#[tokio::test(start_paused = true)]
async fn an_event_waits_until_the_replicas_were_asked_for_the_reason() {
    let mut writer = Writer::start(&[]).await;
    writer.pod("known", "web:1");
    writer.pod("gone", "web:1");
    writer.pod("mended", "mended:1");
    writer.pod("unknown", "other:1");
    writer.count().await;
    writer.api.quiet(Duration::from_secs(60)).await;
    writer.cluster.pods.delete("gone");
    writer.cluster.pods.delete("mended");
    writer.count().await;
    writer.api.quiet(Duration::from_secs(10)).await;
    writer.remember(&[("web:1", "RegistryUnavailable")]);
    writer.count().await;
    writer.tells("gone", "RegistryUnavailable").await;
    writer.tells("known", "RegistryUnavailable").await;
    writer.tells("unknown", "NotRemembered").await;
    writer.api.quiet(2 * HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_comes_and_goes_has_one_event_an_hour() {
    let mut writer = Writer::start(&[]).await;
    writer.remember(&[("web:1", "RateLimited")]);
    for round in 0..3 {
        writer.pod("web", "web:1");
        writer.count().await;
        if round == 0 {
            writer.tells("web", "RateLimited").await;
        }
        writer.api.quiet(LONG).await;
        writer.cluster.pods.delete("web");
        writer.count().await;
        writer.api.quiet(LONG).await;
    }
    advance(HOUR).await;
    writer.pod("web", "web:1");
    writer.count().await;
    // By the wall clock, which goes on here, no time has passed, so that the Event counts as one more of its series.
    let call = writer.api.next().await;
    assert!(
        call.line().starts_with("PATCH /apis/events.k8s.io/v1/namespaces/shop/events/web."),
        "{}",
        call.line()
    );
    assert_eq!(call.json()["series"]["count"], 2);
    let event = call.json();
    call.ok(event);
    writer.api.quiet(2 * HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn one_count_has_twenty_events_and_the_next_ones_come_slowly() {
    let mut writer = Writer::start(&[]).await;
    writer.remember(&[("web:1", "RateLimited")]);
    let add = |writer: &Writer, from: usize, to: usize| {
        (from..to).for_each(|number| writer.pod(&format!("web-{number:03}"), "web:1"));
    };
    add(&writer, 0, 50);
    writer.count().await;
    for number in 0..20 {
        writer.tells(&format!("web-{number:03}"), "RateLimited").await;
    }
    // The others are never told: the status and the doctor have them.
    writer.count().await;
    writer.api.quiet(Duration::from_secs(9)).await;
    writer.count().await;
    writer.api.quiet(Duration::from_millis(100)).await;
    add(&writer, 100, 150);
    writer.count().await;
    for number in 100..103 {
        writer.tells(&format!("web-{number}"), "RateLimited").await;
    }
    writer.api.quiet(2 * HOUR).await;
    add(&writer, 200, 250);
    writer.count().await;
    for number in 200..220 {
        writer.tells(&format!("web-{number}"), "RateLimited").await;
    }
    writer.api.quiet(HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn namespaces_that_tagpin_leaves_alone_have_no_events() {
    let mut writer = Writer::start(&[]).await;
    writer.remember(&[("web:1", "RateLimited")]);
    let label = |name: &str, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        writer.cluster.namespaces.apply(name.to_owned(), labels.collect());
    };
    label("shop", &[("tagpin.dev/break-glass", "true")]);
    writer.pod("web", "web:1");
    let elsewhere = json!({ "metadata": { "namespace": "kube-system" } });
    writer.apply(POD, "system", None, "web:1", &elsewhere);
    writer.count().await;
    writer.api.quiet(LONG).await;
    writer.cluster.namespaces.apply("shop".to_owned(), Vec::new().into_iter().collect());
    // A custom resource's pods are left alone by the policy itself.
    writer.apply(POD, "database", Some(("Cluster", "database")), "web:1", &NO);
    writer.pod("after", "web:1");
    writer.count().await;
    writer.tells("after", "RateLimited").await;
    writer.api.quiet(LONG).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_written_is_tried_again_for_ten_minutes() {
    let mut writer = Writer::start(&[]).await;
    writer.remember(&[("web:1", "RateLimited")]);
    writer.pod("a", "web:1");
    writer.pod("b", "web:1");
    writer.count().await;
    writer.event().await.0.refuse(403, "Forbidden");
    writer.tells("b", "RateLimited").await;
    writer.api.quiet(Duration::from_secs(29)).await;
    writer.tells("a", "RateLimited").await;
    assert_eq!(writer.reconcile.failures(), 1);

    writer.pod("c", "web:1");
    writer.count().await;
    for _ in 0..21 {
        writer.event().await.0.refuse(403, "Forbidden");
    }
    writer.api.quiet(2 * HOUR).await;
    assert_eq!(writer.reconcile.failures(), 22);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_nobody_would_accept_is_given_up_at_once() {
    let mut writer = Writer::start(&[]).await;
    writer.remember(&[("web:1", "RateLimited")]);
    let terminating = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "",
        "details": { "causes": [{ "reason": "NamespaceTerminating", "message": "", "field": "" }] },
    });
    for (name, code) in [("missing", 404), ("invalid", 422), ("terminating", 403)] {
        writer.pod(name, "web:1");
        writer.count().await;
        let (call, _) = writer.event().await;
        match code {
            403 => call.answer(403, terminating.clone()),
            code => call.refuse(code, "Refused"),
        }
        writer.api.quiet(HOUR).await;
    }
    assert_eq!(writer.reconcile.failures(), 0);
}
