//! The protocol of a good review: identity, patch, deadline, repetition.

use std::time::Duration;

use serde_json::{Value, json};
use tagpin::domain::fact::Fact;
use tokio::time::Instant;

use crate::cluster::digest;
use crate::support::webhook::{
    REPLICA_SET_CONTROLLER, Table, Tables, Webhook, create, deployment, pod, update,
};

fn baseline() -> Value {
    json!({ "mode": "Enforce", "pin": { "targets": ["Pods"] } })
}

fn registry() -> Table {
    let facts = [("docker.io/library/web:1".to_owned(), Fact::Present(digest('a')))].into();
    Table::of(Tables { facts, hanging: vec!["docker.io/library/slow:1".to_owned()], ..Tables::default() })
}

fn webhook() -> Webhook {
    Webhook::new(&[("baseline", baseline())], registry())
}

/// The object with the patch applied.
fn patched(mut object: Value, patch: &Value) -> Value {
    if !patch.is_null() {
        let patch: json_patch::Patch = serde_json::from_value(patch.clone()).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
    }
    object
}

#[tokio::test]
async fn a_pod_is_pinned_and_its_own_answer_needs_no_more() {
    let webhook = webhook();
    let answered = webhook.mutate(&create(pod("web:1"))).await;
    assert_eq!(answered.response()["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    assert_eq!(answered, webhook.mutate(&create(pod("web:1"))).await, "the same question, the same bytes");
    let object = patched(pod("web:1"), &answered.patch());
    assert_eq!(object["spec"]["containers"][0]["image"], format!("web:1@{}", digest('a')));
    assert_eq!(object["metadata"]["annotations"]["tagpin.dev/original"], r#"{"containers/app":"web:1"}"#);
    let audit = &answered.response()["auditAnnotations"];
    assert_eq!(audit["pinned"], format!(r#"{{"containers/app":"{}"}}"#, digest('a')));

    let again = webhook.mutate(&create(object.clone())).await;
    assert_eq!(again.patch(), Value::Null);
    let validated = webhook.validate(&create(object)).await.response();
    assert_eq!(validated["allowed"], true);
    assert_eq!(validated["auditAnnotations"]["decision"], "allow");
}

#[tokio::test]
async fn a_digest_costs_no_question() {
    let registry = registry();
    let webhook = Webhook::new(&[("baseline", baseline())], registry.clone());
    let object = pod(&format!("web:1@{}", digest('b')));
    assert_eq!(webhook.mutate(&create(object.clone())).await.patch(), Value::Null);
    assert_eq!(webhook.validate(&create(object)).await.response()["allowed"], true);
    assert_eq!(registry.asked(), 0);
}

#[tokio::test]
async fn an_answer_comes_before_the_callers_timeout() {
    let webhook = webhook();
    let started = Instant::now();
    let answered = webhook.post("/validate?timeout=1s", create(pod("slow:1")).to_string()).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let response = answered.response();
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"][0].as_str().unwrap().contains("[RegistryUnavailable]"), "{response}");
}

#[tokio::test]
async fn a_refusal_is_forbidden_with_its_text_and_causes() {
    let webhook = webhook();
    let response = webhook.validate(&create(deployment("web:latest"))).await.response();
    assert_eq!(response["allowed"], false);
    let status = &response["status"];
    assert_eq!((status["code"].as_u64(), status["reason"].as_str()), (Some(403), Some("Forbidden")));
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("image \"web:latest\" (container app): "), "{message}");
    assert_eq!(status["details"]["causes"][0]["field"], "spec.template.spec.containers[0].image");
    assert_eq!(response["auditAnnotations"]["decision"], "deny");
    assert_eq!(response["auditAnnotations"]["codes"], "TagForbidden");
    assert_eq!(response["auditAnnotations"]["policies"], "clusterimagepolicy/baseline");
}

#[tokio::test]
async fn an_update_that_changes_no_image_is_allowed_and_asks_nothing() {
    let registry = registry();
    let webhook = Webhook::new(&[("baseline", baseline())], registry.clone());
    let old = deployment("web:latest");
    let mut new = old.clone();
    new["spec"]["template"]["metadata"]["annotations"] =
        json!({ "kubectl.kubernetes.io/restartedAt": "now" });
    let response = webhook.validate(&update(new, old)).await.response();
    assert_eq!(response["allowed"], true);
    assert_eq!(response.get("warnings"), None);
    assert_eq!(registry.asked(), 0);
}

#[tokio::test]
async fn a_child_is_never_refused_and_anybody_else_with_its_owner_is() {
    let webhook = webhook();
    let mut object = pod("web:latest");
    object["metadata"]["ownerReferences"] = json!([
        { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "rs-1", "controller": true }
    ]);
    let mut review = create(object.clone());
    assert_eq!(webhook.validate(&review).await.codes(), ["TagForbidden"]);
    review["request"]["userInfo"]["username"] = json!(REPLICA_SET_CONTROLLER);
    let response = webhook.validate(&review).await.response();
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"].to_string().contains("TagForbidden"));
    // The identity alone is not enough either: of a custom resource it is no child.
    object["metadata"]["ownerReferences"][0]["apiVersion"] = json!("example.dev/v1");
    let mut review = create(object);
    review["request"]["userInfo"]["username"] = json!(REPLICA_SET_CONTROLLER);
    assert_eq!(webhook.validate(&review).await.codes(), ["TagForbidden"]);
}

#[tokio::test]
async fn a_mirror_pod_of_a_node_is_left_alone_and_anybody_elses_is_not() {
    let webhook = webhook();
    let mut object = pod("web:latest");
    object["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" });
    let mut review = create(object);
    assert_eq!(webhook.validate(&review).await.codes(), ["TagForbidden"]);
    review["request"]["userInfo"]["groups"] = json!(["system:nodes"]);
    assert_eq!(webhook.validate(&review).await.response()["allowed"], true);
    assert_eq!(webhook.mutate(&review).await.patch(), Value::Null);
}

#[tokio::test]
async fn what_is_being_deleted_only_loses_its_finalizers() {
    let webhook = webhook();
    let old = pod("web:1");
    let mut new = pod("web:latest");
    new["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(webhook.validate(&update(new, old)).await.response()["allowed"], true);
}

#[tokio::test]
async fn ephemeral_containers_are_pinned_without_an_annotation_and_warned_of_there() {
    let warn = json!({ "mode": "Warn", "pin": { "targets": ["Pods"] },
        "rules": { "tags": { "forbidden": ["1"] } } });
    let webhook = Webhook::new(&[("soft", warn)], registry());
    let old = pod("old:7");
    let mut new = old.clone();
    new["spec"]["ephemeralContainers"] = json!([{ "name": "debug", "image": "web:1" }]);
    let mut review = update(new.clone(), old.clone());
    review["request"]["subResource"] = json!("ephemeralcontainers");
    let answered = webhook.mutate(&review).await;
    let expected = json!([{ "op": "replace", "path": "/spec/ephemeralContainers/0/image",
        "value": format!("web:1@{}", digest('a')) }]);
    assert_eq!(answered.patch(), expected);
    assert!(answered.response()["warnings"].to_string().contains("TagForbidden"));
    // Other sub-resources change no image.
    review["request"]["subResource"] = json!("resize");
    assert_eq!(webhook.mutate(&review).await.patch(), Value::Null);
}

#[tokio::test]
async fn a_bare_pod_that_is_applied_again_gets_its_pin_back_without_a_question() {
    let registry = registry();
    let webhook = Webhook::new(&[("baseline", baseline())], registry.clone());
    let pinned = format!("web:1@{}", digest('c'));
    let mut old = pod(&pinned);
    old["metadata"]["annotations"] = json!({ "tagpin.dev/original": r#"{"containers/app":"web:1"}"# });
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = json!("web:1");
    let answered = webhook.mutate(&update(new.clone(), old.clone())).await;
    let object = patched(new, &answered.patch());
    assert_eq!(object["spec"]["containers"][0]["image"], pinned.as_str());
    assert_eq!(webhook.validate(&update(object, old)).await.response()["allowed"], true);
    assert_eq!(registry.asked(), 0);
}
