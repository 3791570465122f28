//! Well-formed reviews: identity, patch, deadline, repetition.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tagpin_domain::asker::Secrets;
use tagpin_domain::fact::Fact;
use tagpin_kube::{Cluster, Observed};
use tagpin_objects::kinds::{Kinds, REPLICA_SET};
use tagpin_review::Effort;
use tokio::time::Instant;

use crate::support::webhook::{
    NoAnswer, REPLICA_SET_CONTROLLER, Table, Tables, Webhook, create, deployment, pod, update,
};
use tagpin_testing::digest;

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

/// Returns the object with the patch applied.
pub(super) fn patched(mut object: Value, patch: &Value) -> Value {
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

#[tokio::test(start_paused = true)]
async fn a_pod_without_its_pin_is_refused_only_while_pods_are_sent_to_be_pinned() {
    let webhook = webhook();
    let decision = async || {
        let response = webhook.validate(&create(pod("web:1"))).await.response();
        response["auditAnnotations"]["decision"].clone()
    };
    assert_eq!(decision().await, "deny");
    let configuration = |webhooks: Value| {
        let document = json!({ "metadata": { "name": "zz-tagpin" }, "webhooks": webhooks });
        Observed::Present(Arc::new(serde_json::from_value(document).unwrap()))
    };
    let entry = json!({
        "name": "pin.tagpin.dev", "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": ["v1"],
    });
    let pinning = &webhook.cluster.pinning;
    pinning.report(configuration(json!([entry])));
    assert_eq!(decision().await, "deny");
    for off in [configuration(json!([])), Observed::Absent] {
        pinning.report(off);
        assert_eq!(decision().await, "warn");
    }
    // The API server learns that the configuration is gone before the replica does.
    pinning.report(configuration(json!([entry])));
    let hears_it_later = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        pinning.report(Observed::Absent);
    };
    assert_eq!(tokio::join!(decision(), hears_it_later).0, "warn");
}

/// Returns the review of the leader's canary with this namespace, name and nonce.
fn canary(namespace: &str, name: &str, nonce: &str) -> Value {
    let mut review = create(json!({
        "apiVersion": "v1", "kind": "PodTemplate",
        "metadata": { "name": name, "namespace": namespace, "annotations": { "tagpin.dev/canary": nonce } },
        "template": { "spec": { "containers": [ { "name": "canary", "image": "web:latest" } ] } },
    }));
    review["request"]["namespace"] = json!(namespace);
    review
}

#[tokio::test]
async fn a_canary_is_answered_with_its_own_nonce_and_nothing_else_is() {
    let webhook = webhook();
    let nonce = "0123456789abcdef";
    let response = webhook.validate(&canary("kube-system", "tagpin-canary", nonce)).await.response();
    assert_eq!(response["allowed"], true);
    assert_eq!(response["warnings"], json!([format!("tagpin answered canary {nonce}")]));
    assert_eq!(response["auditAnnotations"]["decision"], "canary");
    for (name, nonce) in [("other", nonce), ("tagpin-canary", "no nonce"), ("tagpin-canary", "")] {
        let response = webhook.validate(&canary("kube-system", name, nonce)).await.response();
        assert_eq!(response["auditAnnotations"]["decision"], "skip", "{name} {nonce}");
        assert_eq!(response.get("warnings"), None, "{name} {nonce}");
    }
    // In a namespace that is judged, the name of the canary gets nobody around the policies.
    let elsewhere = webhook.validate(&canary("shop", "tagpin-canary", nonce)).await;
    assert_eq!(elsewhere.codes(), ["TagForbidden"]);
}

#[tokio::test]
async fn break_glass_allows_without_a_look_and_says_so_to_the_audit_log() {
    let registry = registry();
    let webhook = Webhook::new(&[("baseline", baseline())], registry.clone());
    let review = create(deployment("slow:latest"));
    assert_eq!(webhook.validate(&review).await.codes(), ["TagForbidden"]);
    let asked = registry.asked();
    let response = webhook.post("/validate/break-glass?timeout=10s", review.to_string()).await.response();
    assert_eq!(response["allowed"], true);
    assert_eq!(response["auditAnnotations"], json!({ "decision": "break-glass" }));
    assert_eq!(registry.asked(), asked);
    let line = r#"admission_requests_total{webhook="validate",operation="CREATE",kind="Deployment",decision="break-glass"}"#;
    assert_eq!(webhook.count(line), 1);
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
    object["metadata"]["ownerReferences"] = replica_set();
    let mut review = create(object.clone());
    assert_eq!(webhook.validate(&review).await.codes(), ["TagForbidden"]);
    review["request"]["userInfo"]["username"] = json!(REPLICA_SET_CONTROLLER);
    let response = webhook.validate(&review).await.response();
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"].to_string().contains("TagForbidden"));
    // The identity alone is not enough: a pod of a custom resource is no child.
    object["metadata"]["ownerReferences"][0]["apiVersion"] = json!("example.dev/v1");
    let mut review = create(object);
    review["request"]["userInfo"]["username"] = json!(REPLICA_SET_CONTROLLER);
    assert_eq!(webhook.validate(&review).await.codes(), ["TagForbidden"]);
}

/// Returns a review that adds an ephemeral container with this image.
fn debug(image: &str) -> Value {
    let old = pod("old:7");
    let mut new = old.clone();
    new["spec"]["ephemeralContainers"] = json!([{ "name": "debug", "image": image }]);
    let mut review = update(new, old);
    review["request"]["subResource"] = json!("ephemeralcontainers");
    review
}

#[tokio::test]
async fn an_ephemeral_container_is_pinned_without_an_annotation_and_each_warning_is_given_once() {
    let warn = json!({ "mode": "Warn", "pin": { "targets": ["Pods"] },
        "rules": { "tags": { "forbidden": ["1", "latest"] } } });
    let facts =
        ["1", "latest"].map(|tag| (format!("docker.io/library/web:{tag}"), Fact::Present(digest('a'))));
    let tables = Tables { facts: facts.into(), ..Tables::default() };
    let webhook = Webhook::new(&[("soft", warn)], Table::of(tables));
    for (image, warned_by_mutate) in [("web", true), ("web:1", false)] {
        let mut review = debug(image);
        let answered = webhook.mutate(&review).await;
        let pinned = format!("{image}@{}", digest('a'));
        let expected =
            json!([{ "op": "replace", "path": "/spec/ephemeralContainers/0/image", "value": pinned }]);
        assert_eq!(answered.patch(), expected);
        // /validate cannot see that the tag was omitted, because there is no annotation, so /mutate warns. A written
        // tag is still in the reference, so /validate warns.
        assert_eq!(answered.warnings().len(), usize::from(warned_by_mutate), "{image}");
        review["request"]["object"]["spec"]["ephemeralContainers"][0]["image"] = json!(pinned);
        let warnings = webhook.validate(&review).await.warnings();
        assert_eq!(warnings.len(), usize::from(!warned_by_mutate), "{image} {warnings:?}");
    }
}

#[tokio::test]
async fn a_forbidden_ephemeral_container_is_left_as_written_and_refused() {
    let webhook = webhook();
    for image in ["web", "web:latest"] {
        assert_eq!(webhook.mutate(&debug(image)).await.patch(), Value::Null);
        assert_eq!(webhook.validate(&debug(image)).await.codes(), ["TagForbidden"]);
    }
}

#[tokio::test]
async fn other_sub_resources_are_not_looked_at() {
    let webhook = webhook();
    for other in ["resize", "status", "binding", "eviction"] {
        let mut review = debug("web");
        review["request"]["subResource"] = json!(other);
        assert_eq!(webhook.mutate(&review).await.patch(), Value::Null);
        assert_eq!(webhook.validate(&review).await.decision(), "skip");
    }
    let mut review = create(deployment("web:latest"));
    review["request"]["subResource"] = json!("scale");
    assert_eq!(webhook.validate(&review).await.decision(), "skip");
}

#[tokio::test]
async fn every_list_of_a_pod_is_pinned_and_the_annotation_names_each() {
    let webhook = webhook();
    let mut object = pod("web:1");
    object["metadata"]["annotations"] =
        json!({ "a/b": "c", "tagpin.dev/original": "{\"containers/gone\":\"x:1\"}" });
    object["spec"]["initContainers"] = json!([{ "name": "i\"/~", "image": "docker.io/web:1" }]);
    object["spec"]["volumes"] = json!([{ "name": "v" }, { "name": "d", "image": { "reference": "web:1" } }]);
    let object = patched(object.clone(), &webhook.mutate(&create(object)).await.patch());
    let pin = digest('a');
    assert_eq!(object["spec"]["containers"][0]["image"], format!("web:1@{pin}"));
    assert_eq!(object["spec"]["initContainers"][0]["image"], format!("docker.io/web:1@{pin}"));
    assert_eq!(object["spec"]["volumes"][1]["image"]["reference"], format!("web:1@{pin}"));
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(annotations["a/b"], "c");
    let original: Value = serde_json::from_str(annotations["tagpin.dev/original"].as_str().unwrap()).unwrap();
    assert_eq!(
        original,
        json!({ "containers/app": "web:1", "initContainers/i\"/~": "docker.io/web:1", "volumes/d": "web:1" })
    );
}

#[tokio::test]
async fn an_annotation_that_says_nothing_true_goes() {
    let webhook = webhook();
    let mut object = pod(&format!("web:1@{}", digest('b')));
    object["metadata"]["annotations"] = json!({ "tagpin.dev/original": "{\"containers/app\":\"web:2\"}" });
    let patch = webhook.mutate(&create(object)).await.patch();
    assert_eq!(patch, json!([{ "op": "remove", "path": "/metadata/annotations/tagpin.dev~1original" }]));
}

#[tokio::test]
async fn the_registry_is_asked_with_the_pods_own_secrets_else_with_its_service_accounts() {
    let registry = registry();
    let webhook = Webhook::new(&[("baseline", baseline())], registry.clone());
    webhook.cluster.accounts.apply("shop".into(), "default".into(), vec!["common".into()]);
    webhook.cluster.accounts.apply("shop".into(), "robot".into(), vec!["robots".into()]);
    let mut object = deployment("web:1");
    let spec = |object: &mut Value, key: &str, value: Value| object["spec"]["template"]["spec"][key] = value;
    webhook.validate(&create(object.clone())).await;
    spec(&mut object, "serviceAccountName", json!("robot"));
    webhook.validate(&create(object.clone())).await;
    spec(&mut object, "imagePullSecrets", json!([{ "name": "own" }, { "name": "other" }]));
    webhook.validate(&create(object.clone())).await;
    let askers = registry.askers();
    assert!(askers.iter().all(|asker| asker.namespace == "shop"));
    let secrets: Vec<_> = askers.into_iter().map(|asker| asker.secrets.names().to_vec()).collect();
    assert_eq!(secrets, [vec!["common"], vec!["robots"], vec!["own", "other"]]);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_nobody_knows_may_have_pull_secrets() {
    let registry = registry();
    let webhook = Webhook::new(&[("baseline", baseline())], registry.clone());
    let mut object = deployment("web:1");
    object["spec"]["template"]["spec"]["serviceAccountName"] = json!("new");
    webhook.validate(&create(object.clone())).await;
    webhook.cluster.accounts.apply("shop".into(), "new".into(), Vec::new());
    webhook.validate(&create(object.clone())).await;
    webhook.cluster.accounts.delete("shop", "new");
    webhook.validate(&create(object)).await;
    let secrets: Vec<_> = registry.askers().into_iter().map(|asker| asker.secrets).collect();
    assert_eq!(secrets, [Secrets::Unknown, Secrets::Known(Vec::new()), Secrets::Unknown]);
}

#[tokio::test]
async fn suggestions_cost_something_only_where_a_person_reads_them() {
    let registry = registry();
    let webhook = Webhook::new(&[("baseline", baseline())], registry.clone());
    let mut review = create(pod("web:latest"));
    webhook.validate(&review).await;
    assert!(matches!(registry.efforts()[..], [Effort::Until(_)]));
    review["request"]["dryRun"] = json!(true);
    assert_eq!(webhook.validate(&review).await.codes(), ["TagForbidden"]);
    assert!(matches!(registry.efforts()[..], [Effort::Cached]));
    let mut child = pod("web:latest");
    child["metadata"]["ownerReferences"] = replica_set();
    let mut review = create(child);
    review["request"]["userInfo"]["username"] = json!(REPLICA_SET_CONTROLLER);
    assert_eq!(webhook.validate(&review).await.decision(), "warn");
    assert!(registry.efforts().is_empty());
}

/// Returns the owner references of a pod of a ReplicaSet.
fn replica_set() -> Value {
    json!([
        { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "rs-1", "controller": true }
    ])
}

#[tokio::test(start_paused = true)]
async fn owners_are_looked_for_only_when_a_policy_names_kinds() {
    let about_jobs =
        json!({ "mode": "Enforce", "match": { "kinds": [{ "group": "batch", "kind": "Job" }] } });
    let mut child = pod("web:latest");
    child["metadata"]["ownerReferences"] = replica_set();
    let over = |policies: &[(&str, Value)]| {
        Webhook::over(
            Cluster::new(Kinds::default(), NoAnswer),
            policies,
            registry().ports(),
            256,
            Timestamp::now,
        )
    };
    let started = Instant::now();
    let webhook = over(&[("baseline", baseline())]);
    assert_eq!(webhook.validate(&create(child.clone())).await.codes(), ["TagForbidden"]);
    assert_eq!(started.elapsed(), Duration::ZERO);
    // If the API server ignores the deadline of a read, the webhook gives up before its caller does.
    let webhook = over(&[("jobs", about_jobs)]);
    let late = webhook.validate(&create(child)).await;
    assert_eq!(late.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(webhook.count("admission_turned_away_total{reason=\"late\"}"), 1);
    assert_eq!(webhook.count("admission_inflight"), 0);
}

#[tokio::test]
async fn an_old_template_is_judged_again_only_when_it_changes() {
    let strict = json!({ "mode": "Enforce", "children": "Enforce" });
    let webhook = Webhook::new(&[("strict", strict)], registry());
    let old = deployment("web:latest");
    let mut scaled = old.clone();
    scaled["spec"]["replicas"] = json!(5);
    scaled["metadata"]["labels"] = json!({ "a": "b" });
    assert_eq!(webhook.validate(&update(scaled, old.clone())).await.decision(), "skip");
    let mut restarted = old.clone();
    restarted["spec"]["template"]["metadata"]["annotations"] = json!({ "restartedAt": "now" });
    assert_eq!(webhook.validate(&update(restarted, old)).await.codes(), ["TagForbidden"]);
}

#[tokio::test]
async fn what_another_revision_carries_is_warned_of_by_the_uid_that_the_server_knows() {
    let webhook = webhook();
    let owner = tagpin_testing::owned_by("apps/v1", "Deployment", "web", "deployment-1");
    let mut replica_set = deployment("web:latest");
    replica_set["metadata"] =
        json!({ "name": "web-1", "namespace": "shop", "uid": "rs-1", "ownerReferences": owner });
    webhook.cluster.workloads.apply(tagpin_testing::object(REPLICA_SET, replica_set));
    let undo = update(deployment("web:latest"), deployment("web:1"));
    assert_eq!(webhook.validate(&undo).await.decision(), "warn");
    let mut forged = undo.clone();
    forged["request"]["oldObject"]["metadata"]["uid"] = json!("deployment-2");
    assert_eq!(webhook.validate(&forged).await.codes(), ["TagForbidden"]);
}

#[tokio::test]
async fn an_excluded_namespace_is_left_alone_whoever_asks() {
    let webhook = webhook();
    let mut review = create(pod("web:1"));
    review["request"]["namespace"] = json!("kube-system");
    assert_eq!(webhook.mutate(&review).await.patch(), Value::Null);
    review["request"]["object"] = pod("web:latest");
    assert_eq!(webhook.validate(&review).await.decision(), "skip");
}

#[tokio::test]
async fn what_was_decided_is_counted_by_closed_words() {
    let webhook = webhook();
    webhook.mutate(&create(pod("web:1"))).await;
    webhook.validate(&create(pod("web:latest"))).await;
    webhook.validate(&create(deployment("web:1"))).await;
    let mut foreign = pod("web:1");
    foreign["metadata"]["ownerReferences"] =
        tagpin_testing::owned_by("example.dev/v1", "Database", "db", "db-1");
    let mut foreign = create(foreign);
    foreign["request"]["userInfo"]["username"] = json!("system:serviceaccount:databases:operator");
    webhook.mutate(&foreign).await;
    let expected = [
        r#"admission_requests_total{webhook="pin",operation="CREATE",kind="Pod",decision="pin"} 1"#,
        r#"admission_requests_total{webhook="pin",operation="CREATE",kind="Pod",decision="allow"} 1"#,
        r#"admission_requests_total{webhook="validate",operation="CREATE",kind="Pod",decision="deny"} 1"#,
        r#"admission_requests_total{webhook="validate",operation="CREATE",kind="Deployment",decision="allow"} 1"#,
        r#"admission_duration_seconds_count{webhook="validate"} 2"#,
        r#"images_evaluated_total{result="deny",code="TagForbidden"} 1"#,
        r#"images_evaluated_total{result="allow",code="none"} 1"#,
        r#"pins_total{source="registry"} 1"#,
        "patch_operations_total 2",
        "foreign_owner_images_total 1",
        "unmatched_images_total 0",
        "admission_deadline_exceeded_total 0",
        "admission_inflight 0",
    ];
    let metrics = webhook.metrics();
    for line in expected {
        assert!(metrics.lines().any(|seen| seen == line), "{line} is not in\n{metrics}");
    }
    // Without a policy the registry is not asked, and the unmatched image is counted.
    let webhook = Webhook::new(&[], registry());
    assert_eq!(webhook.validate(&create(pod("web:latest"))).await.decision(), "allow");
    assert_eq!(webhook.count("unmatched_images_total"), 1);
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

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_reported_a_moment_later_is_waited_for() {
    let mut spec = baseline();
    spec["match"] = json!({ "namespaceSelector": { "matchExpressions": [
        { "key": "baseline", "operator": "NotIn", "values": ["off"] } ] } });
    let webhook = Webhook::new(&[("baseline", spec)], registry());
    let review = create(pod("web:latest"));
    let reported = async {
        tokio::task::yield_now().await;
        let labels = [("baseline".to_owned(), "off".to_owned())].into();
        webhook.cluster.namespaces.apply("shop".to_owned(), labels);
    };
    let (answered, ()) = tokio::join!(webhook.validate(&review), reported);
    assert_eq!(answered.response()["allowed"], true);
}

#[tokio::test]
async fn who_is_refused_again_is_remembered_with_the_policy_and_the_image() {
    let limited = Fact::RateLimited { retry_after: None, last_known: None };
    let facts = [("web:1", Fact::Present(digest('a'))), ("busy:1", limited)];
    let facts = facts.map(|(image, fact)| (format!("docker.io/library/{image}"), fact)).into();
    let registry = Table::of(Tables { facts, ..Tables::default() });
    let webhook = Webhook::new(&[("baseline", baseline()), ("audit", json!({}))], registry);
    for name in ["runner-a", "runner-b", "runner-c"] {
        let mut object = pod("web");
        object["metadata"]["name"] = json!(name);
        let mut review = create(object);
        review["request"]["userInfo"]["username"] = json!("system:serviceaccount:ci:runner");
        review["request"]["dryRun"] = json!(name == "runner-b");
        webhook.mutate(&review).await;
        assert_eq!(webhook.validate(&review).await.response()["allowed"], false);
    }
    webhook.validate(&create(pod("web:1"))).await;
    webhook.validate(&create(pod("busy:1"))).await;
    let page = webhook.remembered.page(Timestamp::now());
    let refused: Vec<_> = page
        .refused
        .iter()
        .map(|row| {
            let of = &row.refused;
            (
                row.id().to_string(),
                of.kind.as_str(),
                of.user.as_str(),
                of.image.as_str(),
                of.code.as_str(),
                of.count,
            )
        })
        .filter(|(.., count)| *count > 1)
        .collect();
    let runner = "system:serviceaccount:ci:runner";
    let policy = "clusterimagepolicy/baseline".to_owned();
    assert_eq!(refused, [(policy, "Pod", runner, "web", "TagForbidden", 3)]);
    let unpinned =
        page.unpinned.iter().map(|row| (row.namespace.as_str(), row.image.as_str(), row.code.as_str()));
    assert_eq!(unpinned.collect::<Vec<_>>(), [("shop", "busy:1", "RateLimited")]);
}
