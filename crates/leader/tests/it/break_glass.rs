//! The Events of break glass.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tagpin_kube::Cluster;
use tagpin_kube::client::ApiReader;
use tagpin_leader::break_glass::{Audit, namespaces};
use tagpin_leader::reconcile::Reconcile;
use tagpin_leader::webhook_config::Installed;
use tagpin_objects::kinds::Kinds;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use tagpin_testing::scripted_api::Api;

fn excluded() -> BTreeSet<String> {
    BTreeSet::from(["kube-system".to_owned()])
}

struct Auditor {
    api: Api,
    cluster: Arc<Cluster>,
    installed: watch::Sender<Installed>,
    reconcile: Reconcile,
    task: JoinHandle<Infallible>,
}

impl Drop for Auditor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Auditor {
    fn start() -> Self {
        let (client, api) = Api::new();
        let cluster =
            Arc::new(Cluster::new(Kinds::default(), ApiReader::new(client.clone(), Kinds::default())));
        let (installed, reconcile) = (watch::Sender::new(Installed::Armed), Reconcile::default());
        let audit = Audit {
            client,
            namespace: "tagpin-system".to_owned(),
            excluded: excluded(),
            cluster: Arc::clone(&cluster),
            installed: installed.subscribe(),
            reconcile: reconcile.clone(),
        };
        let task = tokio::spawn(async move { audit.keep().await });
        Self { api, cluster, installed, reconcile, task }
    }

    fn label(&self, namespace: &str, labels: &[&str]) {
        let label = |name: &&str| (format!("tagpin.dev/{name}"), "true".to_owned());
        self.cluster.namespaces.apply(namespace.to_owned(), labels.iter().map(label).collect());
    }

    /// Returns the next call, which must write an Event in this namespace.
    async fn event(&mut self, namespace: &str) -> Value {
        let call =
            self.api.expect(&format!("POST /apis/events.k8s.io/v1/namespaces/{namespace}/events")).await;
        let event = call.json();
        call.ok(event.clone());
        event
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_with_the_label_is_told_of_when_it_begins_and_when_it_is_over() {
    let mut auditor = Auditor::start();
    let broken = |auditor: &Auditor| namespaces(&auditor.cluster, &excluded());
    auditor.label("shop", &["fail-closed"]);
    // Requests of an excluded namespace never reach tagpin.
    auditor.label("kube-system", &["break-glass"]);
    auditor.api.quiet(Duration::from_secs(60)).await;
    assert!(broken(&auditor).is_empty());

    auditor.label("other", &["break-glass"]);
    assert_eq!(auditor.event("other").await["reason"], "BreakGlass");
    auditor.label("shop", &["fail-closed", "break-glass"]);
    let event = auditor.event("shop").await;
    assert_eq!((event["reason"].as_str(), event["type"].as_str()), (Some("BreakGlass"), Some("Warning")));
    assert_eq!(event["regarding"]["kind"], "Namespace");
    assert_eq!(event["regarding"]["name"], "shop");
    assert_eq!(event["reportingController"], "tagpin");
    assert_eq!(broken(&auditor).len(), 2);
    auditor.label("third", &[]);
    auditor.api.quiet(Duration::from_secs(60)).await;

    auditor.label("shop", &["fail-closed"]);
    let event = auditor.event("shop").await;
    assert_eq!((event["reason"].as_str(), event["type"].as_str()), (Some("BreakGlassEnded"), Some("Normal")));
    auditor.api.quiet(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_configuration_is_told_of_at_our_deployment() {
    let mut auditor = Auditor::start();
    auditor.api.quiet(Duration::from_secs(10)).await;
    auditor.installed.send_replace(Installed::Missing);
    let event = auditor.event("tagpin-system").await;
    assert_eq!(event["reason"], "BreakGlass");
    assert_eq!(event["regarding"]["kind"], "Deployment");
    assert!(event["note"].as_str().unwrap().contains("helm upgrade"), "{event}");
    auditor.installed.send_replace(Installed::BrokenGlass { rearm: "kubectl x".into() });
    auditor.api.quiet(Duration::from_secs(10)).await;
    auditor.installed.send_replace(Installed::Unwritable);
    auditor.api.quiet(Duration::from_secs(10)).await;
    auditor.installed.send_replace(Installed::Yes);
    assert_eq!(auditor.event("tagpin-system").await["reason"], "BreakGlassEnded");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_written_keeps_no_other_back_and_is_tried_again() {
    let mut auditor = Auditor::start();
    auditor.label("a", &["fail-closed", "break-glass"]);
    auditor.label("b", &["fail-closed", "break-glass"]);
    let first = auditor.api.expect("POST /apis/events.k8s.io/v1/namespaces/a/events").await;
    first.refuse(403, "Forbidden");
    auditor.event("b").await;
    auditor.event("a").await;
    assert_eq!(auditor.reconcile.failures(), 1);
    // A deleted namespace needs no Event.
    auditor.cluster.namespaces.delete("a");
    auditor.api.quiet(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_nobody_would_accept_is_given_up_at_once() {
    let mut auditor = Auditor::start();
    let terminating = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "",
        "details": { "causes": [{ "reason": "NamespaceTerminating", "message": "", "field": "" }] },
    });
    for (name, code) in [("missing", 404), ("invalid", 422), ("terminating", 403)] {
        auditor.label(name, &["break-glass"]);
        let call = auditor.api.expect(&format!("POST /apis/events.k8s.io/v1/namespaces/{name}/events")).await;
        match code {
            403 => call.answer(403, terminating.clone()),
            _ => call.refuse(code, name),
        }
    }
    auditor.api.quiet(Duration::from_hours(3)).await;
    assert_eq!(auditor.reconcile.failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_always_refused_is_tried_less_and_less_often_and_then_given_up() {
    let mut auditor = Auditor::start();
    auditor.label("full", &["break-glass"]);
    let mut last = Instant::now();
    let pauses = [0, 5, 10, 20, 40, 80, 160].into_iter().chain([300; 10]);
    for pause in pauses {
        if pause == 300 {
            // What happens elsewhere is told at once, and changes no pause.
            auditor.label("other", &[]);
            auditor.label("other", &["break-glass"]);
        }
        let call = loop {
            let call = auditor.api.next().await;
            if call.path.contains("/full/") {
                break call;
            }
            assert!(last.elapsed() < Duration::from_secs(1), "{:?}", last.elapsed());
            call.ok(json!({}));
        };
        call.refuse(403, "exceeded quota");
        assert_eq!(last.elapsed().as_secs(), pause);
        last = Instant::now();
    }
    auditor.api.quiet(Duration::from_hours(3)).await;
    assert_eq!(auditor.reconcile.failures(), 17);
    // The end is told by an Event of its own.
    auditor.label("full", &[]);
    assert_eq!(auditor.event("full").await["reason"], "BreakGlassEnded");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_refused_is_not_written_once_break_glass_is_over() {
    let mut auditor = Auditor::start();
    auditor.label("shop", &["break-glass"]);
    let first = auditor.api.expect("POST /apis/events.k8s.io/v1/namespaces/shop/events").await;
    first.refuse(403, "exceeded quota");
    auditor.label("shop", &[]);
    auditor.api.quiet(Duration::from_mins(10)).await;
    assert_eq!(auditor.reconcile.failures(), 1);
}
