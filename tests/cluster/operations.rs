//! The installation as admins see it: webhook configurations, certificate, metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::doctor;
use crate::support::manifests::pod;
use crate::support::release::{CHART, Release, armed, in_force};
use crate::support::replicas::{leader, when_ready};
use crate::support::webhook::Published;
use crate::support::{
    LIMIT, Namespace, alone, image, kubectl, kubectl_with, ready, rig, undisturbed, wait_for,
};

const MUTATING: &str = "mutatingwebhookconfiguration/zz-tagpin";
const VALIDATING: &str = "validatingwebhookconfiguration/tagpin";

fn configuration(name: &str) -> Value {
    serde_json::from_str(&kubectl(&["get", name, "-o", "json"]).succeeded()).unwrap()
}

#[test]
fn the_webhooks_fail_open_and_leave_the_system_alone() {
    let _cluster = undisturbed();
    for (name, webhook) in [(MUTATING, "pin.tagpin.dev"), (VALIDATING, "validate.tagpin.dev")] {
        let seen = configuration(name);
        let entry = &seen["webhooks"][0];
        assert_eq!(entry["name"], webhook, "{seen}");
        assert_eq!(entry["failurePolicy"], "Ignore");
        assert_eq!(entry["sideEffects"], "None");
        assert_eq!(entry["matchPolicy"], "Equivalent");
        let excluded = entry["namespaceSelector"].to_string();
        for namespace in ["kube-system", "kube-public", "kube-node-lease", "tagpin-system"] {
            assert!(excluded.contains(namespace), "{excluded}");
        }
        assert_eq!(seen["metadata"]["ownerReferences"][0]["kind"], "Namespace");
    }
    assert_eq!(configuration(MUTATING)["webhooks"][0]["reinvocationPolicy"], "IfNeeded");
    assert_eq!(
        configuration(MUTATING)["webhooks"][0]["matchConditions"],
        configuration(VALIDATING)["webhooks"][0]["matchConditions"]
    );
}

#[test]
fn a_webhook_that_was_edited_or_emptied_by_hand_is_repaired() {
    let _cluster = alone();
    Published::with_token();
    let whole = wait_for("the canary", LIMIT, || {
        let webhooks = configuration(VALIDATING)["webhooks"].clone();
        (webhooks.as_array()?.len() == 4).then_some(webhooks)
    });
    for patch in [
        r#"[{"op":"replace","path":"/webhooks/0/timeoutSeconds","value":29}]"#,
        r#"[{"op":"remove","path":"/webhooks"}]"#,
    ] {
        kubectl(&["patch", VALIDATING, "--type=json", "-p", patch]).succeeded();
        wait_for("the repair", LIMIT, || (configuration(VALIDATING)["webhooks"] == whole).then_some(()));
    }
}

#[test]
fn additions_to_our_selectors_stay() {
    let _cluster = alone();
    armed();
    let added = r#"{"key":"control-plane","operator":"DoesNotExist"}"#;
    let add = |name: &str| {
        let path = "/webhooks/0/namespaceSelector/matchExpressions/-";
        let patch = format!(r#"[{{"op":"add","path":"{path}","value":{added}}}]"#);
        kubectl(&["patch", name, "--type=json", "-p", &patch]).succeeded();
    };
    let has =
        |name: &str| configuration(name)["webhooks"][0]["namespaceSelector"].to_string().contains(added);
    let version = |name: &str| configuration(name)["metadata"]["resourceVersion"].clone();
    add(MUTATING);
    add(VALIDATING);
    let before = [version(MUTATING), version(VALIDATING)];
    // The leader repairs what is not an addition at once, in one write with everything else that it wants.
    let edit = r#"[{"op":"replace","path":"/webhooks/0/timeoutSeconds","value":29}]"#;
    kubectl(&["patch", VALIDATING, "--type=json", "-p", edit]).succeeded();
    wait_for("the repair", LIMIT, || {
        (configuration(VALIDATING)["webhooks"][0]["timeoutSeconds"] == 10).then_some(())
    });
    assert!(has(VALIDATING) && has(MUTATING), "an addition was removed");
    assert_eq!(version(MUTATING), before[0], "an addition alone is no reason to write");
    // Without the addition the next test finds the configurations as they were.
    for name in [MUTATING, VALIDATING] {
        let expressions = configuration(name)["webhooks"][0]["namespaceSelector"]["matchExpressions"].clone();
        let ours: Vec<_> =
            expressions.as_array().unwrap().iter().filter(|it| it["key"] != "control-plane").collect();
        let value = serde_json::to_string(&ours).unwrap();
        let path = "/webhooks/0/namespaceSelector/matchExpressions";
        let patch = format!(r#"[{{"op":"replace","path":"{path}","value":{value}}}]"#);
        kubectl(&["patch", name, "--type=json", "-p", &patch]).succeeded();
    }
    assert!(!has(VALIDATING) && !has(MUTATING));
}

/// A tool that writes its own time limit into a webhook every few seconds, until this is dropped. Then a new leader forgets the fight.
struct Rule {
    stop: Arc<AtomicBool>,
    runs: Option<thread::JoinHandle<()>>,
}

impl Rule {
    fn new() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let runs = thread::spawn(move || {
            let patch = r#"[{"op":"replace","path":"/webhooks/0/timeoutSeconds","value":29}]"#;
            while !stopped.load(Ordering::SeqCst) {
                kubectl(&["patch", VALIDATING, "--type=json", "--field-manager=gitops", "-p", patch]);
                thread::park_timeout(Duration::from_secs(3));
            }
        });
        Self { stop, runs: Some(runs) }
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(runs) = self.runs.take() {
            runs.thread().unpark();
            drop(runs.join());
        }
        let leader = leader();
        let gone = kubectl(&["-n", "tagpin-system", "delete", "pod", &leader.name]);
        assert!(gone.ok || thread::panicking(), "{}", gone.err);
    }
}

#[test]
fn a_rule_that_undoes_ours_is_named() {
    let _cluster = alone();
    armed();
    let rule = Rule::new();
    let message = wait_for("Contested", LIMIT, || {
        let get = ["get", "clusterimagepolicies.tagpin.dev", "baseline", "-o", "json"];
        let policy: Value = serde_json::from_str(&kubectl(&get).succeeded()).unwrap();
        let ready = ready(&policy)?.clone();
        (ready["reason"] == "Contested").then(|| ready["message"].as_str().unwrap().to_owned())
    });
    assert!(message.contains("gitops changes the webhook configuration tagpin"), "{message}");
    let remedy = doctor::red("webhooks", "changes the webhook configuration tagpin again and again");
    assert!(remedy.contains("ignoreDifferences"), "{remedy}");
    drop(rule);
    when_ready(2);
    armed();
    in_force();
}

#[test]
fn a_webhook_that_was_deleted_by_hand_stays_away_until_an_upgrade_brings_it_back() {
    if rig::here("upgrades by Helm").is_none() {
        return;
    }
    let _cluster = alone();
    let release = Release::found();
    let namespace = Namespace::fail_closed("broken-glass");
    namespace.apply(&pod("before", "web:latest")).refused();
    kubectl(&["delete", VALIDATING, MUTATING]).succeeded();
    namespace.apply(&pod("meanwhile", "web:latest")).succeeded();
    wait_for("the policies to tell of it", LIMIT, || {
        let get = ["get", "clusterimagepolicies.tagpin.dev", "baseline", "-o", "json"];
        let policy: Value = serde_json::from_str(&kubectl(&get).succeeded()).unwrap();
        (ready(&policy)?["reason"] == "WebhooksNotInstalled").then_some(())
    });
    for name in [MUTATING, VALIDATING] {
        assert!(!kubectl(&["get", name]).ok, "{name} came back by itself");
    }

    release.install(CHART, &[]);
    armed();
    namespace.apply(&pod("after", "web:latest")).refused();
    namespace.apply(&pod("pinned", "web:1.4.2")).succeeded();
    assert!(image(&namespace.get("pod", "pinned")).starts_with("web:1.4.2@sha256:"));
}

#[test]
fn a_configuration_that_gitops_brings_back_stays_empty_until_it_is_rearmed() {
    let _cluster = alone();
    armed();
    // The Lease remembers what was filled with its next renewal.
    let uid = configuration(VALIDATING)["metadata"]["uid"].as_str().unwrap().to_owned();
    wait_for("the memory", LIMIT, || {
        let lease = ["-n", "tagpin-system", "get", "lease", "tagpin", "-o", "json"];
        let lease: Value = serde_json::from_str(&kubectl(&lease).succeeded()).unwrap();
        let filled = lease["metadata"]["annotations"]["tagpin.dev/filled"].as_str()?.to_owned();
        filled.contains(&uid).then_some(())
    });
    let skeletons = [MUTATING, VALIDATING].map(|name| {
        let mut seen = configuration(name);
        let metadata = seen["metadata"].as_object_mut().unwrap();
        metadata.retain(|field, _| ["name", "labels", "annotations"].contains(&field.as_str()));
        seen.as_object_mut().unwrap().remove("webhooks");
        seen.to_string()
    });
    kubectl(&["delete", VALIDATING, MUTATING]).succeeded();
    for skeleton in &skeletons {
        kubectl_with(&["create", "-f", "-"], skeleton).succeeded();
    }
    let command = doctor::red("webhooks", "came back after break glass and stays empty");
    for name in [MUTATING, VALIDATING] {
        assert_eq!(configuration(name)["webhooks"].as_array().map_or(0, Vec::len), 0, "{name} was filled");
    }
    let words: Vec<_> = command.split(' ').collect();
    assert_eq!(words.first(), Some(&"kubectl"), "{command}");
    kubectl(words.get(1..).unwrap()).succeeded();
    armed();
    let namespace = Namespace::new("rearmed");
    wait_for("a refusal", LIMIT, || (!namespace.apply(&pod("web", "web:latest")).ok).then_some(()));
}

#[test]
fn the_certificate_is_for_the_service_and_its_authority_is_the_one_that_is_published() {
    let _cluster = undisturbed();
    let bundle = configuration(VALIDATING)["webhooks"][0]["clientConfig"]["caBundle"].clone();
    let secret = ["-n", "tagpin-system", "get", "secret", "tagpin-webhook-tls", "-o", "json"];
    let secret: Value = serde_json::from_str(&kubectl(&secret).succeeded()).unwrap();
    assert_eq!(secret["data"]["ca.crt"], bundle);
}

#[test]
fn the_metrics_count_what_is_refused() {
    let _cluster = undisturbed();
    let namespace = Namespace::new("metrics");
    namespace.apply(&pod("web", "web:latest")).refused_with("TagForbidden");
    let pods = kubectl(&["-n", "tagpin-system", "get", "pods", "-o", "name"]).succeeded();
    let denied: usize = pods
        .lines()
        .filter_map(|pod| {
            let name = pod.strip_prefix("pod/")?;
            let path = format!("/api/v1/namespaces/tagpin-system/pods/{name}:8080/proxy/metrics");
            let text = kubectl(&["get", "--raw", &path]).out;
            Some(
                text.lines()
                    .filter(|line| {
                        line.starts_with("tagpin_admission_requests_total{")
                            && line.contains("decision=\"deny\"")
                    })
                    .count(),
            )
        })
        .sum();
    assert!(denied > 0, "no replica counts a refusal");
}
