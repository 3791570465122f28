//! Hostile stored objects keep no replica from starting.

use serde_json::{Map, Value, json};

use crate::support::doctor::{note, well};
use crate::support::replicas::{Replica, none_is_leaving, ours, when_ready};
use crate::support::{Namespace, alone, rig};

/// A time that the API server stores, but that is later than the last day that many libraries know.
const LAST: &str = "9999-12-31T23:59:59Z";

#[test]
fn a_time_at_the_end_of_days_in_managed_fields_keeps_no_new_replica_from_being_ready() {
    let _cluster = alone();
    let namespace = Namespace::new("stored");
    let managed = format!(
        r#"{{"metadata":{{"managedFields":[{{"manager":"kubectl","operation":"Update","apiVersion":"v1","time":"{LAST}","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:labels":{{}}}}}}}}]}}}}"#
    );
    namespace.kubectl(&["create", "serviceaccount", "p"]).succeeded();
    namespace.kubectl(&["patch", "serviceaccount", "p", "--type=merge", "-p", &managed]).succeeded();
    let kept = namespace.kubectl(&["get", "serviceaccount", "p", "-o", "yaml", "--show-managed-fields"]);
    assert!(kept.succeeded().contains(LAST), "the API server should have kept it");

    restarted();
    well();
}

/// Starts the replicas anew, and returns the new ones once they are ready.
fn restarted() -> Vec<Replica> {
    ours(&["rollout", "restart", "deployment/tagpin"]);
    ours(&["rollout", "status", "deployment/tagpin", "--timeout=90s"]);
    none_is_leaving();
    when_ready(2)
}

/// The kinds that hold a pod template: the API version, the plural and the kind.
const WORKLOADS: [(&str, &str, &str); 9] = [
    ("v1", "pods", "Pod"),
    ("v1", "replicationcontrollers", "ReplicationController"),
    ("v1", "podtemplates", "PodTemplate"),
    ("apps/v1", "deployments", "Deployment"),
    ("apps/v1", "replicasets", "ReplicaSet"),
    ("apps/v1", "statefulsets", "StatefulSet"),
    ("apps/v1", "daemonsets", "DaemonSet"),
    ("batch/v1", "jobs", "Job"),
    ("batch/v1", "cronjobs", "CronJob"),
];

/// Returns an object of this kind with this pod template, of which nothing runs.
fn idle(api_version: &str, kind: &str, name: &str, template: &Value) -> Value {
    let mut template = template.clone();
    template["metadata"]["labels"]["app"] = json!("idle");
    let selector = json!({ "matchLabels": { "app": "idle" } });
    let job = |template: &Value| {
        let mut template = template.clone();
        template["spec"]["restartPolicy"] = json!("Never");
        json!({ "suspend": true, "template": template })
    };
    let spec = match kind {
        "Pod" => {
            template["spec"]["schedulingGates"] = json!([{ "name": "example.com/never" }]);
            template["spec"].clone()
        }
        "ReplicationController" => {
            json!({ "replicas": 0, "selector": { "app": "idle" }, "template": template })
        }
        "DaemonSet" => {
            template["spec"]["nodeSelector"] = json!({ "example.com/none": "there" });
            json!({ "selector": selector, "template": template })
        }
        "Job" => job(&template),
        "CronJob" => {
            json!({ "schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": { "spec": job(&template) } })
        }
        "StatefulSet" => {
            json!({ "replicas": 0, "serviceName": "none", "selector": selector, "template": template })
        }
        _ => json!({ "replicas": 0, "selector": selector, "template": template }),
    };
    let mut metadata = json!({ "name": name });
    if kind == "Pod" {
        metadata["labels"] = template["metadata"]["labels"].clone();
        // Otherwise the controllers of the others would adopt it, and delete it.
        metadata["labels"]["app"] = json!("alone");
    }
    let field = if kind == "PodTemplate" { "template" } else { "spec" };
    let mut object = json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata });
    object[field] = if kind == "PodTemplate" { template } else { spec };
    object
}

/// Returns a pod template that names an image and this many image volumes.
fn of_images(count: usize) -> Value {
    let image = |number| json!({ "reference": format!("web:1.4.{number}"), "pullPolicy": "IfNotPresent" });
    let volume = |number| json!({ "name": format!("v{number}"), "image": image(number) });
    let volumes: Vec<_> = (0..count).map(volume).collect();
    json!({ "metadata": { "labels": {} }, "spec": { "containers": [{ "name": "app", "image": "web:1.4.2" }], "volumes": volumes } })
}

/// Returns a pod template with this many labels.
fn of_labels(count: usize) -> Value {
    let labels: Map<_, _> = (0..count).map(|number| (format!("l{number}"), json!(""))).collect();
    json!({ "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "app", "image": "web:1.4.2" }] } })
}

#[test]
fn a_dozen_objects_that_cannot_be_read_are_counted_and_named_and_keep_nobody_waiting() {
    let _cluster = alone();
    let namespace = Namespace::without_policy("dozen");
    let create =
        |object: &Value| namespace.kubectl_with(&["create", "-f", "-"], &object.to_string()).succeeded();
    // More images than are read, and images for which no room is made.
    for (api_version, _, kind) in WORKLOADS {
        create(&idle(api_version, kind, "unread", &of_images(1001)));
    }
    for (api_version, _, kind) in WORKLOADS.into_iter().filter(|(_, plural, _)| LARGE.contains(plural)) {
        create(&idle(api_version, kind, "large", &of_images(900)));
    }
    restarted();
    for (_, plural, _) in WORKLOADS {
        let said = note("unreadable", &format!("{plural}: tagpin cannot read "), &namespace.name);
        assert!(said.contains(&format!("{}/unread (", namespace.name)), "{said}");
        let large = said.contains(&format!("{}/large (takes ", namespace.name));
        // The ReplicaSet of a Deployment is as large as the Deployment.
        assert!(large == LARGE.contains(&plural) || plural == "replicasets", "{said}");
    }
}

/// Kinds of which there is also an object without room.
const LARGE: [&str; 3] = ["podtemplates", "statefulsets", "cronjobs"];

#[test]
fn hostile_pod_templates_keep_no_replica_from_starting() {
    let Some(_rig) = rig::here("reads the memory of the replicas") else { return };
    let _cluster = alone();
    let quiet = restarted().iter().map(Replica::peak).max().unwrap();
    let namespace = Namespace::without_policy("hostile");
    let create = |objects: Vec<Value>| {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        namespace.kubectl_with(&["create", "-f", "-"], &list.to_string()).succeeded();
    };
    // The largest that the API server stores take it twenty seconds each, so most are smaller.
    let template = |number: usize| {
        let labels = if number < 3 { 115_000 } else { 3_000 };
        idle("v1", "PodTemplate", &format!("t{number:03}"), &of_labels(labels))
    };
    for begin in (0..200).step_by(20) {
        create((begin..begin + 20).map(template).collect());
    }
    for (api_version, _, kind) in WORKLOADS.into_iter().filter(|(_, _, kind)| *kind != "PodTemplate") {
        let object = |number: usize| idle(api_version, kind, &format!("o{number}"), &of_labels(3_000));
        create((0..10).map(object).collect());
    }
    let hostile = restarted().iter().map(Replica::peak).max().unwrap();
    assert!(hostile <= 2 * quiet, "{hostile} KiB, and {quiet} KiB before");
}
