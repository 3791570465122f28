//! Very large objects are judged or refused by name, because an HTTP error of the webhook would let them through.

use serde_json::{Map, Value, json};

use crate::support::load::ApiServer;
use crate::support::{Answer, LIMIT, Namespace, kubectl_with, undisturbed, wait_for};

const STRICT: &str = "{ mode: Enforce, pin: { targets: [ Pods ] } }";

/// Returns a pod with this image.
fn pod(image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web" },
        "spec": { "containers": [ { "name": "app", "image": image } ] },
    })
}

/// Returns a Deployment with this metadata and pod spec in its template.
fn deployment(metadata: &Value, spec: &Value) -> Value {
    let mut template = json!({ "metadata": metadata, "spec": spec });
    template["metadata"]["labels"]["app"] = json!("web");
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web" },
        "spec": { "replicas": 0, "selector": { "matchLabels": { "app": "web" } }, "template": template },
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
    let workload = deployment(&json!({}), &object["spec"]);
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

/// The bytes of a request body that the API server reads at most.
const REQUEST: usize = 3 * 1024 * 1024;

/// The bytes by which a growth makes an object larger: close to what the API server reads, with room for the rest.
const GROWTH: usize = REQUEST * 9 / 10;

/// The size that an object may have so that it can be stored.
const STORED: usize = 1_200_000;

/// The dimension in which a review is six times larger than its object.
const ESCAPED: &str = "characters that a review escapes";

/// A function that makes an object larger by this many bytes; it gets the metadata and the pod spec.
type Growth = fn(&mut Value, &mut Value, usize);

fn items(bytes: usize, each: usize, item: impl Fn(usize) -> Value) -> Value {
    (0..bytes / each).map(item).collect()
}

fn map(bytes: usize) -> Value {
    Value::Object((0..bytes / 16).map(|n| (format!("k{n:08}"), json!("x"))).collect::<Map<_, _>>())
}

/// Adds an item to a list of the pod spec before those that are there.
fn before(list: &mut Value, mut items: Value) {
    let rest = list.as_array_mut().map(std::mem::take).unwrap_or_default();
    items.as_array_mut().unwrap().extend(rest);
    *list = items;
}

/// The dimensions in which the API server lets an object grow, and the code of the refusal.
const DIMENSIONS: [(&str, &str, Growth); 15] = [
    ("labels", "TagForbidden", |metadata, _, bytes| metadata["labels"] = map(bytes.min(400_000))),
    ("annotations", "TagForbidden", |metadata, _, bytes| {
        metadata["annotations"] = map((200 * 1024).min(bytes));
    }),
    ("one annotation of tagpin", "TagForbidden", |metadata, _, bytes| {
        let slots: Map<_, _> = (0..(240 * 1024).min(bytes) / 40)
            .map(|n| (format!("containers/c{n:08}"), json!("web:1.4.2")))
            .collect();
        metadata["annotations"] = json!({ "tagpin.dev/original": Value::Object(slots).to_string() });
    }),
    ("finalizers", "TagForbidden", |metadata, _, bytes| {
        metadata["finalizers"] = items(bytes, 36, |n| json!(format!("example.dev/finalizer-{n:08}")));
    }),
    ("owners", "TagForbidden", |metadata, _, bytes| {
        metadata["ownerReferences"] = items(
            bytes,
            90,
            |n| json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": format!("c{n:08}"), "uid": format!("u{n:08}") }),
        );
    }),
    ("a long name", "TagForbidden", |metadata, _, _| metadata["name"] = json!("w".repeat(253))),
    ("a long slot name", "TagForbidden", |_, spec, _| {
        spec["containers"][0]["name"] = json!("a".repeat(63));
    }),
    ("variables", "TagForbidden", |_, spec, bytes| {
        spec["containers"][0]["env"] =
            items(bytes, 40, |n| json!({ "name": format!("V{n:08}"), "value": "x" }));
    }),
    (ESCAPED, "TagForbidden", |_, spec, bytes| {
        spec["containers"][0]["env"] =
            items(bytes, 100_040, |n| json!({ "name": format!("V{n}"), "value": "<&>".repeat(33_333) }));
    }),
    ("control characters", "TagForbidden", |_, spec, bytes| {
        // Each is one character of six bytes in JSON, in the request as well.
        spec["containers"][0]["env"] =
            items(bytes, 60_040, |n| json!({ "name": format!("V{n}"), "value": "\u{1}".repeat(10_000) }));
    }),
    ("arguments", "TagForbidden", |_, spec, bytes| {
        spec["containers"][0]["args"] = items(bytes, 4, |_| json!("x"));
    }),
    ("volumes", "TagForbidden", |_, spec, bytes| {
        spec["volumes"] = items(bytes, 40, |n| json!({ "name": format!("v{n:08}"), "emptyDir": {} }));
    }),
    ("pull secrets", "TagForbidden", |_, spec, bytes| {
        spec["imagePullSecrets"] = items(bytes, 22, |n| json!({ "name": format!("s{n:08}") }));
    }),
    ("containers with variables", "TagForbidden", |_, spec, bytes| {
        let env = json!([{ "name": "V", "value": "<".repeat(bytes / 950) }]);
        before(
            &mut spec["containers"],
            items(950, 1, |n| json!({ "name": format!("c{n:08}"), "image": "web:1.4.2", "env": env })),
        );
    }),
    ("containers", "ReviewUnreadable", |_, spec, bytes| {
        let item = |n| json!({ "name": format!("c{n:08}"), "image": "web:1.4.2" });
        before(&mut spec["containers"], items(bytes.min(400_000), 40, item));
    }),
];

/// Sends an object as the raw text that it is, as a dry run or not: kubectl would escape it otherwise.
fn raw(verb: &str, path: &str, object: &Value, more: &[&str]) -> Answer {
    let args = [&[verb, "--raw", path, "-f", "-"], more].concat();
    kubectl_with(&args, &object.to_string())
}

/// Returns an image's pod, made larger.
fn grown(image: &str, growth: Growth, bytes: usize) -> Value {
    let mut object = pod(image);
    let (mut metadata, mut spec) = (object["metadata"].take(), object["spec"].take());
    growth(&mut metadata, &mut spec, bytes);
    (object["metadata"], object["spec"]) = (metadata, spec);
    object
}

#[test]
fn what_the_api_server_takes_is_judged_or_refused_by_name() {
    let _cluster = undisturbed();
    let namespace = Namespace::new("sweep");
    namespace.kubectl_with(&["create", "-f", "-"], &pod("web:1.4.2").to_string()).succeeded();
    let small = deployment(&json!({}), &pod("web:1.4.2")["spec"]);
    namespace.kubectl_with(&["create", "-f", "-"], &small.to_string()).succeeded();
    let small_latest = pod("web:latest");
    let pods = format!("/api/v1/namespaces/{}/pods", namespace.name);
    let deployments = format!("/apis/apps/v1/namespaces/{}/deployments", namespace.name);
    let before = ApiServer::now();
    for (dimension, code, growth) in DIMENSIONS {
        let judged = |answer: Answer, what: &str| {
            eprintln!("{dimension}: {what}");
            answer.refused_with(code);
        };
        let object = grown("web:latest", growth, GROWTH);
        judged(raw("create", &format!("{pods}?dryRun=All"), &object, &[]), "a new pod");
        let mut workload = deployment(&object["metadata"], &object["spec"]);
        judged(
            raw("replace", &format!("{deployments}/web?dryRun=All"), &workload, &[]),
            "a changed template",
        );
        workload["metadata"]["name"] = json!("new");
        judged(raw("create", &format!("{deployments}?dryRun=All"), &workload, &[]), "a new template");
        // Of a pod that exists only the metadata and the image can change, and never the name.
        let grows_in_metadata = object["spec"] == small_latest["spec"] && object["metadata"]["name"] == "web";
        if grows_in_metadata {
            let image = json!([{ "name": "app", "image": "web:latest" }]);
            let patch = json!({ "metadata": object["metadata"], "spec": { "containers": image } });
            let args = ["patch", "pod", "web", "--dry-run=server", "--patch-file=/dev/stdin"];
            judged(namespace.kubectl_with(&args, &patch.to_string()), "a changed pod");
        }
    }
    assert_eq!((ApiServer::now() - before).failed_open, 0);
}

#[test]
fn a_large_object_over_a_large_one_of_a_person_in_many_groups_is_judged() {
    let _cluster = undisturbed();
    let namespace = Namespace::new("over");
    let variables = |image: &str| {
        let growth = DIMENSIONS.into_iter().find(|(dimension, ..)| *dimension == ESCAPED).unwrap().2;
        let object = grown(image, growth, STORED);
        deployment(&json!({}), &object["spec"])
    };
    let deployments = format!("/apis/apps/v1/namespaces/{}/deployments", namespace.name);
    raw("create", &deployments, &variables("web:1.4.2"), &[]).succeeded();
    let groups: Vec<String> = (0..3000)
        .map(|n| format!("--as-group=g{n:0120}"))
        .chain(["--as-group=system:masters".to_owned()])
        .collect();
    let person: Vec<&str> = ["--as=person"].into_iter().chain(groups.iter().map(String::as_str)).collect();
    let before = ApiServer::now();
    let path = format!("{deployments}/web");
    raw("replace", &path, &variables("web:latest"), &person).refused_with("TagForbidden");
    assert_eq!((ApiServer::now() - before).failed_open, 0);
}
