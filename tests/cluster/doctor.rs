//! Broken installations, and the rows of `tagpin doctor` that name the cause. Each test repairs what it broke.

use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::support::doctor::{noted, red, well};
use crate::support::manifests::{deployment, pod};
use crate::support::release::Away;
use crate::support::replicas::{none_is_leaving, ours};
use crate::support::{LIMIT, Namespace, alone, kubectl, kubectl_with, rig, run, wait_for};

/// An object before a test changes it; it is restored when this is dropped.
struct Whole {
    what: &'static str,
    document: Value,
}

impl Whole {
    fn of(what: &'static str) -> Self {
        let mut document: Value = serde_json::from_str(&ours(&["get", what, "-o", "json"])).unwrap();
        let metadata = document["metadata"].as_object_mut().unwrap();
        for of_the_server in ["resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"] {
            metadata.remove(of_the_server);
        }
        document.as_object_mut().unwrap().remove("status");
        Self { what, document }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        let document = self.document.to_string();
        let there = kubectl(&["-n", "tagpin-system", "get", self.what]).ok;
        let verb = if there { "replace" } else { "create" };
        let answer = kubectl_with(&[verb, "-f", "-"], &document);
        assert!(answer.ok || std::thread::panicking(), "{} is not as it was: {}", self.what, answer.err);
    }
}

/// Annotates the replicas, so that the kubelet updates their mounted files at once; without a change it takes a minute
/// or two.
fn bring(what: &str) {
    let changed = format!("tagpin-test/brought={what}");
    ours(&["annotate", "pods", "-l", "app.kubernetes.io/name=tagpin", "--overwrite", &changed]);
}

#[test]
fn without_replicas_it_names_the_leader_the_lists_and_the_certificate() {
    let _cluster = alone();
    well();
    let away = Away::new();
    assert!(red("replicas", "scaled to 0").contains("--replicas=2"));
    assert!(red("leader", "nobody holds").contains("--replicas=2"));

    // No leader runs that could repair the list.
    let emptied = r#"[{"op":"remove","path":"/webhooks"}]"#;
    kubectl(&["patch", "validatingwebhookconfiguration/tagpin", "--type=json", "-p", emptied]).succeeded();
    assert!(red("webhooks", "tagpin has no entry validate.tagpin.dev").contains("logs"));

    let key = rcgen::KeyPair::generate().unwrap();
    let mut expired = rcgen::CertificateParams::new(vec!["tagpin.tagpin-system.svc".to_owned()]).unwrap();
    expired.not_after = rcgen::date_time_ymd(2025, 1, 1);
    expired.not_before = rcgen::date_time_ymd(2024, 1, 1);
    let pem = BASE64_STANDARD.encode(expired.self_signed(&key).unwrap().pem());
    let patch = json!({ "data": { "tls.crt": pem } }).to_string();
    ours(&["patch", "secret", "tagpin-webhook-tls", "-p", &patch]);
    assert!(red("certificate", "has expired").contains("delete secret tagpin-webhook-tls"));

    // The next leader repairs both.
    drop(away);
    ours(&["rollout", "status", "deployment/tagpin", "--timeout=90s"]);
    well();
}

#[test]
fn it_names_a_right_that_was_removed() {
    let _cluster = alone();
    let whole = Whole::of("clusterrole/tagpin");
    let rules = whole.document["rules"].as_array().unwrap();
    let position = rules.iter().position(|rule| rule["resources"] == json!(["controllerrevisions"])).unwrap();
    let patch = json!([{ "op": "remove", "path": format!("/rules/{position}") }]).to_string();
    kubectl(&["patch", "clusterrole/tagpin", "--type=json", "-p", &patch]).succeeded();
    assert!(red("permissions", "list controllerrevisions").contains("helm upgrade tagpin"));
    drop(whole);
    well();
}

#[test]
fn it_names_a_definition_that_is_missing() {
    let _cluster = alone();
    let whole = Whole::of("customresourcedefinition/imagepolicies.tagpin.dev");
    kubectl(&["delete", whole.what, "--timeout=90s"]).succeeded();
    assert!(red("crds", "imagepolicies.tagpin.dev").contains("tagpin crds"));
    drop(whole);
    well();
}

#[test]
fn it_names_a_configuration_of_registries_that_cannot_be_used() {
    let _cluster = alone();
    let whole = Whole::of("configmap/tagpin");
    let wrong = "registries:\n- match: docker.io\n  mirror: []\n";
    let patch = json!({ "data": { "registries.yaml": wrong } }).to_string();
    ours(&["patch", whole.what, "-p", &patch]);
    let place = "/etc/tagpin/configuration/registries.yaml:3:3: registries[0].mirror";
    assert!(red("configuration", place).contains("helm upgrade tagpin"));
    // Once the kubelet has updated the files, the replicas report that they do not use them.
    bring("wrong");
    red("configuration", "an earlier configuration of registries is in force on tagpin-");
    drop(whole);
    bring("whole");
    well();
}

#[test]
fn it_names_a_policy_that_is_not_ready() {
    let _cluster = alone();
    let policy = "apiVersion: tagpin.dev/v1alpha1\nkind: ImagePolicy\nmetadata: { name: unseen, namespace: kube-system }\nspec: {}\n";
    kubectl_with(&["apply", "-f", "-"], policy).succeeded();
    assert!(
        red("policies", "kube-system/unseen is not ready: NamespaceExcluded").contains("excludedNamespaces")
    );
    kubectl_with(&["delete", "-f", "-"], policy).succeeded();
    well();
}

#[test]
fn it_names_a_stored_object_that_cannot_be_read() {
    let _cluster = alone();
    let namespace = Namespace::new("unreadable");
    let whole = Whole::of("customresourcedefinition/imagepolicies.tagpin.dev");
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let place = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let patch = json!([{ "op": "replace", "path": place, "value": anything }]).to_string();
    kubectl(&["patch", whole.what, "--type=json", "-p", &patch]).succeeded();
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let policy = json!({
        "apiVersion": "tagpin.dev/v1alpha1", "kind": "ImagePolicy", "metadata": { "name": "deep" }, "spec": { "deep": deep },
    });
    // The API server applies the new definition after a moment.
    wait_for("a policy with anything in it", LIMIT, || {
        namespace.kubectl_with(&["create", "-f", "-"], &policy.to_string()).ok.then_some(())
    });
    // New replicas list the object. Watches that were opened before the new definition may not report it.
    ours(&["rollout", "restart", "deployment/tagpin"]);
    ours(&["rollout", "status", "deployment/tagpin", "--timeout=90s"]);
    none_is_leaving();
    let object = format!("{}/deep (spec.deep", namespace.name);
    let look = red("unreadable", &object);
    // The command in the remedy shows the object.
    let words: Vec<_> = look.split(' ').skip(1).collect();
    assert!(kubectl(&words).succeeded().contains("deep:"), "{look}");
    namespace.kubectl(&["delete", "imagepolicies.tagpin.dev", "deep", "--timeout=90s"]).succeeded();
    drop(whole);
    well();
}

#[test]
fn it_names_a_registry_that_a_replica_does_not_reach() {
    let Some(rig) = rig::here("stops a registry") else { return };
    let _cluster = alone();
    let namespace = Namespace::new("doctor");
    let gone = rig.stopped("registry-mirror");
    namespace.apply(&pod("web", "never-seen:1.0.0")).succeeded();
    assert!(red("registries", "docker.io").contains("curl -v http://10.41.0.1:5000/v2/"));
    drop(gone);
    well();
}

#[test]
fn it_names_a_weakened_baseline_and_the_command_that_restores_it() {
    let _cluster = alone();
    let patch = |patch: &str| {
        kubectl(&["patch", "clusterimagepolicies.tagpin.dev", "baseline", "--type=merge", "-p", patch])
            .succeeded()
    };
    patch(r#"{"spec":{"mode":"Audit"}}"#);
    let remedy = red("baseline", "spec.mode is Audit, and the values of the release say Enforce");
    let (command, typed) = remedy.split_once(" -p ").unwrap();
    assert_eq!(command, "kubectl patch clusterimagepolicies.tagpin.dev baseline --type=merge");
    patch(typed.trim_matches('\''));
    well();
}

#[test]
fn it_names_a_label_that_has_no_effect() {
    let _cluster = alone();
    let namespace = Namespace::new("doctor-label");
    kubectl(&["label", "namespace", &namespace.name, "tagpin.dev/break-glass=yes"]).succeeded();
    let wanted = format!("{} has tagpin.dev/break-glass=yes, which has no effect", namespace.name);
    let remedy = noted("namespaces", &wanted);
    assert_eq!(
        remedy,
        format!("kubectl label namespace {} --overwrite tagpin.dev/break-glass=true", namespace.name)
    );
}

#[test]
fn it_names_the_workload_that_is_not_pinned_and_why() {
    let Some(_rig) = rig::here("has these images") else { return };
    let _cluster = alone();
    // The name sorts before those of other tests whose namespaces are still being deleted.
    let namespace = Namespace::without_policy("0-unpinned");
    namespace.apply(&deployment("web", "web:1.4.2", 1)).succeeded();
    namespace.rolled_out("deployment/web");
    namespace.policy("pins", "{ mode: Warn, pin: { targets: [ Pods ] } }");
    let named = format!("{}/Deployment/web (app): web:1.4.2, OlderThanPolicy", namespace.name);
    let remedy = noted("unpinned", &named);
    let (command, _) = remedy.split_once(" pins ").unwrap();
    assert!(command.contains(&namespace.name), "{remedy}");
    run(Command::new("sh").args(["-c", command]), "").succeeded();
    wait_for("a pin", LIMIT, || {
        let seen = namespace.find("imagepolicies.tagpin.dev", "pins")?;
        let status = &seen["status"];
        (status["summary"]["pinned"] == 1 && status["unpinned"].is_null()).then_some(())
    });
}

#[test]
fn an_event_on_a_workload_says_that_its_image_is_not_pinned_and_why() {
    let Some(_rig) = rig::here("has these images") else { return };
    let _cluster = alone();
    let namespace = Namespace::without_policy("event");
    namespace.apply(&deployment("web", "web:1.4.2", 1)).succeeded();
    namespace.rolled_out("deployment/web");
    // What a leader finds in its first count is no news. It has counted once a status says what was refused.
    namespace.policy("counted", "{ mode: Enforce, rules: { tags: { forbidden: [ latest ] } } }");
    namespace.apply(&pod("forbidden", "web:latest")).refused_with("TagForbidden");
    wait_for("the first count of the leader", LIMIT, || {
        let policy = namespace.find("imagepolicies.tagpin.dev", "counted")?;
        (policy["status"]["refused"][0]["code"] == "TagForbidden").then_some(())
    });
    namespace.policy("pins", "{ mode: Warn, pin: { targets: [ Pods ] } }");
    let event = wait_for("an Event on the Deployment", LIMIT, || {
        let described = namespace.kubectl(&["describe", "deployment", "web"]).succeeded();
        described.lines().find(|line| line.contains("OlderThanPolicy")).map(str::to_owned)
    });
    let remedy = format!("kubectl -n {} rollout restart deployment/web pins", namespace.name);
    for part in ["Warning", "(app): web:1.4.2, OlderThanPolicy: ", &remedy] {
        assert!(event.contains(part), "{event}");
    }
}
