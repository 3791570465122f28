//! Forged pins: anybody who may create or patch a pod decides the digest of that pod, and never of its workload.

use serde_json::{Value, json};

use crate::support::manifests::{deployment, pod, stateful_set};
use crate::support::release::armed;
use crate::support::replicas::{none_is_leaving, ours, reached, when_ready};
use crate::support::rig::{self, Rig};
use crate::support::{LIMIT, Namespace, alone, image, kubectl, undisturbed, wait_for};

/// A tag for one test, the digest that it names, and the digest of other content in the same repository.
struct Tag {
    full: String,
    short: String,
    right: String,
    other: String,
}

impl Tag {
    fn push(rig: &Rig, test: &str) -> Self {
        let repository = format!("forged-{test}");
        let full = |tag: &str| format!("docker.io/library/{repository}:{tag}");
        let (right, other) = (rig.push(&full("1.0.0"), "right"), rig.push(&full("other"), "other"));
        assert_ne!(right, other);
        Self { full: full("1.0.0"), short: format!("{repository}:1.0.0"), right, other }
    }

    fn forged(&self) -> String {
        format!("{}@{}", self.short, self.other)
    }

    /// Checks that each pod of `web` has the right digest and a mark, except the pods with these names.
    #[track_caller]
    fn is_right_in(&self, namespace: &Namespace, count: usize, but: &[&str]) {
        for pod in namespace.pods_when("app=web", count) {
            if !but.contains(&pod["metadata"]["name"].as_str().unwrap()) {
                assert_eq!(image(&pod), format!("{}@{}", self.short, self.right));
                let marks = pod["metadata"]["annotations"]["tagpin.dev/mark"].as_str().unwrap();
                assert!(marks.contains(&self.right), "{marks}");
            }
        }
    }
}

/// Returns the only ReplicaSet of this namespace.
fn replica_set(namespace: &Namespace) -> Value {
    wait_for("the ReplicaSet", LIMIT, || {
        let sets = namespace.kubectl(&["get", "replicasets", "-o", "json"]).succeeded();
        let sets: Value = serde_json::from_str(&sets).unwrap();
        sets["items"].as_array().unwrap().first().cloned()
    })
}

#[test]
fn a_pod_forged_for_a_workload_without_pods_decides_nothing_for_those_that_come() {
    let Some(rig) = rig::here("pushes tags") else { return };
    let _cluster = undisturbed();
    let tag = Tag::push(&rig, "created");
    let namespace = Namespace::new("forged-created");
    namespace.apply(&deployment("web", &tag.short, 0)).succeeded();
    let set = replica_set(&namespace);
    let metadata = &set["metadata"];
    let owner = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": metadata["name"], "uid": metadata["uid"],
        "controller": true,
    }]);
    let forged = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "forged", "ownerReferences": owner,
            "labels": set["spec"]["selector"]["matchLabels"],
            "annotations": { "tagpin.dev/original": json!({ "containers/app": tag.short }).to_string() },
        },
        "spec": { "containers": [{ "name": "app", "image": tag.forged() }] },
    });
    namespace.apply(&forged.to_string()).succeeded();
    // The ReplicaSet has 0 replicas, so its controller deletes the forged pod at once.
    wait_for("the forged pod to be gone", LIMIT, || namespace.find("pod", "forged").is_none().then_some(()));
    namespace.kubectl(&["scale", "deployment/web", "--replicas=3"]).succeeded();
    tag.is_right_in(&namespace, 3, &[]);
}

#[test]
fn a_pod_that_somebody_gives_another_digest_keeps_it_for_itself_and_a_restart_forgets_no_mark() {
    let Some(rig) = rig::here("moves a tag") else { return };
    let _cluster = alone();
    let tag = Tag::push(&rig, "patched");
    let namespace = Namespace::new("forged-patched");
    namespace.apply(&deployment("web", &tag.short, 2)).succeeded();
    namespace.rolled_out("deployment/web");
    let mut pods = namespace.pods_when("app=web", 2);
    // The oldest pod, in the order that tagpin uses.
    let age = |pod: &Value| ["creationTimestamp", "uid"].map(|key| pod["metadata"][key].to_string());
    pods.sort_by_key(age);
    let oldest = pods[0]["metadata"]["name"].as_str().unwrap();
    rig.push(&tag.full, "moved");
    namespace
        .kubectl(&["set", "image", &format!("pod/{oldest}"), &format!("app={}", tag.forged())])
        .succeeded();
    namespace.kubectl(&["scale", "deployment/web", "--replicas=4"]).succeeded();
    tag.is_right_in(&namespace, 4, &[oldest]);

    // New replicas, which know only what the cluster stores, decide the same.
    ours(&["rollout", "restart", "deployment/tagpin"]);
    ours(&["rollout", "status", "deployment/tagpin", "--timeout=120s"]);
    when_ready(2);
    none_is_leaving();
    reached();
    namespace.kubectl(&["scale", "deployment/web", "--replicas=6"]).succeeded();
    tag.is_right_in(&namespace, 6, &[oldest]);
}

#[test]
fn a_forged_pin_is_not_believed_while_the_registry_is_away() {
    let Some(rig) = rig::here("stops a registry") else { return };
    let _cluster = alone();
    let tag = Tag::push(&rig, "seeded");
    let namespace = Namespace::new("forged-seeded");
    let mut forged: Value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "forged",
            "annotations": { "tagpin.dev/original": json!({ "containers/app": tag.short }).to_string() },
        },
        "spec": { "containers": [{ "name": "app", "command": ["/bin/sh", "-c", "while :; do sleep 1; done"] }] },
    });
    forged["spec"]["containers"][0]["image"] = json!(tag.forged());
    namespace.apply(&forged.to_string()).succeeded();
    namespace.wait("pod/forged", "condition=Ready");
    {
        let _gone = rig.stopped("registry-mirror");
        namespace.apply(&pod("asked", &tag.short)).succeeded();
        assert_eq!(image(&namespace.get("pod", "asked")), tag.short, "nobody knows what the tag names");
    }
    rig.registries_are_believed_again();
}

#[test]
fn a_key_that_became_known_is_replaced_by_what_the_runbook_says() {
    let Some(rig) = rig::here("moves a tag") else { return };
    let _cluster = alone();
    let tag = Tag::push(&rig, "rotated");
    let namespace = Namespace::new("forged-rotated");
    namespace.apply(&deployment("web", &tag.short, 1)).succeeded();
    namespace.pods_when("app=web", 1);
    let key = || {
        let held =
            kubectl(&["-n", "tagpin-system", "get", "secret", "tagpin-pin-keys", "-o", "jsonpath={.data}"]);
        held.ok.then_some(held.out)
    };
    let before = wait_for("the keys", LIMIT, key);
    rig.push(&tag.full, "moved");
    ours(&["scale", "deployment/tagpin", "--replicas=0"]);
    when_ready(0);
    none_is_leaving();
    ours(&["delete", "secret", "tagpin-pin-keys"]);
    ours(&["scale", "deployment/tagpin", "--replicas=2"]);
    when_ready(2);
    let after = wait_for("another key", LIMIT, key);
    assert_ne!(before, after);
    armed();
    // Older pods count without a mark, and new pods are marked with the new key.
    namespace.kubectl(&["scale", "deployment/web", "--replicas=2"]).succeeded();
    tag.is_right_in(&namespace, 2, &[]);
}

#[test]
fn a_controller_that_is_a_config_map_makes_no_pod_foreign() {
    let _cluster = undisturbed();
    let namespace = Namespace::new("forged-owner");
    let map = namespace.get("configmap", "kube-root-ca.crt");
    let owner = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "kube-root-ca.crt", "uid": map["metadata"]["uid"],
        "controller": true,
    }]);
    let forged = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "forged", "ownerReferences": owner },
        "spec": { "containers": [{ "name": "app", "image": "web:1.4.2" }] },
    });
    namespace.apply_again(&forged.to_string());
    let seen = namespace.get("pod", "forged");
    assert!(image(&seen).starts_with("web:1.4.2@sha256:"), "{}", image(&seen));
}

#[test]
fn a_revision_that_a_person_made_excuses_nothing() {
    let _cluster = undisturbed();
    let namespace = Namespace::new("forged-revision");
    namespace.apply(&stateful_set("db", "web:1.4.2", 0)).succeeded();
    let set = namespace.get("statefulset", "db");
    let owner = json!([{
        "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": set["metadata"]["uid"],
        "controller": true,
    }]);
    let revision = |owners: &Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": { "name": "db-forged", "labels": { "app": "db" }, "ownerReferences": owners },
            "revision": 7,
            "data": { "spec": { "template": { "spec": {
                "containers": [{ "name": "app", "image": "web:latest" }] } } } },
        })
        .to_string()
    };
    for owners in [&owner, &json!([])] {
        namespace.kubectl_with(&["create", "-f", "-"], &revision(owners)).refused_with("TagForbidden");
    }
    namespace.kubectl(&["set", "image", "statefulset/db", "app=web:latest"]).refused_with("TagForbidden");
    // The revisions that the controller makes are its own business.
    namespace.kubectl(&["set", "image", "statefulset/db", "app=web:1.4.1"]).succeeded();
    wait_for("a second revision", LIMIT, || {
        let revisions = namespace.kubectl(&["get", "controllerrevisions", "-o", "name"]).succeeded();
        (revisions.lines().count() == 2).then_some(())
    });
}
