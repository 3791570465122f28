//! Each exemption is as narrow as its reason: a review that is just outside of it is judged.

use serde_json::{Value, json};
use tagpin_objects::kinds::Kinds;

use crate::support::webhook::{REPLICA_SET_CONTROLLER, Table, Webhook, create, deployment, pod, update};

/// A change of a review.
type Change = fn(&mut Value);

/// An exemption: its name, the review that it is made for with its decision, and changes that leave it, each with its
/// name.
type Exemption = (&'static str, Value, &'static str, Vec<(&'static str, Change)>);

/// Returns a review of a pod with a forbidden tag that the kubelet of `node-1` mirrors.
fn mirror() -> Value {
    let mut object = pod("web:latest");
    object["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" });
    object["spec"]["nodeName"] = json!("node-1");
    let mut review = create(object);
    review["request"]["userInfo"] = json!({ "username": "system:node:node-1", "groups": ["system:nodes"] });
    review
}

/// Returns a review of a pod with a forbidden tag that the ReplicaSet controller makes.
fn child() -> Value {
    let mut object = pod("web:latest");
    object["metadata"]["ownerReferences"] =
        tagpin_testing::owned_by("apps/v1", "ReplicaSet", "web-1", "rs-1");
    let mut review = create(object);
    review["request"]["userInfo"]["username"] = json!(REPLICA_SET_CONTROLLER);
    review
}

/// Returns a review of an update that leaves a forbidden tag in place and removes the object's finalizer.
fn without_finalizer() -> Value {
    let mut old = deployment("web:latest");
    old["metadata"]["finalizers"] = json!(["example.dev/keep"]);
    old["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!([]);
    update(new, old)
}

/// Returns a review of a creation in a namespace that nothing is judged in.
fn in_excluded_namespace() -> Value {
    let mut review = create(pod("web:latest"));
    review["request"]["namespace"] = json!("kube-system");
    review
}

/// Returns a review of a deletion, whose object is the old one.
fn deletion() -> Value {
    let mut review = update(pod("web:1"), pod("web:latest"));
    review["request"]["operation"] = json!("DELETE");
    review["request"]["object"] = Value::Null;
    review
}

/// Returns a review of the leader's canary.
fn canary() -> Value {
    let mut review = create(json!({
        "apiVersion": "v1", "kind": "PodTemplate",
        "metadata": { "name": "tagpin-canary", "namespace": "kube-system",
            "annotations": { "tagpin.dev/canary": "0123456789abcdef" } },
        "template": { "spec": { "containers": [ { "name": "canary", "image": "web:latest" } ] } },
    }));
    review["request"]["namespace"] = json!("kube-system");
    review
}

/// The user name of the garbage collector.
const GARBAGE_COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";

/// Returns a review of a ControllerRevision with a forbidden tag, whose owner, a custom resource, was deleted without its
/// dependents.
fn orphan() -> Value {
    let template = json!({ "spec": { "containers": [ { "name": "app", "image": "web:latest" } ] } });
    let new = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1,
        "metadata": { "name": "db-1", "namespace": "shop", "uid": "revision-1", "resourceVersion": "2" },
        "data": { "spec": { "template": template } },
    });
    let mut old = new.clone();
    old["metadata"]["resourceVersion"] = json!("1");
    old["metadata"]["ownerReferences"] =
        tagpin_testing::owned_by("apps.kruise.io/v1alpha1", "CloneSet", "db", "set-1");
    let mut review = update(new, old);
    review["request"]["userInfo"]["username"] = json!(GARBAGE_COLLECTOR);
    review
}

/// Returns every exemption.
fn exemptions() -> Vec<Exemption> {
    vec![
        (
            "a mirror pod",
            mirror(),
            "skip",
            vec![
                ("of another node", |review| {
                    review["request"]["object"]["spec"]["nodeName"] = json!("node-2")
                }),
                ("of no node", |review| review["request"]["object"]["spec"]["nodeName"] = Value::Null),
                ("of an empty node", |review| {
                    review["request"]["object"]["spec"]["nodeName"] = json!("");
                    review["request"]["userInfo"]["username"] = json!("system:node:");
                }),
                ("by a person", |review| review["request"]["userInfo"]["username"] = json!("developer")),
                ("by a user who is in no group of nodes", |review| {
                    review["request"]["userInfo"]["groups"] = json!([])
                }),
                ("without the annotation", |review| {
                    review["request"]["object"]["metadata"]["annotations"] = json!({});
                }),
                ("with the word in a label", |review| {
                    let metadata = &mut review["request"]["object"]["metadata"];
                    metadata["labels"] = metadata["annotations"].take();
                }),
                ("that is updated", |review| {
                    let request = &mut review["request"];
                    request["operation"] = json!("UPDATE");
                    request["oldObject"] = request["object"].clone();
                    request["oldObject"]["spec"]["containers"][0]["image"] = json!("web:1");
                }),
            ],
        ),
        (
            "an object that loses its finalizer",
            without_finalizer(),
            "skip",
            vec![
                ("and gets another image", |review| {
                    let old = &mut review["request"]["oldObject"];
                    old["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:1");
                }),
                ("and a pull policy that pulls", |review| {
                    let old = &mut review["request"]["oldObject"];
                    old["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
                }),
                ("and a container under another name", |review| {
                    let old = &mut review["request"]["oldObject"];
                    old["spec"]["template"]["spec"]["containers"][0]["name"] = json!("other");
                }),
            ],
        ),
        (
            "a child",
            child(),
            "warn",
            vec![
                ("by a person", |review| review["request"]["userInfo"]["username"] = json!("developer")),
                ("by an account of the same name elsewhere", |review| {
                    review["request"]["userInfo"]["username"] =
                        json!("system:serviceaccount:shop:replicaset-controller");
                }),
                ("by a longer name", |review| {
                    review["request"]["userInfo"]["username"] = json!(format!("{REPLICA_SET_CONTROLLER}2"));
                }),
                ("without an owner", |review| {
                    review["request"]["object"]["metadata"]["ownerReferences"] = json!([]);
                }),
                ("of an owner that is no controller", |review| {
                    review["request"]["object"]["metadata"]["ownerReferences"][0]["controller"] =
                        json!(false);
                }),
                ("of a ConfigMap", |review| {
                    let owner = &mut review["request"]["object"]["metadata"]["ownerReferences"][0];
                    (owner["apiVersion"], owner["kind"]) = (json!("v1"), json!("ConfigMap"));
                }),
            ],
        ),
        (
            "an excluded namespace",
            in_excluded_namespace(),
            "skip",
            vec![
                ("that is longer", |review| review["request"]["namespace"] = json!("kube-system-2")),
                ("that is shorter", |review| review["request"]["namespace"] = json!("kube")),
                ("that the object alone names", |review| {
                    review["request"]["namespace"] = json!("shop");
                    review["request"]["object"]["metadata"]["namespace"] = json!("kube-system");
                }),
            ],
        ),
        (
            "a deletion",
            deletion(),
            "skip",
            vec![("that is an update", |review| {
                let request = &mut review["request"];
                request["operation"] = json!("UPDATE");
                request["object"] = pod("web:latest");
                request["oldObject"] = pod("web:1");
            })],
        ),
        (
            "an orphaned revision",
            orphan(),
            "skip",
            vec![
                ("by a person", |review| review["request"]["userInfo"]["username"] = json!("developer")),
                ("by an account of the same name elsewhere", |review| {
                    review["request"]["userInfo"]["username"] =
                        json!("system:serviceaccount:shop:generic-garbage-collector");
                }),
                ("by a longer name", |review| {
                    review["request"]["userInfo"]["username"] = json!(format!("{GARBAGE_COLLECTOR}2"));
                }),
                ("with another template", |review| {
                    let data = &mut review["request"]["oldObject"]["data"];
                    data["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:1");
                }),
                ("with another label", |review| {
                    review["request"]["object"]["metadata"]["labels"] = json!({ "app": "db" });
                }),
                ("that gets another owner", |review| {
                    review["request"]["object"]["metadata"]["ownerReferences"] =
                        tagpin_testing::owned_by("apps/v1", "StatefulSet", "db", "set-2");
                }),
                ("that gets a finalizer", |review| {
                    review["request"]["object"]["metadata"]["finalizers"] = json!(["example.dev/keep"]);
                }),
                ("that is created", |review| review["request"]["operation"] = json!("CREATE")),
            ],
        ),
        (
            "a canary",
            canary(),
            "canary",
            vec![
                ("elsewhere", |review| review["request"]["namespace"] = json!("shop")),
                ("that is a pod", |review| {
                    review["request"]["kind"]["kind"] = json!("Pod");
                    review["request"]["namespace"] = json!("shop");
                    let object = &mut review["request"]["object"];
                    object["spec"] = object["template"]["spec"].take();
                }),
            ],
        ),
    ]
}

#[tokio::test]
async fn each_exemption_is_as_narrow_as_its_reason() {
    let webhook = Webhook::new(&[("baseline", json!({ "mode": "Enforce" }))], Table::default());
    let mut wrong = Vec::new();
    for (what, inside, decision, outside) in exemptions() {
        let decided = webhook.validate(&inside).await.decision();
        if decided != decision {
            wrong.push(format!("{what}: {decided}"));
        }
        for (change, leave) in outside {
            let mut review = inside.clone();
            leave(&mut review);
            let codes = webhook.validate(&review).await.codes();
            if codes != ["TagForbidden"] {
                wrong.push(format!("{what} {change}: {codes:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn the_garbage_collector_orphans_objects_of_every_kind() {
    let webhook = Webhook::new(&[("baseline", json!({ "mode": "Enforce" }))], Table::default());
    for row in Kinds::default().rows() {
        let group = row.kind.group();
        let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
        let mut new =
            json!({ "apiVersion": api_version, "kind": row.kind.name(), "metadata": { "name": "web" } });
        let at = row.pod_spec.iter().fold(&mut new, |object, field| &mut object[*field]);
        *at = json!({ "containers": [ { "name": "app", "image": "web:latest" } ] });
        let mut old = new.clone();
        old["metadata"]["ownerReferences"] =
            tagpin_testing::owned_by("example.dev/v1", "App", "web", "app-1");
        old["metadata"]["finalizers"] = json!(["orphan"]);
        let mut review = update(new, old);
        review["request"]["userInfo"]["username"] = json!(GARBAGE_COLLECTOR);
        let answered = webhook.validate(&review).await;
        // The images of a pod are compared one by one.
        let decision = if row.is_pod() { "allow" } else { "skip" };
        assert_eq!((&*answered.decision(), answered.warnings()), (decision, Vec::new()), "{}", row.kind);
        let old = row
            .pod_spec
            .iter()
            .fold(&mut review["request"]["oldObject"], |object, field| &mut object[*field]);
        old["containers"][0]["image"] = json!("web:1");
        assert_eq!(webhook.validate(&review).await.codes(), ["TagForbidden"], "{}", row.kind);
    }
}

#[tokio::test]
async fn a_mirror_pod_is_not_pinned() {
    let pin = json!({ "mode": "Enforce", "rules": { "tags": { "forbidden": [] } }, "pin": { "targets": ["Pods"] } });
    let webhook = Webhook::new(&[("baseline", pin)], Table::default());
    assert_eq!(webhook.mutate(&mirror()).await.decision(), "skip");
}

#[tokio::test]
async fn break_glass_allows_what_it_is_asked_about_and_no_other_path_does() {
    let webhook = Webhook::new(&[("baseline", json!({ "mode": "Enforce" }))], Table::default());
    let review = create(pod("web:latest")).to_string();
    assert_eq!(webhook.post("/validate/break-glass", review.clone()).await.decision(), "break-glass");
    assert_eq!(webhook.post("/validate", review).await.codes(), ["TagForbidden"]);
}
