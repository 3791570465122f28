//! The baseline policy: the fields that are applied, the fields that are left to others, and its deletion.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};
use tagpin_domain::policy::Mode;
use tagpin_domain::slot::Role;
use tagpin_kube::Cluster;
use tagpin_kube::client::ApiReader;
use tagpin_leader::baseline::{Baseline, keep};
use tagpin_leader::reconcile::Reconcile;
use tagpin_objects::image_policy::{ClusterException, ClusterImagePolicySpec};
use tagpin_objects::kinds::Kinds;
use tagpin_review::Surroundings as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use tagpin_testing::scripted_api::{Api, Call};

const BASELINE: &str = "/apis/tagpin.dev/v1alpha1/clusterimagepolicies/baseline";

fn wanted() -> Baseline {
    Baseline {
        mode: Mode::Enforce,
        pin: true,
        namespace_selector: LabelSelector::default(),
        exceptions: vec![],
    }
}

fn exception(name: &str) -> ClusterException {
    serde_json::from_value(json!({
        "name": name, "reason": "it makes its own pods", "users": [format!("system:serviceaccount:{name}:*")],
        "rules": ["tags"], "expires": "2027-01-31T00:00:00Z",
    }))
    .unwrap()
}

fn document() -> Value {
    json!({
        "apiVersion": "tagpin.dev/v1alpha1",
        "kind": "ClusterImagePolicy",
        "metadata": { "name": "baseline", "labels": { "app.kubernetes.io/managed-by": "tagpin" } },
        "spec": {
            "mode": "Enforce",
            "match": { "slots": ["Container", "InitContainer", "ImageVolume"] },
            "rules": { "tags": { "forbidden": ["latest"] }, "existence": "Tags" },
            "pin": { "targets": ["Pods"] },
        },
    })
}

/// Returns the applied document as the API server holds it.
fn live(document: &Value, generation: i64) -> Value {
    let mut live = document.clone();
    live["metadata"]["uid"] = json!("u");
    live["metadata"]["generation"] = json!(generation);
    live["metadata"]["resourceVersion"] = json!(generation.to_string());
    live
}

/// The leader's keeper of the baseline, and the API server.
struct Keeper {
    api: Api,
    cluster: Arc<Cluster>,
    differs: watch::Receiver<BTreeSet<String>>,
    reconcile: Reconcile,
    task: JoinHandle<std::convert::Infallible>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    fn start(wanted: Option<Baseline>) -> Self {
        let (client, api) = Api::new();
        let cluster =
            Arc::new(Cluster::new(Kinds::default(), ApiReader::new(client.clone(), Kinds::default())));
        let reconcile = Reconcile::default();
        let differs = watch::Sender::default();
        let told = differs.subscribe();
        let task = tokio::spawn(keep(client, Arc::clone(&cluster), wanted, differs, reconcile.clone()));
        Self { api, cluster, differs: told, reconcile, task }
    }

    async fn get(&mut self) -> Call {
        self.api.expect(&format!("GET {BASELINE}")).await
    }

    /// Returns the next call, which must apply without force.
    async fn apply(&mut self) -> Call {
        let call = self.api.expect(&format!("PATCH {BASELINE}")).await;
        assert_eq!(call.content_type, "application/apply-patch+yaml");
        assert_eq!(call.query["fieldManager"], "tagpin-baseline");
        assert_ne!(call.query.get("force").map(String::as_str), Some("true"));
        call
    }

    /// Returns the fields that differ from the values of the release.
    fn differing(&self) -> Vec<String> {
        self.differs.borrow().iter().cloned().collect()
    }

    /// Reports this policy as the watch does.
    fn tell(&self, live: &Value) {
        use tagpin_kube::image_policy::ClusterImagePolicy;
        use tagpin_kube::policies::Reported;
        let metadata = serde_json::from_value(live["metadata"].clone()).unwrap();
        self.cluster.policies.apply(Reported::parse::<ClusterImagePolicy>(
            &metadata,
            live["spec"].clone(),
            Value::Null,
        ));
    }
}

#[test]
fn the_document_is_this_and_means_what_it_should() {
    assert_eq!(wanted().document(), document());
    let selector: LabelSelector =
        serde_json::from_value(json!({ "matchLabels": { "env": "prod" } })).unwrap();
    let exceptions = vec![exception("runner"), exception("velero")];
    let other =
        Baseline { mode: Mode::Audit, pin: false, namespace_selector: selector, exceptions }.document();
    assert_eq!(other["spec"]["exceptions"][1]["name"], "velero");
    assert_eq!(other["spec"]["mode"], "Audit");
    assert_eq!(other["spec"]["pin"]["targets"], json!([]));
    assert_eq!(other["spec"]["match"]["namespaceSelector"], json!({ "matchLabels": { "env": "prod" } }));
    // The schema knows every field, so nothing is lost on the way.
    for document in [document(), other] {
        let spec: ClusterImagePolicySpec = serde_json::from_value(document["spec"].clone()).unwrap();
        assert!(!spec.r#match.common.slots.contains(&Role::EphemeralContainer));
        let back = serde_json::to_value(&spec).unwrap();
        for pointer in ["/mode", "/match/slots", "/rules/tags/forbidden", "/rules/existence", "/pin/targets"]
        {
            assert_eq!(back.pointer(pointer), document["spec"].pointer(pointer), "{pointer}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_baseline_that_is_missing_is_applied_and_in_force_at_once() {
    let mut keeper = Keeper::start(Some(wanted()));
    keeper.get().await.refuse(404, "NotFound");
    let apply = keeper.apply().await;
    assert_eq!(apply.json(), document());
    apply.answer(201, live(&document(), 1));
    // The policy in the answer is in force before any watch reports it.
    let again = keeper.get().await;
    assert_eq!(keeper.cluster.policies().cluster.len(), 1);
    again.ok(live(&document(), 1));
    keeper.apply().await.ok(live(&document(), 1));
    keeper.tell(&live(&document(), 1));
    keeper.api.quiet(Duration::from_hours(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_field_that_a_person_took_stays_theirs_and_the_others_stay_ours() {
    let mut keeper = Keeper::start(Some(wanted()));
    keeper.get().await.ok(live(&document(), 4));
    let cause = |field: &str| json!({ "reason": "FieldManagerConflict", "message": "conflict with \"kubectl-edit\"", "field": field });
    let first = keeper.apply().await;
    assert_eq!(first.json(), document());
    first.answer(
        409,
        json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409, "reason": "Conflict",
            "message": "Apply failed with 2 conflicts", "metadata": {},
            "details": { "causes": [cause(".spec.mode"), cause(".spec.match.slots")] },
        }),
    );
    let second = keeper.apply().await;
    let mut rest = document();
    rest["spec"].as_object_mut().unwrap().remove("mode");
    rest["spec"]["match"].as_object_mut().unwrap().remove("slots");
    assert_eq!(second.json(), rest);
    let mut theirs = live(&document(), 4);
    theirs["spec"]["mode"] = json!("Warn");
    second.ok(theirs.clone());
    keeper.get().await.ok(theirs.clone());
    // The keeper applies once more, because the store has learned of the policy. No further call follows.
    keeper.apply().await.ok(theirs.clone());
    keeper.tell(&theirs);
    keeper.api.quiet(Duration::from_hours(5)).await;
    assert_eq!(keeper.differing(), [".spec.mode"], "the slots are as they should be, whoever owns them");
}

#[tokio::test(start_paused = true)]
async fn an_exception_that_a_person_prolonged_stays_theirs_and_the_others_stay_ours() {
    let baseline = Baseline { exceptions: vec![exception("runner"), exception("velero")], ..wanted() };
    let mut keeper = Keeper::start(Some(baseline.clone()));
    keeper.get().await.ok(live(&document(), 4));
    let first = keeper.apply().await;
    assert_eq!(first.json(), baseline.document());
    let cause = json!({ "reason": "FieldManagerConflict", "message": "conflict with \"kubectl-edit\"",
        "field": ".spec.exceptions[name=\"velero\"].expires" });
    first.answer(
        409,
        json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409, "reason": "Conflict",
            "message": "Apply failed with 1 conflict", "metadata": {}, "details": { "causes": [cause] },
        }),
    );
    let second = keeper.apply().await;
    let mut rest = baseline.document();
    rest["spec"]["exceptions"][1].as_object_mut().unwrap().remove("expires");
    assert_eq!(second.json(), rest);
    let mut theirs = live(&baseline.document(), 4);
    theirs["spec"]["exceptions"][1]["expires"] = json!("2028-01-31T00:00:00Z");
    second.ok(theirs.clone());
    keeper.get().await.ok(theirs.clone());
    keeper.apply().await.ok(theirs.clone());
    keeper.tell(&theirs);
    keeper.api.quiet(Duration::from_hours(5)).await;
    assert_eq!(keeper.differing(), [".spec.exceptions"]);
    // An exception that somebody added is no difference.
    let mut added = live(&baseline.document(), 5);
    added["spec"]["exceptions"].as_array_mut().unwrap().push(json!(exception("added")));
    keeper.tell(&added);
    keeper.get().await.ok(added.clone());
    keeper.apply().await.ok(added.clone());
    keeper.api.quiet(Duration::from_hours(5)).await;
    assert_eq!(keeper.differing(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_differs_is_told_until_it_is_as_it_should_be_again() {
    let mut keeper = Keeper::start(Some(wanted()));
    let mut weakened = live(&document(), 1);
    weakened["spec"]["pin"]["targets"] = json!([]);
    weakened["spec"]["match"]["namespaceSelector"] = json!({ "matchLabels": { "env": "prod" } });
    keeper.get().await.ok(weakened.clone());
    keeper.apply().await.ok(weakened.clone());
    keeper.get().await.ok(weakened.clone());
    keeper.apply().await.ok(weakened);
    keeper.api.quiet(Duration::from_mins(1)).await;
    assert_eq!(keeper.differing(), [".spec.match.namespaceSelector", ".spec.pin.targets"]);

    // An empty selector selects every namespace, as none does, and other fields may be added.
    let mut whole = live(&document(), 2);
    whole["spec"]["match"]["namespaceSelector"] = json!({ "matchLabels": {} });
    whole["spec"]["exceptions"] = json!([]);
    keeper.tell(&whole);
    keeper.get().await.ok(whole.clone());
    keeper.apply().await.ok(whole);
    keeper.api.quiet(Duration::from_mins(1)).await;
    assert_eq!(keeper.differing(), [] as [&str; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_that_names_no_field_of_ours_is_an_error_and_tried_later() {
    let mut keeper = Keeper::start(Some(wanted()));
    keeper.get().await.ok(live(&document(), 4));
    let start = tokio::time::Instant::now();
    keeper.apply().await.refuse(409, "Conflict");
    keeper.get().await.refuse(503, "ServiceUnavailable");
    assert_eq!(start.elapsed().as_secs(), 10);
    let hangs = keeper.get().await;
    hangs.given_up().await;
    keeper.get().await.ok(live(&document(), 4));
    keeper.apply().await.ok(live(&document(), 4));
    assert_eq!(keeper.reconcile.failures(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_baseline_comes_back_and_an_edited_one_is_applied_again() {
    let mut keeper = Keeper::start(Some(wanted()));
    keeper.tell(&live(&document(), 1));
    keeper.get().await.ok(live(&document(), 1));
    keeper.apply().await.ok(live(&document(), 1));
    keeper.api.quiet(Duration::from_mins(1)).await;
    keeper.tell(&live(&document(), 2));
    keeper.get().await.ok(live(&document(), 2));
    keeper.apply().await.ok(live(&document(), 2));
    keeper.api.quiet(Duration::from_mins(1)).await;
    let id = tagpin_domain::policy::PolicyId { namespace: None, name: "baseline".into() };
    keeper.cluster.policies.delete(&id, "u");
    keeper.get().await.refuse(404, "NotFound");
    keeper.apply().await.answer(201, live(&document(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_that_name_that_is_not_ours_is_left_alone() {
    for wanted in [Some(wanted()), None] {
        let enabled = wanted.is_some();
        let mut keeper = Keeper::start(wanted);
        let mut theirs = live(&document(), 1);
        theirs["metadata"]["labels"] = json!({ "app.kubernetes.io/managed-by": "Helm" });
        theirs["spec"]["mode"] = json!("Audit");
        keeper.get().await.ok(theirs);
        keeper.api.quiet(Duration::from_hours(5)).await;
        assert_eq!(keeper.differing(), if enabled { vec![".spec.mode"] } else { vec![] });
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_baseline_ours_is_deleted_and_only_the_one_that_was_found() {
    let mut keeper = Keeper::start(None);
    keeper.get().await.ok(live(&document(), 7));
    let delete = keeper.api.expect(&format!("DELETE {BASELINE}")).await;
    assert_eq!(delete.json()["preconditions"], json!({ "uid": "u", "resourceVersion": "7" }));
    delete.ok(json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" }));
    keeper.api.quiet(Duration::from_hours(5)).await;

    let mut keeper = Keeper::start(None);
    keeper.get().await.refuse(404, "NotFound");
    keeper.api.quiet(Duration::from_hours(5)).await;
}
