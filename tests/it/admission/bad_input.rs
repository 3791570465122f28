//! Bad input: each kind has a defined answer and a counter, and harms no other review.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tagpin_domain::fact::Fact;

use crate::support::webhook::{Table, Tables, Webhook, create, deployment, pod, update};
use tagpin_testing::digest;

fn baseline() -> Value {
    json!({ "mode": "Enforce", "pin": { "targets": ["Pods"] } })
}

fn webhook() -> Webhook {
    Webhook::new(&[("baseline", baseline())], Table::default())
}

const UNREADABLE: &str = "admission_turned_away_total{reason=\"unreadable\"}";

#[tokio::test]
async fn what_is_no_review_is_a_bad_request_with_a_reason_and_a_counter() {
    let webhook = webhook();
    let whole = create(pod("web:1")).to_string();
    let bodies: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"not json".to_vec(),
        b"{}".to_vec(),
        b"\xff\xfe".to_vec(),
        br#"{"apiVersion":"v1","kind":"Pod"}"#.to_vec(),
        br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#.to_vec(),
        br#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":null}"#.to_vec(),
        whole.as_bytes()[..whole.len() / 2].to_vec(),
        "[".repeat(200_000).into_bytes(),
    ];
    let count = bodies.len() as u64;
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        for path in ["/mutate", "/validate"] {
            let answered = webhook.post(path, body.clone()).await;
            assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{shown}");
            assert!(!answered.body.is_empty(), "{shown}");
        }
    }
    assert_eq!(webhook.count(UNREADABLE), 2 * count);
    assert!(webhook.validate(&create(pod("web:latest"))).await.codes() == ["TagForbidden"]);
}

#[tokio::test]
async fn a_body_over_the_limit_that_is_no_review_is_said_to_be_too_large() {
    let webhook = webhook();
    let answered = webhook.post("/validate", vec![b' '; tagpin_webhook::BODY_LIMIT + 1]).await;
    assert_eq!(answered.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(webhook.count("admission_turned_away_total{reason=\"too_large\"}"), 1);
}

#[tokio::test]
async fn other_paths_and_methods_are_told_what_there_is() {
    let webhook = webhook();
    for path in ["/", "/mutate/", "/Mutate", "/metrics"] {
        assert_eq!(webhook.post(path, "{}").await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let get = webhook.send(Request::get("/mutate").body(Body::empty()).unwrap()).await;
    assert_eq!(get.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(get.body, b"tagpin answers POST /mutate and POST /validate\n");
    assert_eq!(webhook.count("admission_turned_away_total{reason=\"not_found\"}"), 5);
}

#[tokio::test]
async fn another_version_of_a_kind_is_not_ours() {
    let webhook = webhook();
    let mut review = create(deployment("web:latest"));
    review["request"]["kind"]["version"] = json!("v2");
    assert_eq!(webhook.validate(&review).await.decision(), "skip");
}

#[tokio::test]
async fn an_update_without_its_old_object_is_judged_whole() {
    let webhook = webhook();
    let mut review = update(deployment("web:latest"), deployment("web:latest"));
    review["request"]["oldObject"] = Value::Null;
    assert_eq!(webhook.validate(&review).await.codes(), ["TagForbidden"]);
}

#[tokio::test]
async fn many_warnings_fit_into_the_headers_that_all_webhooks_share() {
    let webhook = Webhook::new(&[("soft", json!({ "mode": "Warn" }))], Table::default());
    let mut object = pod("web:latest");
    object["spec"]["containers"] = (0..60)
        .map(|n| json!({ "name": format!("{}\n\u{e9}{n}", "c".repeat(60)), "image": format!("{}/w{n}:latest", "x".repeat(200)) }))
        .collect();
    let warnings = webhook.validate(&create(object)).await.warnings();
    assert_eq!(warnings.len(), 6, "{warnings:?}");
    assert!(
        warnings.iter().all(|line| line.len() <= 256 && line.bytes().all(|b| matches!(b, b' '..=b'~'))),
        "{warnings:?}"
    );
    assert!(warnings.iter().map(String::len).sum::<usize>() <= 4096);
    assert!(warnings[5].contains("115 more"), "{warnings:?}");
}

#[tokio::test]
async fn a_thousand_containers_get_an_answer_of_bounded_size() {
    let facts = [("docker.io/library/same:1".to_owned(), Fact::Present(digest('a')))].into();
    let registry = Table::of(Tables { facts, ..Tables::default() });
    let webhook = Webhook::new(&[("baseline", baseline())], registry.clone());
    let with = |image: &dyn Fn(usize) -> String| {
        let mut object = pod("web:1");
        let containers = (0..1000).map(|n| json!({ "name": format!("c{n}"), "image": image(n) }));
        object["spec"]["containers"] = containers.collect();
        create(object)
    };
    // Of many different images, 64 are looked up and the others are reported. One image in many containers is looked up
    // once.
    let (different, same) = (with(&|n| format!("w:{n}")), with(&|_| "same:1".to_owned()));
    let answered = webhook.validate(&different).await;
    assert!(answered.codes().contains(&"TagNotFound".to_owned()), "{:?}", answered.codes());
    assert_eq!(answered.response()["auditAnnotations"]["codes"], "TagNotFound,TooManyImages");
    assert_eq!(registry.asked(), 64);
    assert!(answered.body.len() < 100_000, "{}", answered.body.len());
    let answered = webhook.validate(&same).await;
    assert_eq!(answered.response()["auditAnnotations"]["codes"], "NotPinned");
    assert!(answered.body.len() < 100_000, "{}", answered.body.len());
    let answered = webhook.mutate(&same).await;
    assert_eq!(answered.patch().as_array().unwrap().len(), 1001, "a thousand pins and the annotation");
    assert_eq!(registry.asked(), 66);
}

#[tokio::test]
async fn hostile_names_and_references_are_shown_harmlessly() {
    let webhook = webhook();
    for hostile in
        ["a\"b\nc\u{1b}[31m:latest", "web:latest\r\nWarning: x", "../../etc", "web:\u{202e}", "\u{0}", " web"]
    {
        let mut object = pod(hostile);
        object["spec"]["containers"][0]["name"] = json!("x\"\n\u{7}y");
        let answered = webhook.validate(&create(object)).await;
        assert_eq!(answered.codes(), ["ReferenceInvalid"], "{hostile:?}");
        let message = answered.response()["status"]["message"].as_str().unwrap().to_owned();
        assert!(!message.chars().any(|c| c.is_control() && c != '\n'), "{message:?}");
        assert_eq!(message.lines().filter(|line| line.starts_with("image ")).count(), 1, "{message:?}");
    }
}

#[tokio::test]
async fn kinds_that_are_not_ours_are_allowed() {
    let webhook = webhook();
    let object = json!({ "apiVersion": "example.dev/v1", "kind": "Deployment", "metadata": { "name": "x" },
        "spec": { "template": { "spec": { "containers": [ { "name": "a", "image": "web:latest" } ] } } } });
    assert_eq!(webhook.validate(&create(object)).await.response()["allowed"], true);
    let requests = "admission_requests_total{webhook=\"validate\",operation=\"CREATE\",kind=\"other\",decision=\"skip\"}";
    assert_eq!(webhook.count(requests), 1);
}

#[tokio::test]
async fn operations_that_are_not_ours_are_allowed() {
    let webhook = webhook();
    for operation in ["DELETE", "CONNECT", "SOMETHING"] {
        let mut review = create(pod("web:latest"));
        review["request"]["operation"] = json!(operation);
        assert_eq!(webhook.validate(&review).await.response()["allowed"], true);
    }
    let mut review = create(pod("web:latest"));
    review["request"]["object"] = Value::Null;
    assert_eq!(webhook.validate(&review).await.response()["allowed"], true);
}

#[tokio::test]
async fn a_panic_in_one_review_ends_neither_the_process_nor_another_review() {
    let tables = Tables { panicking: vec!["docker.io/library/bad:1".to_owned()], ..Tables::default() };
    let webhook = Webhook::new(&[("baseline", baseline())], Table::of(tables));
    let (bad, good) = (create(pod("bad:1")), create(deployment("web:latest")));
    let (bad, good) = tokio::join!(webhook.validate(&bad), webhook.validate(&good));
    assert_eq!(bad.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(good.codes(), ["TagForbidden"]);
    assert_eq!(webhook.count("admission_turned_away_total{reason=\"panicked\"}"), 1);
    assert_eq!(webhook.count("admission_inflight"), 0);
}

#[tokio::test(start_paused = true)]
async fn one_namespace_leaves_places_in_flight() {
    let tables = Tables { hanging: vec!["docker.io/library/slow:1".to_owned()], ..Tables::default() };
    let webhook = Webhook::with(&[("baseline", baseline())], Table::of(tables), 16, jiff::Timestamp::now);
    let mut other = create(pod("slow:1"));
    other["request"]["namespace"] = json!("other");
    let slow = (0..16).map(|_| create(pod("slow:1"))).chain([other]);
    let asked = slow.map(async |review| webhook.validate(&review).await.status);
    let answered = futures::future::join_all(asked).await;
    let (shop, other) = answered.split_at(16);
    assert_eq!(other, [StatusCode::OK]);
    assert_eq!(shop.iter().filter(|status| **status == StatusCode::OK).count(), 14);
    assert_eq!(webhook.count("admission_turned_away_total{reason=\"shed\"}"), 2);
}

#[tokio::test]
async fn more_reviews_than_the_limit_are_turned_away_and_counted() {
    let tables = Tables { hanging: vec!["docker.io/library/slow:1".to_owned()], ..Tables::default() };
    let webhook = Webhook::with(&[("baseline", baseline())], Table::of(tables), 1, jiff::Timestamp::now);
    let (slow, next) = (create(pod("slow:1")), create(pod("web:1")));
    let (first, second) =
        tokio::join!(webhook.post("/validate?timeout=1s", slow.to_string()), webhook.validate(&next));
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((second.retry_after.as_deref(), first.retry_after), (Some("1"), None));
    assert_eq!(webhook.count("admission_turned_away_total{reason=\"shed\"}"), 1);
}
