//! Very large objects are judged or refused by name, because an HTTP error of the webhook would let them through.

use serde_json::{Map, Value, json};

use crate::support::{LIMIT, Namespace, kubectl_with, undisturbed, wait_for};

const STRICT: &str = "{ mode: Enforce, pin: { targets: [ Pods ] } }";

/// Returns a pod with this image.
fn pod(image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web" },
        "spec": { "containers": [ { "name": "app", "image": image } ] },
    })
}

/// Returns this many image volumes, which no container mounts.
fn image_volumes(count: usize) -> Value {
    let image = json!({ "reference": "web:1.4.2", "pullPolicy": "IfNotPresent" });
    (0..count).map(|n| json!({ "name": format!("v{n}"), "image": image })).collect()
}

#[test]
fn a_pod_of_very_many_labels_is_judged() {
    let _cluster = undisturbed();
    let namespace = Namespace::new("labels");
    let mut object = pod("web:latest");
    object["metadata"]["labels"] =
        Value::Object((0..1025).map(|n| (format!("l{n}"), json!(""))).collect::<Map<_, _>>());
    namespace.kubectl_with(&["create", "-f", "-"], &object.to_string()).refused_with("TagForbidden");
}

#[test]
fn a_pod_that_is_six_times_larger_in_its_review_is_judged() {
    let _cluster = undisturbed();
    let namespace = Namespace::new("escaped");
    let mut object = pod("web:latest");
    object["spec"]["containers"][0]["env"] =
        (0..10).map(|n| json!({ "name": format!("V{n}"), "value": "<".repeat(125_000) })).collect();
    // Sends the raw text. Otherwise kubectl would escape it, and the API server would refuse it as too large.
    let path = format!("/api/v1/namespaces/{}/pods", namespace.name);
    kubectl_with(&["create", "--raw", &path, "-f", "-"], &object.to_string()).refused_with("TagForbidden");
}

#[test]
fn a_pod_of_very_many_images_is_refused_by_name_and_a_controllers_pod_of_them_runs() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("many");
    let mut object = pod("web:1.4.2");
    object["spec"]["volumes"] = image_volumes(1000);
    let workload = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": object["spec"] },
        },
    });
    let create = |object: &Value| namespace.kubectl_with(&["create", "-f", "-"], &object.to_string());
    create(&workload).succeeded();
    namespace.policy("strict", STRICT);
    let message = create(&object).refused_with("ReviewUnreadable");
    assert!(message.contains("more than 1000 images"), "{message}");
    // The template existed before the policy, so the Deployment may be scaled.
    namespace.kubectl(&["scale", "deployment/web", "--replicas=1"]).succeeded();
    wait_for("the pod of the Deployment runs", LIMIT, || {
        let pods = namespace.pods("app=web");
        pods.iter().any(|pod| pod["status"]["phase"] == "Running").then_some(())
    });
    let changed = r#"{"spec":{"template":{"metadata":{"labels":{"tier":"a"}}}}}"#;
    namespace.kubectl(&["patch", "deployment/web", "-p", changed]).refused_with("ReviewUnreadable");
}
