//! Namespaces that ask for more: armed by a canary, disarmed when the API server is cut off, opened by break glass.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::doctor;
use crate::support::manifests::pod;
use crate::support::network::Cut;
use crate::support::{LIMIT, Namespace, alone, kubectl, ready, rig, undisturbed, wait_for};

const VALIDATING: &str = "validatingwebhookconfiguration/tagpin";
const STRICT: &str = "validate-strict.tagpin.dev";
/// How long a namespace may be blocked by a cut.
const PROMISE: Duration = Duration::from_secs(90);

fn entries() -> Vec<String> {
    let seen: Value = serde_json::from_str(&kubectl(&["get", VALIDATING, "-o", "json"]).succeeded()).unwrap();
    let entries = seen["webhooks"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

fn armed() -> bool {
    entries().iter().any(|name| name == STRICT)
}

/// A namespace with this label too.
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
    assert_eq!(
        entries(),
        ["validate.tagpin.dev", STRICT, "validate-break-glass.tagpin.dev", "canary.tagpin.dev"]
    );
    let namespace = labelled("closed", &["tagpin.dev/fail-closed=true"]);
    let refused = wait_for("the strict entry", LIMIT, || {
        let answer = namespace.apply(&pod("web", "web:latest"));
        answer.err.contains(STRICT).then_some(answer.err)
    });
    assert!(refused.contains("[TagForbidden]"), "{refused}");
    namespace.apply(&pod("good", "web:1.4.2")).succeeded();

    label(&namespace, &["tagpin.dev/break-glass=true"]);
    wait_for("break glass", LIMIT, || namespace.apply(&pod("web", "web:latest")).ok.then_some(()));
    wait_for("the Event", LIMIT, || {
        let events = ["get", "events.events.k8s.io", "-o", "jsonpath={.items[*].reason}"];
        namespace.kubectl(&events).succeeded().split(' ').any(|reason| reason == "BreakGlass").then_some(())
    });
    label(&namespace, &["tagpin.dev/break-glass-"]);
    wait_for("the end of break glass", LIMIT, || {
        (!namespace.apply(&pod("other", "web:latest")).ok).then_some(())
    });
}

#[test]
fn an_api_server_that_is_cut_off_blocks_only_who_asked_for_it_and_only_for_a_while() {
    let Some(_rig) = rig::here("cuts the API server off from the pods") else { return };
    let _cluster = alone();
    wait_for("the entries that refuse", LIMIT, || armed().then_some(()));
    let ordinary = Namespace::new("cut");
    let closed = labelled("cut-closed", &["tagpin.dev/fail-closed=true"]);
    closed.apply(&pod("before", "web:1.4.2")).succeeded();

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
    wait_for("the entries that refuse", LIMIT, || armed().then_some(()));
    wait_for("a policy in force", LIMIT, || (reason() == "Enforcing").then_some(()));
    closed.apply(&pod("after", "web:latest")).refused();
}
