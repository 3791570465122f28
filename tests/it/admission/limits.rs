//! Objects of any size are judged or refused by name, because an HTTP error would let them through. The tests write
//! reviews as the API server does: the envelope before the objects, and `<`, `>` and `&` escaped.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use tagpin_webhook::BODY_LIMIT;

use crate::support::webhook::{
    Answered, REPLICA_SET_CONTROLLER, Table, Webhook, create, deployment, pod, update,
};

const MIB: usize = 1024 * 1024;

fn enforced() -> Webhook {
    Webhook::new(
        &[("baseline", json!({ "mode": "Enforce", "pin": { "targets": ["Pods"] } }))],
        Table::default(),
    )
}

/// Returns the bytes of a review as the API server writes them.
fn sent(review: &Value) -> Vec<u8> {
    let request = &review["request"];
    let fields = [
        "uid",
        "kind",
        "subResource",
        "name",
        "namespace",
        "operation",
        "userInfo",
        "object",
        "oldObject",
        "dryRun",
    ];
    let fields = fields.into_iter().filter_map(|field| Some((field, request.get(field)?)));
    let fields: Vec<String> = fields.map(|(field, value)| format!("\"{field}\":{value}")).collect();
    let request = fields.join(",").replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    format!(r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{{request}}}}}"#)
        .into_bytes()
}

async fn validate(webhook: &Webhook, review: &Value) -> Answered {
    webhook.post("/validate?timeout=10s", sent(review)).await
}

async fn mutate(webhook: &Webhook, review: &Value) -> Answered {
    webhook.post("/mutate?timeout=5s", sent(review)).await
}

/// Returns this many containers with this image.
fn slots(count: usize, image: &str) -> Value {
    (0..count).map(|n| json!({ "name": format!("c{n}"), "image": image })).collect()
}

fn map(count: usize, value: &str) -> Value {
    Value::Object((0..count).map(|n| (format!("k{n:07}"), json!(value))).collect::<Map<_, _>>())
}

fn variables(count: usize, length: usize) -> Value {
    (0..count).map(|n| json!({ "name": format!("V{n}"), "value": "<".repeat(length) })).collect()
}

/// A function that makes an object large; it gets the metadata and the pod spec.
type Growth = fn(&mut Value, &mut Value);

/// The dimensions in which an object can grow, each with the function that does it.
const DIMENSIONS: [(&str, Growth); 12] = [
    ("labels", |metadata, _| metadata["labels"] = map(1025, "")),
    ("very many labels", |metadata, _| metadata["labels"] = map(150_000, "")),
    ("annotations", |metadata, _| metadata["annotations"] = map(50_000, "x")),
    ("a long annotation", |metadata, _| {
        metadata["annotations"] = json!({ "tagpin.dev/original": map(40_000, "x:1").to_string() });
    }),
    ("owner references", |metadata, _| {
        let owner = |n| json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": n });
        metadata["ownerReferences"] = (0..20_000).map(|n: u32| owner(n.to_string())).collect();
    }),
    ("a long name", |metadata, _| metadata["generateName"] = json!("<".repeat(MIB))),
    ("escaped variables", |_, spec| spec["containers"][0]["env"] = variables(10, 125_000)),
    ("all that a request may hold", |_, spec| spec["containers"][0]["env"] = variables(2, MIB)),
    ("depth", |_, spec| {
        spec["affinity"] = (0..100).fold(json!({}), |inner, _| json!({ "x": [inner] }));
    }),
    ("volumes", |_, spec| {
        spec["volumes"] = (0..20_000).map(|n| json!({ "name": format!("v{n}"), "emptyDir": {} })).collect();
    }),
    ("pull secrets", |_, spec| {
        spec["imagePullSecrets"] = (0..20_000).map(|n| json!({ "name": format!("s{n}") })).collect();
    }),
    ("slots", |_, spec| spec["initContainers"] = slots(999, "web:1@sha256:0")),
];

/// Returns a pod and a Deployment with this image, made large by this function.
fn grown(image: &str, growth: Growth) -> [Value; 2] {
    let (mut pod, mut deployment) = (pod(image), deployment(image));
    let (mut metadata, mut spec) = (pod["metadata"].take(), pod["spec"].take());
    growth(&mut metadata, &mut spec);
    (pod["metadata"], pod["spec"]) = (metadata, spec);
    let template = &mut deployment["spec"]["template"];
    let (mut metadata, mut spec) = (template["metadata"].take(), template["spec"].take());
    growth(&mut metadata, &mut spec);
    (template["metadata"], template["spec"]) = (metadata, spec);
    [pod, deployment]
}

#[tokio::test]
async fn an_object_is_judged_whatever_it_has_very_many_of() {
    let webhook = enforced();
    for (dimension, growth) in DIMENSIONS {
        let before = grown("web:1", growth);
        for (object, before) in grown("web:latest", growth).into_iter().zip(before) {
            let is_pod = object["kind"] == "Pod";
            for review in [create(object.clone()), update(object.clone(), before)] {
                let codes = validate(&webhook, &review).await.codes();
                assert!(codes.contains(&"TagForbidden".to_owned()), "{dimension}: {codes:?}");
                if is_pod {
                    assert_eq!(mutate(&webhook, &review).await.response()["allowed"], true, "{dimension}");
                }
            }
        }
    }
    for reason in ["too_large", "unreadable"] {
        assert_eq!(webhook.count(&format!("admission_turned_away_total{{reason=\"{reason}\"}}")), 0);
    }
}

#[tokio::test]
async fn labels_are_selected_by_whatever_their_number() {
    let policy =
        json!({ "mode": "Enforce", "match": { "objectSelector": { "matchLabels": { "k0149999": "x" } } } });
    let webhook = Webhook::new(&[("selected", policy)], Table::default());
    let mut object = pod("web:latest");
    object["metadata"]["labels"] = map(150_000, "x");
    assert_eq!(validate(&webhook, &create(object.clone())).await.codes(), ["TagForbidden"]);
    object["metadata"]["labels"] = map(149_999, "x");
    assert_eq!(validate(&webhook, &create(object)).await.decision(), "allow");
}

/// Returns objects that the webhook cannot read, each as a pod and as a Deployment, with a part of the message about
/// them.
fn unreadable() -> Vec<(Value, &'static str)> {
    const MANY: &str = "more than 1000 images";
    const LARGE: &str = "larger than 32 MiB";
    let many: [Growth; 3] = [
        |_, spec| spec["initContainers"] = slots(1000, "web:1@sha256:0"),
        // The images beyond the limit are image volumes, which a policy may select alone.
        |_, spec| {
            spec["volumes"] = (0..1000)
                .map(|n| json!({ "name": format!("v{n}"), "image": { "reference": "x:1" } }))
                .collect();
        },
        |_, spec| spec["containers"] = slots(100_000, "web:1"),
    ];
    let large: [Growth; 2] = [
        |_, spec| spec["containers"][0]["env"] = variables(1, BODY_LIMIT / 6),
        |metadata, _| metadata["annotations"] = json!({ "a": "&".repeat(BODY_LIMIT / 4) }),
    ];
    let many = many.into_iter().flat_map(|growth| grown("web:latest", growth)).map(|object| (object, MANY));
    let large =
        large.into_iter().flat_map(|growth| grown("web:latest", growth)).map(|object| (object, LARGE));
    many.chain(large).collect()
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_refused_by_name_and_never_patched() {
    let webhook = enforced();
    for (object, problem) in unreadable() {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let before = if kind == "Pod" { pod("web:1") } else { deployment("web:1") };
        for review in [create(object.clone()), update(object, before)] {
            let answered = validate(&webhook, &review).await;
            assert_eq!(answered.codes(), ["ReviewUnreadable"], "{problem}");
            assert_eq!(answered.decision(), "deny");
            let status = answered.response()["status"].clone();
            let message = status["message"].as_str().unwrap();
            assert!(message.starts_with(&format!("{kind} \"web\": the object ")), "{message}");
            assert!(message.contains(problem) && message.contains("\n  fix:    "), "{message}");
            assert!(message.contains("\n  policy: clusterimagepolicy/baseline\n"), "{message}");
            assert_eq!(status["code"], 403);
            let audit = &answered.response()["auditAnnotations"];
            assert_eq!(audit["codes"], "ReviewUnreadable");
            assert_eq!(audit["policies"], "clusterimagepolicy/baseline");
            let answered = mutate(&webhook, &review).await;
            assert_eq!(
                (answered.response()["allowed"].clone(), answered.patch()),
                (json!(true), Value::Null)
            );
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_by_its_reason() {
    let webhook = enforced();
    let count = |reason| webhook.count(&format!("admission_turned_away_total{{reason=\"{reason}\"}}"));
    let [many, large]: [Growth; 2] = [
        |_, spec| spec["containers"] = slots(1001, "web:1"),
        |_, spec| spec["containers"][0]["env"] = variables(1, BODY_LIMIT / 6),
    ];
    validate(&webhook, &create(grown("web:1", many)[0].clone())).await;
    assert_eq!((count("unreadable"), count("too_large")), (1, 0));
    mutate(&webhook, &create(grown("web:1", large)[0].clone())).await;
    assert_eq!((count("unreadable"), count("too_large")), (1, 1));
}

/// Returns a review of a pod with too many images, which the webhook cannot read.
fn review_of_too_many() -> Value {
    let [object, _] = grown("web:latest", |_, spec| spec["containers"] = slots(1001, "web:latest"));
    create(object)
}

#[tokio::test]
async fn what_the_clusters_controllers_make_is_allowed_with_a_warning_and_others_take_no_identity() {
    let webhook = enforced();
    webhook.policy(Some("shop"), "children", json!({ "mode": "Enforce", "children": "Enforce" }));
    let mut review = review_of_too_many();
    review["request"]["object"]["metadata"]["ownerReferences"] = json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": true }]);
    assert_eq!(validate(&webhook, &review).await.codes(), ["ReviewUnreadable"]);
    review["request"]["userInfo"] = json!({ "username": REPLICA_SET_CONTROLLER });
    let answered = validate(&webhook, &review).await;
    assert_eq!(answered.response()["allowed"], true);
    assert_eq!(answered.decision(), "warn");
    let [warning] = &*answered.warnings() else { panic!("{:?}", answered.warnings()) };
    assert!(warning.starts_with("Pod \"web\": the object names more than 1000 images"), "{warning}");
    assert!(warning.ends_with("[ReviewUnreadable]") && warning.len() <= 256, "{warning}");
    // No controller makes a Deployment, so its identity excuses none.
    let [_, object] = grown("web:latest", |_, spec| spec["containers"] = slots(1001, "web:latest"));
    let mut of_deployment = create(object);
    of_deployment["request"]["userInfo"] = json!({ "username": REPLICA_SET_CONTROLLER });
    assert_eq!(validate(&webhook, &of_deployment).await.codes(), ["ReviewUnreadable"]);
    // The API server truncates longer warnings, so the webhook leaves out a long name.
    review["request"]["name"] = json!("x".repeat(253));
    assert!(validate(&webhook, &review).await.warnings()[0].starts_with("Pod: the object names"));
}

#[tokio::test]
async fn namespace_and_kind_alone_say_which_policies_may_be_about_it() {
    let enforce = |part: Value| json!({ "mode": "Enforce", "match": part });
    let elsewhere = json!({ "namespaceSelector": { "matchLabels": { "env": "prod" } } });
    let kinds = |kind: &str| json!({ "kinds": [{ "group": "apps", "kind": kind }] });
    let pod = || grown("web:1", |_, spec| spec["containers"] = slots(1001, "web:1"))[0].clone();
    let deployment = || grown("web:1", |_, spec| spec["containers"] = slots(1001, "web:1"))[1].clone();
    let decision = async |policy: Value, object: Value| {
        let webhook = Webhook::new(&[("p", policy)], Table::default());
        webhook.cluster.namespaces.apply("shop".to_owned(), [("env".to_owned(), "test".to_owned())].into());
        let answered = validate(&webhook, &create(object)).await;
        assert_eq!(answered.status, StatusCode::OK);
        answered.decision()
    };
    assert_eq!(decision(enforce(elsewhere), pod()).await, "warn");
    for mode in ["Warn", "Audit"] {
        assert_eq!(decision(json!({ "mode": mode }), pod()).await, "warn", "{mode}");
    }
    // The images, slots and labels of an unreadable object are unknown, so selectors of these rule no policy out.
    let narrow = json!({
        "images": ["quay.io/**"], "slots": ["InitContainer"], "objectSelector": { "matchLabels": { "a": "b" } },
    });
    assert_eq!(decision(enforce(narrow), deployment()).await, "deny");
    assert_eq!(decision(enforce(kinds("Deployment")), deployment()).await, "deny");
    assert_eq!(decision(enforce(kinds("StatefulSet")), deployment()).await, "warn");
    // A pod may belong to a workload of any kind.
    assert_eq!(decision(enforce(kinds("StatefulSet")), pod()).await, "deny");
}

#[tokio::test]
async fn a_namespace_that_nobody_knows_rules_no_policy_out() {
    let elsewhere =
        json!({ "mode": "Enforce", "match": { "namespaceSelector": { "matchLabels": { "env": "prod" } } } });
    let webhook = Webhook::new(&[("p", elsewhere)], Table::default());
    assert_eq!(validate(&webhook, &review_of_too_many()).await.codes(), ["ReviewUnreadable"]);
    webhook.policy(Some("other"), "theirs", json!({ "mode": "Enforce" }));
    webhook.cluster.namespaces.apply("shop".to_owned(), [].into());
    assert_eq!(validate(&webhook, &review_of_too_many()).await.decision(), "warn");
}

#[tokio::test]
async fn debugging_is_refused_only_by_who_looks_at_ephemeral_containers() {
    let mut review = review_of_too_many();
    review["request"]["subResource"] = json!("ephemeralcontainers");
    review["request"]["operation"] = json!("UPDATE");
    review["request"]["oldObject"] = review["request"]["object"].clone();
    for (slots, decision) in
        [(json!(["Container"]), "warn"), (json!(["Container", "EphemeralContainer"]), "deny")]
    {
        let policy = json!({ "mode": "Enforce", "match": { "slots": slots } });
        let webhook = Webhook::new(&[("p", policy)], Table::default());
        assert_eq!(validate(&webhook, &review).await.decision(), decision);
        assert_eq!(mutate(&webhook, &review).await.decision(), "allow");
    }
}

#[tokio::test]
async fn what_is_not_ours_to_judge_need_not_be_read() {
    let webhook = enforced();
    let with = |change: fn(&mut Value)| {
        let mut review = review_of_too_many();
        change(&mut review["request"]);
        review
    };
    let not_ours = [
        with(|request| request["namespace"] = json!("kube-system")),
        with(|request| request["operation"] = json!("DELETE")),
        with(|request| request["subResource"] = json!("status")),
        with(|request| request["kind"] = json!({ "group": "example.dev", "version": "v1", "kind": "Pod" })),
        with(|request| {
            // A review that looks like a canary, but cannot be read, is not treated as one.
            request["namespace"] = json!("kube-system");
            request["kind"]["kind"] = json!("PodTemplate");
            request["object"] = json!({ "metadata": { "name": "tagpin-canary" }, "template": 7 });
        }),
    ];
    for review in not_ours {
        let answered = validate(&webhook, &review).await;
        assert_eq!(answered.response()["allowed"], true);
        assert_eq!(answered.decision(), "skip");
    }
    let answered = webhook.post("/validate/break-glass", sent(&review_of_too_many())).await;
    assert_eq!(
        (answered.response()["allowed"].clone(), answered.decision()),
        (json!(true), "break-glass".into())
    );
}

#[tokio::test]
async fn an_update_is_judged_whole_when_only_the_old_object_cannot_be_read() {
    let webhook = enforced();
    let old = grown("web:1", |_, spec| spec["containers"] = slots(1001, "web:1"));
    for (new, old) in [pod("web:latest"), deployment("web:latest")].into_iter().zip(old) {
        let review = update(new.clone(), old.clone());
        assert_eq!(validate(&webhook, &review).await.codes(), ["TagForbidden"]);
        let mut deleted = new;
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(validate(&webhook, &update(deleted, old)).await.codes(), ["TagForbidden"]);
    }
}

#[tokio::test]
async fn an_object_that_is_broken_is_refused_by_name_as_its_envelope_can_be_read() {
    let webhook = enforced();
    let whole = sent(&create(pod("web:latest")));
    let text = String::from_utf8(whole.clone()).unwrap();
    let object = text.find("\"object\":").unwrap() + "\"object\":".len();
    let not_utf8 = [&whole[..object + 10], b"\xff", &whole[object + 10..]].concat();
    let broken: Vec<Vec<u8>> = vec![
        text.replace("\"containers\":[", "\"containers\":[7,").into_bytes(),
        text.replace("\"object\":{", "\"object\":{\"spec\":[],").into_bytes(),
        text.replace("\"metadata\":{", "\"metadata\":{\"labels\":{\"a\":1},").into_bytes(),
        text.replace("\"image\":", "\"image\":\"web:1\",\"image\":").into_bytes(),
        text.replace("\"object\":{", "\"object\":{,").into_bytes(),
        text.replace("\"object\":{", "\"object\":[{").into_bytes(),
        not_utf8,
        whole[..object + 20].to_vec(),
    ];
    for body in broken {
        let shown = String::from_utf8_lossy(&body[object..(object + 60).min(body.len())]).into_owned();
        let answered = webhook.post("/validate?timeout=10s", body.clone()).await;
        assert_eq!(answered.codes(), ["ReviewUnreadable"], "{shown}");
        let answered = webhook.post("/mutate?timeout=5s", body).await;
        assert_eq!(
            (answered.response()["allowed"].clone(), answered.patch()),
            (json!(true), Value::Null),
            "{shown}"
        );
    }
    // A review that breaks off before the object has no complete envelope.
    let answered = webhook.post("/validate?timeout=10s", whole[..object - 20].to_vec()).await;
    assert_eq!(answered.status, StatusCode::BAD_REQUEST);
}

/// Returns the most expensive policy that the API server takes.
fn slow_policy() -> Value {
    let glob = |n: usize| format!("docker.io/library/{}b{n}", "*a".repeat(110));
    let images: Vec<String> = (0..16).map(glob).collect();
    let exceptions: Vec<Value> = (0..64)
        .map(|n| json!({ "name": format!("e{n}"), "reason": "a test", "expires": "2999-01-01T00:00:00Z", "images": images }))
        .collect();
    json!({ "mode": "Enforce", "exceptions": exceptions })
}

/// Returns a pod with this many different names of images, on which globs with many stars take the longest.
fn slow_pod(images: usize, tag: &str) -> Value {
    let mut object = pod("web:1");
    let containers = (0..images)
        .map(|n| json!({ "name": format!("c{n}"), "image": format!("{}{n:03}:{tag}", "a".repeat(200)) }));
    object["spec"]["containers"] = containers.collect();
    object
}

#[tokio::test]
async fn work_that_is_too_much_is_refused_by_name_in_time() {
    let webhook = enforced();
    webhook.policy(Some("shop"), "slow", slow_policy());
    for (number, operation) in [(1, "CREATE"), (2, "UPDATE")] {
        let object = slow_pod(64, "latest");
        let review = if operation == "CREATE" { create(object) } else { update(object, pod("web:1")) };
        let started = Instant::now();
        let answered = validate(&webhook, &review).await;
        // Without a limit this takes minutes.
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        let codes = answered.codes();
        assert_eq!(codes.iter().filter(|code| *code == "ReviewUnreadable").count(), 1, "{codes:?}");
        assert!(codes.contains(&"TagForbidden".to_owned()), "{codes:?}");
        let message = answered.response()["status"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("\nPod \"web\": the object cannot be checked: "), "{message}");
        assert!(message.contains("\n  policy: imagepolicy/shop/slow\n"), "{message}");
        let audit = &answered.response()["auditAnnotations"];
        assert_eq!(audit["codes"], "ReviewUnreadable,TagForbidden");
        assert_eq!(audit["policies"], "clusterimagepolicy/baseline,imagepolicy/shop/slow");
        let answered = mutate(&webhook, &review).await;
        assert_eq!((answered.response()["allowed"].clone(), answered.patch()), (json!(true), Value::Null));
        assert_eq!(webhook.count("admission_turned_away_total{reason=\"work\"}"), 2 * number);
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_takes_much_work_gets_less_and_others_get_all() {
    let webhook = Webhook::new(&[], Table::default());
    for namespace in ["loud", "shop"] {
        let mut policy = slow_policy();
        policy["exceptions"].as_array_mut().unwrap().truncate(1);
        policy["rules"] = json!({ "existence": "Ignore" });
        webhook.policy(Some(namespace), "slow", policy);
    }
    let review = |namespace: &str, object: Value| {
        let mut review = create(object);
        review["request"]["namespace"] = json!(namespace);
        review
    };
    // One image takes about half of the work that an object may take.
    let heavy = || slow_pod(1, "1");
    assert_eq!(validate(&webhook, &review("loud", heavy())).await.decision(), "allow");
    // The clock stands still.
    let mut refused = 0;
    for _ in 0..100 {
        refused += u32::from(validate(&webhook, &review("loud", heavy())).await.decision() == "deny");
    }
    assert!((40..90).contains(&refused), "{refused}");
    assert_eq!(validate(&webhook, &review("shop", heavy())).await.decision(), "allow");
    // What takes little is judged everywhere.
    assert_eq!(validate(&webhook, &review("loud", pod("web:1"))).await.decision(), "allow");
    assert_eq!(validate(&webhook, &review("loud", pod("web:latest"))).await.codes(), ["TagForbidden"]);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(validate(&webhook, &review("loud", heavy())).await.decision(), "allow");
}
