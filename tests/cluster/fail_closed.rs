//! Namespaces that fail closed: armed by a canary, opened when the API server is cut off, by break glass, and by a
//! leader that cannot get ready.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::doctor;
use crate::support::manifests::pod;
use crate::support::network::Cut;
use crate::support::release::Release;
use crate::support::replicas::{ours, when_ready};
use crate::support::{
    LIMIT, Namespace, alone, image, kubectl, kubectl_with, ready, rig, undisturbed, wait_for,
};

const VALIDATING: &str = "validatingwebhookconfiguration/tagpin";
const STRICT: &str = "validate-strict.tagpin.dev";
const BREAK_GLASS: &str = "validate-break-glass.tagpin.dev";
/// Maximum time for which a cut may block a namespace.
const PROMISE: Duration = Duration::from_secs(90);

fn found(object: &str) -> Value {
    serde_json::from_str(&kubectl(&["get", object, "-o", "json"]).succeeded()).unwrap()
}

fn list() -> Vec<Value> {
    found(VALIDATING)["webhooks"].as_array().cloned().unwrap_or_default()
}

fn entries() -> Vec<String> {
    list().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

/// Returns true if a webhook entry fails closed.
fn armed() -> bool {
    list().iter().any(|entry| entry["failurePolicy"] == "Fail")
}

/// Makes a second owner of the configuration, like a backup tool that applies what it once saved.
fn restored() {
    let mut saved = found(VALIDATING);
    let metadata = saved["metadata"].as_object_mut().unwrap();
    metadata.retain(|field, _| ["name", "labels", "ownerReferences"].contains(&field.as_str()));
    let apply = ["apply", "--server-side", "--field-manager=restore", "-f", "-"];
    kubectl_with(&apply, &saved.to_string()).succeeded();
}

/// A Deployment scaled to one replica, until this is dropped.
struct OneReplica;

impl OneReplica {
    fn new() -> Self {
        ours(&["scale", "deployment/tagpin", "--replicas=1"]);
        Self
    }
}

impl Drop for OneReplica {
    fn drop(&mut self) {
        let back = kubectl(&["-n", "tagpin-system", "scale", "deployment/tagpin", "--replicas=2"]);
        assert!(back.ok || thread::panicking(), "{}", back.err);
    }
}

/// A resource that tagpin may not list until this is dropped: a replica that starts meanwhile does not get ready.
struct Unlisted(Value);

impl Unlisted {
    fn new(resource: &str) -> Self {
        let before = found("clusterrole/tagpin")["rules"].take();
        let mut rules = before.clone();
        for rule in rules.as_array_mut().unwrap() {
            rule["resources"].as_array_mut().unwrap().retain(|named| named != resource);
        }
        let unlisted = Self(before);
        Self::write(&rules);
        unlisted
    }

    fn write(rules: &Value) {
        let patch = json!({ "rules": rules }).to_string();
        let written = kubectl(&["patch", "clusterrole/tagpin", "--type=merge", "-p", &patch]);
        assert!(written.ok || thread::panicking(), "{}", written.err);
    }
}

impl Drop for Unlisted {
    fn drop(&mut self) {
        Self::write(&self.0);
    }
}

/// Longest time for which the webhooks stay out of the way of an API server that reaches tagpin again.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// Creates a namespace with these additional labels.
fn labelled(test: &str, labels: &[&str]) -> Namespace {
    let namespace = Namespace::new(test);
    label(&namespace, labels);
    namespace
}

fn label(namespace: &Namespace, labels: &[&str]) {
    kubectl(&[&["label", "namespace", &namespace.name, "--overwrite"], labels].concat()).succeeded();
}

fn reason() -> String {
    let get = ["get", "clusterimagepolicies.tagpin.dev", "baseline", "-o", "json"];
    let policy: Value = serde_json::from_str(&kubectl(&get).succeeded()).unwrap();
    ready(&policy).map(|ready| ready["reason"].as_str().unwrap().to_owned()).unwrap_or_default()
}

#[test]
fn namespaces_that_fail_closed_are_judged_like_others_and_opened_by_break_glass() {
    let _cluster = undisturbed();
    wait_for("the entries that refuse", LIMIT, || armed().then_some(()));
    assert_eq!(entries(), ["validate.tagpin.dev", STRICT, BREAK_GLASS, "canary.tagpin.dev"]);
    let namespace = labelled("closed", &["tagpin.dev/fail-closed=true"]);
    let refused = wait_for("the strict entry", LIMIT, || {
        let answer = namespace.apply(&pod("web", "web:latest"));
        answer.err.contains(STRICT).then_some(answer.err)
    });
    assert!(refused.contains("[TagForbidden]"), "{refused}");
    namespace.apply(&pod("good", "web:1.4.2")).succeeded();

    breaks_glass(&namespace);
}

/// Breaks glass in a namespace, and takes it back.
fn breaks_glass(namespace: &Namespace) {
    label(namespace, &["tagpin.dev/break-glass=true"]);
    wait_for("break glass", LIMIT, || namespace.apply(&pod("web", "web:latest")).ok.then_some(()));
    wait_for("an image that is not pinned", LIMIT, || {
        namespace.kubectl(&["delete", "pod", "unpinned", "--ignore-not-found", "--now"]).succeeded();
        namespace.apply(&pod("unpinned", "web:1.4.2")).succeeded();
        (image(&namespace.get("pod", "unpinned")) == "web:1.4.2").then_some(())
    });
    wait_for("the Event", LIMIT, || {
        let events = ["get", "events.events.k8s.io", "-o", "jsonpath={.items[*].reason}"];
        namespace.kubectl(&events).succeeded().split(' ').any(|reason| reason == "BreakGlass").then_some(())
    });
    label(namespace, &["tagpin.dev/break-glass-"]);
    wait_for("the end of break glass", LIMIT, || {
        (!namespace.apply(&pod("other", "web:latest")).ok).then_some(())
    });
}

#[test]
fn break_glass_works_in_an_ordinary_namespace_and_leaves_its_event() {
    let _cluster = undisturbed();
    let namespace = Namespace::new("ordinary-glass");
    namespace.apply(&pod("web", "web:latest")).refused_with("TagForbidden");
    breaks_glass(&namespace);
}

#[test]
fn an_api_server_that_is_cut_off_blocks_only_who_asked_for_it_and_only_for_a_while() {
    let Some(_rig) = rig::here("cuts the API server off from the pods") else { return };
    let _cluster = alone();
    wait_for("the entries that refuse", LIMIT, || armed().then_some(()));
    let ordinary = Namespace::new("cut");
    let closed = labelled("cut-closed", &["tagpin.dev/fail-closed=true"]);
    closed.apply(&pod("before", "web:1.4.2")).succeeded();
    restored();

    let cut = Cut::between_api_server_and_webhooks();
    let began = Instant::now();
    let refused = closed.apply(&pod("during", "web:1.4.2")).refused();
    assert!(refused.contains(STRICT), "{refused}");
    ordinary.apply(&pod("during", "web:1.4.2")).succeeded();
    let mut last_refusal = began.elapsed();
    wait_for("the end of the refusals", PROMISE + LIMIT, || {
        let answer = closed.apply(&pod("during", "web:1.4.2"));
        if !answer.ok {
            last_refusal = began.elapsed();
        }
        answer.ok.then_some(())
    });
    assert!(last_refusal < PROMISE, "{last_refusal:?}");
    assert!(!armed());
    wait_for("WebhookUnreachable", LIMIT, || (reason() == "WebhookUnreachable").then_some(()));
    let remedy = doctor::red("reached", "the API server does not reach the webhook");
    assert!(remedy.contains("get endpointslices"), "{remedy}");

    drop(cut);
    wait_for("the entries that refuse", LIMIT + MAX_PAUSE, || armed().then_some(()));
    wait_for("a policy in force", LIMIT, || (reason() == "Enforcing").then_some(()));
    closed.apply(&pod("after", "web:latest")).refused();
}

/// Creates this many pods one after the other, and returns the time that it took.
fn creates(namespace: &str, count: usize) -> Duration {
    let began = Instant::now();
    for number in 0..count {
        let created = pod(&format!("cut-off-{number}"), "web:1.4.2");
        kubectl_with(&["-n", namespace, "create", "-f", "-"], &created).succeeded();
    }
    began.elapsed()
}

/// Deletes the pods that [`creates`] made.
fn deletes(namespace: &str, count: usize) {
    let names: Vec<_> = (0..count).map(|number| format!("cut-off-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    kubectl(&[&["-n", namespace, "delete", "pods", "--now"], &names[..]].concat()).succeeded();
}

/// A namespace that the webhooks never see.
const EXCLUDED: &str = "kube-public";

#[test]
fn an_api_server_that_is_cut_off_waits_for_nobody_after_two_minutes() {
    let Some(_rig) = rig::here("cuts the API server off from the pods") else { return };
    let _cluster = alone();
    wait_for("the entries that refuse", LIMIT, || armed().then_some(()));
    let ordinary = Namespace::new("cut-off");
    let cut = Cut::between_api_server_and_webhooks();
    wait_for("the webhooks to be out of the way", Duration::from_secs(120), || {
        let pins = found("mutatingwebhookconfiguration/zz-tagpin")["webhooks"].as_array().map_or(0, Vec::len);
        (pins == 0 && entries() == ["canary.tagpin.dev"]).then_some(())
    });
    // The API server takes a configuration in within moments; a pod that still waits would take 15 s.
    wait_for("a pod that waits for nobody", LIMIT, || {
        let took = creates(&ordinary.name, 1);
        deletes(&ordinary.name, 1);
        (took < Duration::from_secs(5)).then_some(())
    });
    let without = creates(EXCLUDED, 30);
    deletes(EXCLUDED, 30);
    let with = creates(&ordinary.name, 30);
    assert!(with <= without * 3 / 2, "{with:?} beside {without:?}");
    let remedy = doctor::red("webhooks", "because the API server does not reach the webhook");
    assert!(remedy.contains("get endpointslices"), "{remedy}");

    drop(cut);
    wait_for("the entries that refuse", LIMIT + MAX_PAUSE, || armed().then_some(()));
    wait_for("a policy in force", LIMIT, || (reason() == "Enforcing").then_some(()));
    wait_for("a refusal", LIMIT, || (!ordinary.apply(&pod("after", "web:latest")).ok).then_some(()));
}

#[test]
fn entries_that_somebody_restored_go_all_the_same() {
    let _cluster = alone();
    wait_for("the entries that refuse", LIMIT, || armed().then_some(()));
    let closed = labelled("restored", &["tagpin.dev/fail-closed=true"]);
    restored();

    let one = OneReplica::new();
    wait_for("the end of what refuses", LIMIT, || (!armed()).then_some(()));
    wait_for("the end of the entries", LIMIT, || {
        (entries() == ["validate.tagpin.dev", BREAK_GLASS, "canary.tagpin.dev"]).then_some(())
    });
    closed.apply(&pod("web", "web:latest")).refused_with("TagForbidden");
    closed.apply(&pod("good", "web:1.4.2")).succeeded();
    let remedy = doctor::red("namespaces", "no entry refuses requests while tagpin is unreachable");
    assert!(remedy.contains("--set replicas=2"), "{remedy}");

    drop(one);
    wait_for("the entries that refuse", LIMIT, || armed().then_some(()));
    let refused = wait_for("the strict entry", LIMIT, || {
        let answer = closed.apply(&pod("web", "web:latest"));
        answer.err.contains(STRICT).then_some(answer.err)
    });
    assert!(refused.contains("[TagForbidden]"), "{refused}");
    when_ready(2);
}

#[test]
fn a_leader_that_cannot_get_ready_opens_what_it_found_closed() {
    let _cluster = alone();
    wait_for("the entries that refuse", LIMIT, || armed().then_some(()));
    let closed = labelled("unready", &["tagpin.dev/fail-closed=true"]);
    restored();

    let unlisted = Unlisted::new("cronjobs");
    ours(&["delete", "pods", "--selector=app.kubernetes.io/name=tagpin"]);
    // No replica judges requests now, and the API server waits for none.
    wait_for("the end of the refusals", LIMIT, || closed.apply(&pod("late", "web:latest")).ok.then_some(()));
    assert!(!armed(), "{:?}", list());
    when_ready(0);
    wait_for("the word of the leader", LIMIT, || (reason() == "WebhooksNotInstalled").then_some(()));
    let remedy = doctor::red("namespaces", "no entry refuses requests while tagpin is unreachable");
    assert!(remedy.contains("logs"), "{remedy}");

    drop(unlisted);
    when_ready(2);
    wait_for("the entries that refuse", LIMIT, || armed().then_some(()));
    wait_for("a policy in force", LIMIT, || (reason() == "Enforcing").then_some(()));
    let refused = closed.apply(&pod("after", "web:latest")).refused();
    assert!(refused.contains(STRICT) && refused.contains("[TagForbidden]"), "{refused}");
}

#[test]
fn a_deployment_that_is_deleted_leaves_nothing_closed() {
    if rig::here("deletes tagpin's Deployment").is_none() {
        return;
    }
    let _cluster = alone();
    wait_for("the entries that refuse", LIMIT, || armed().then_some(()));
    let closed = labelled("deleted", &["tagpin.dev/fail-closed=true"]);
    let _release = Release::found();
    ours(&["delete", "deployment/tagpin"]);
    wait_for("the end of the refusals", LIMIT, || closed.apply(&pod("web", "web:latest")).ok.then_some(()));
    assert!(!armed(), "{:?}", list());
}
