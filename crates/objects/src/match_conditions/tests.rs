use crate::kinds::{CRON_JOB, Kinds, POD, POD_TEMPLATE, REPLICATION_CONTROLLER};
use std::collections::BTreeSet;

use kube_cel::KubeCelExt;
use kube_cel::cel::{Context, Program, Value as Cel};
use serde_json::{Value, json};

use super::*;
use tagpin_domain::kind::Kind;

/// The condition as clusters have it, word for word. A change of it must be a decision, not an accident.
const TEMPLATE_CHANGED: &str = "request.operation != 'UPDATE' || (request.resource.resource == 'pods' ? object.spec != oldObject.spec : request.resource.resource == 'podtemplates' ? object.template != oldObject.template : request.resource.resource == 'cronjobs' ? object.spec.jobTemplate != oldObject.spec.jobTemplate : request.resource.resource == 'controllerrevisions' ? has(object.metadata.ownerReferences) != has(oldObject.metadata.ownerReferences) || (has(object.metadata.ownerReferences) && object.metadata.ownerReferences != oldObject.metadata.ownerReferences) : has(object.spec.template) != has(oldObject.spec.template) || (has(object.spec.template) && object.spec.template != oldObject.spec.template))";

/// Returns the names of the conditions that filter the request out, as the API server evaluates them. Panics
/// if a condition cannot be evaluated.
fn kept_away_by(request: &Request) -> Vec<String> {
    let conditions = match_conditions(&Kinds::default()).into_iter();
    conditions
        .filter(|condition| !request.evaluate(&condition.expression))
        .map(|condition| condition.name)
        .collect()
}

#[derive(Clone)]
struct Request {
    kind: Kind,
    operation: &'static str,
    sub_resource: &'static str,
    user: &'static str,
    groups: Vec<&'static str>,
    object: Value,
    old: Value,
}

impl Request {
    fn create(kind: Kind, object: Value) -> Self {
        let groups = vec!["system:authenticated"];
        let user = "someone";
        Self { kind, operation: "CREATE", sub_resource: "", user, groups, object, old: Value::Null }
    }

    /// Returns an update that makes this change to the object.
    fn update(kind: Kind, change: impl FnOnce(&mut Value)) -> Self {
        let old = object(kind);
        let mut new = old.clone();
        change(&mut new);
        Self { operation: "UPDATE", old, ..Self::create(kind, new) }
    }

    fn evaluate(&self, expression: &str) -> bool {
        let request = json!({
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": self.kind.group(), "version": "v1", "kind": self.kind.name() },
            "resource": { "group": self.kind.group(), "version": "v1", "resource": row(self.kind).resource },
            "subResource": self.sub_resource,
            "name": "web",
            "namespace": "shop",
            "operation": self.operation,
            "userInfo": { "username": self.user, "groups": self.groups },
            "dryRun": false,
        });
        let mut context = Context::default().with_all();
        context.add_variable("request", request).unwrap();
        context.add_variable("object", self.object.clone()).unwrap();
        context.add_variable("oldObject", self.old.clone()).unwrap();
        match Program::compile(expression).unwrap().execute(&context) {
            Ok(Cel::Bool(held)) => held,
            other => panic!("{expression}: {other:?}"),
        }
    }
}

/// Returns an object of this kind with one container, as the API server would send it.
fn object(kind: Kind) -> Value {
    let mut inner = json!({ "containers": [{ "name": "web", "image": "nginx:1.29", "resources": {} }] });
    let template = row(kind).template;
    for (depth, part) in row(kind).pod_spec.iter().enumerate().rev() {
        inner = json!({ *part: inner });
        if depth == template.len() && kind != POD {
            inner["metadata"] = json!({ "labels": { "app": "web" } });
        }
    }
    inner["apiVersion"] = json!("v1");
    inner["kind"] = json!(kind.name());
    inner["metadata"] =
        json!({ "name": "web", "namespace": "shop", "labels": { "team": "a" }, "generation": 1 });
    inner
}

fn at<'a>(object: &'a mut Value, path: &[&str]) -> &'a mut Value {
    path.iter().fold(object, |value, part| &mut value[*part])
}

fn row(kind: Kind) -> &'static Row {
    Kinds::default().judged(kind.group(), kind.name()).unwrap()
}

fn workloads() -> Vec<Kind> {
    Kinds::default().all().filter(|kind| *kind != POD).collect()
}

#[test]
fn the_template_condition_is_worded_as_agreed() {
    assert_eq!(template_changed(&Kinds::default()), TEMPLATE_CHANGED);
}

#[test]
fn only_the_canary_is_asked_about_by_the_entry_of_the_canary() {
    let asked = |metadata: Value| {
        let mut template = object(POD_TEMPLATE);
        template["metadata"] = metadata;
        let request = Request::create(POD_TEMPLATE, template);
        canary_conditions().iter().all(|condition| request.evaluate(&condition.expression))
    };
    assert!(asked(json!({ "name": "tagpin-canary" })));
    assert!(!asked(json!({ "name": "web" })));
    assert!(!asked(json!({ "generateName": "tagpin-canary" })));
}

#[test]
fn every_kind_is_asked_about_when_it_is_created() {
    for kind in Kinds::default().all() {
        assert_eq!(kept_away_by(&Request::create(kind, object(kind))), [""; 0], "{kind}");
    }
}

#[test]
fn a_changed_image_is_asked_about() {
    for kind in Kinds::default().all() {
        let changed = Request::update(kind, |object| {
            at(object, row(kind).pod_spec)["containers"][0]["image"] = json!("nginx:1.30");
        });
        assert_eq!(kept_away_by(&changed), [""; 0], "{kind}");
    }
}

#[test]
fn a_restart_is_asked_about() {
    for kind in workloads() {
        let restarted = Request::update(kind, |object| {
            at(object, row(kind).template)["metadata"]["annotations"] =
                json!({ "kubectl.kubernetes.io/restartedAt": "2026-01-02T03:04:05Z" });
        });
        assert_eq!(kept_away_by(&restarted), [""; 0], "{kind}");
    }
}

#[test]
fn a_cron_jobs_job_metadata_counts_as_template() {
    let changed = Request::update(CRON_JOB, |object| {
        object["spec"]["jobTemplate"]["metadata"] = json!({ "labels": { "x": "y" } });
    });
    assert_eq!(kept_away_by(&changed), [""; 0]);
}

#[test]
fn what_leaves_the_template_alone_is_not_asked_about() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 6] = [
        ("label", |object| object["metadata"]["labels"]["team"] = json!("b")),
        ("annotation", |object| object["metadata"]["annotations"] = json!({ "note": "x" })),
        ("status", |object| object["status"] = json!({ "observedGeneration": 3, "replicas": 2 })),
        ("finalizer", |object| object["metadata"]["finalizers"] = json!(["example.com/keep"])),
        ("owner", |object| object["metadata"]["ownerReferences"] = json!([])),
        ("nothing", |_| ()),
    ];
    for kind in Kinds::default().all() {
        for (what, change) in changes {
            assert_eq!(kept_away_by(&Request::update(kind, change)), ["template-changed"], "{kind} {what}");
        }
    }
}

#[test]
fn scaling_and_suspending_are_not_asked_about() {
    for kind in workloads().into_iter().filter(|kind| *kind != POD_TEMPLATE) {
        let scaled = Request::update(kind, |object| object["spec"]["replicas"] = json!(0));
        assert_eq!(kept_away_by(&scaled), ["template-changed"], "{kind}");
        let suspended = Request::update(kind, |object| object["spec"]["suspend"] = json!(true));
        assert_eq!(kept_away_by(&suspended), ["template-changed"], "{kind}");
    }
}

#[test]
fn what_is_being_deleted_is_asked_about_only_if_its_template_changes() {
    for kind in Kinds::default().all() {
        let mut deleted = Request::update(kind, |object| {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        });
        deleted.old["metadata"]["finalizers"] = json!(["example.com/keep"]);
        assert_eq!(kept_away_by(&deleted), ["template-changed"], "{kind}");
        at(&mut deleted.object, row(kind).pod_spec)["containers"][0]["image"] = json!("nginx");
        assert_eq!(kept_away_by(&deleted), [""; 0], "{kind}");
    }
}

#[test]
fn a_new_ephemeral_container_is_asked_about() {
    let mut debug = Request::update(POD, |object| {
        object["spec"]["ephemeralContainers"] = json!([{ "name": "debugger", "image": "busybox" }]);
    });
    debug.sub_resource = "ephemeralcontainers";
    assert_eq!(kept_away_by(&debug), [""; 0]);
}

#[test]
fn a_mirror_pod_is_the_nodes_and_only_the_nodes() {
    let mut pod = object(POD);
    pod["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "abc" });
    pod["spec"]["nodeName"] = json!("node-1");
    let by_user = Request::create(POD, pod);
    assert_eq!(kept_away_by(&by_user), [""; 0]);
    let groups = vec!["system:nodes", "system:authenticated"];
    let by_node = Request { user: "system:node:node-1", groups, ..by_user };
    assert_eq!(kept_away_by(&by_node), ["not-a-mirror-pod"]);
    let without = |pointer: &str| {
        let mut object = by_node.object.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field).unwrap();
        Request { object, ..by_node.clone() }
    };
    for (what, asked_about) in [
        ("no annotation", without("/metadata/annotations")),
        ("no node", without("/spec/nodeName")),
        ("another node", Request { user: "system:node:node-2", ..by_node.clone() }),
        ("no group of nodes", Request { groups: vec!["system:authenticated"], ..by_node.clone() }),
        ("an update", Request { operation: "UPDATE", old: object(POD), ..by_node.clone() }),
    ] {
        assert_eq!(kept_away_by(&asked_about), [""; 0], "{what}");
    }
}

#[test]
fn a_revision_is_asked_about_when_it_is_made_and_when_its_owners_change() {
    let kind = CONTROLLER_REVISIONS.kind;
    assert_eq!(kept_away_by(&Request::create(kind, object(kind))), [""; 0]);
    let labelled = Request::update(kind, |object| object["metadata"]["labels"]["team"] = json!("b"));
    assert_eq!(kept_away_by(&labelled), ["template-changed"]);
    let owner = |name: &str| json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": name }]);
    let mut owned = Request::update(kind, |object| object["metadata"]["ownerReferences"] = owner("a"));
    assert_eq!(kept_away_by(&owned), [""; 0], "gained owners");
    owned.old["metadata"]["ownerReferences"] = owner("b");
    assert_eq!(kept_away_by(&owned), [""; 0], "changed owners");
    owned.old["metadata"]["ownerReferences"] = owner("a");
    assert_eq!(kept_away_by(&owned), ["template-changed"], "kept its owners");
    owned.object["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    assert_eq!(kept_away_by(&owned), [""; 0], "lost its owners");
    // A mirror pod is a pod: an object that has no spec is not mistaken for one.
    let mut marked = Request {
        user: "system:node:n",
        groups: vec!["system:nodes"],
        ..Request::create(kind, object(kind))
    };
    marked.object["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "abc" });
    assert_eq!(kept_away_by(&marked), [""; 0]);
}

#[test]
fn a_replication_controller_may_have_no_template() {
    let kind = REPLICATION_CONTROLLER;
    let without = |object: &mut Value| {
        object["spec"] = json!({ "replicas": 1 });
    };
    let mut bare = Request::update(kind, without);
    assert_eq!(kept_away_by(&bare), [""; 0], "lost its template");
    std::mem::swap(&mut bare.object, &mut bare.old);
    assert_eq!(kept_away_by(&bare), [""; 0], "gained a template");
    without(&mut bare.old);
    without(&mut bare.object);
    bare.object["spec"]["replicas"] = json!(2);
    assert_eq!(kept_away_by(&bare), ["template-changed"], "never had one");
}

#[test]
fn every_kind_of_the_table_has_its_rule_and_nothing_else_has() {
    let resources: Vec<_> =
        all_rules(&Kinds::default()).into_iter().flat_map(|rule| rule.resources.unwrap()).collect();
    let mut expected: BTreeSet<_> = Kinds::default().rows().map(|row| row.resource.to_owned()).collect();
    expected.insert("pods/ephemeralcontainers".to_owned());
    expected.insert("controllerrevisions".to_owned());
    assert_eq!(resources.len(), expected.len());
    assert_eq!(resources.into_iter().collect::<BTreeSet<_>>(), expected);
    for rule in all_rules(&Kinds::default()) {
        let group = rule.api_groups.unwrap().concat();
        for resource in rule.resources.unwrap() {
            let operations = if resource.contains('/') { vec!["UPDATE"] } else { vec!["CREATE", "UPDATE"] };
            assert_eq!(rule.operations.as_ref().unwrap(), &operations, "{resource}");
            let mut rows =
                Kinds::default().rows().chain([&CONTROLLER_REVISIONS]).collect::<Vec<_>>().into_iter();
            let row = rows.find(|row| resource.split('/').next() == Some(row.resource));
            assert_eq!(row.unwrap().kind.group(), group, "{resource}");
        }
    }
    assert_eq!(pod_rules(), all_rules(&Kinds::default())[..2]);
}
