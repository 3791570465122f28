//! The images of nodes: one listing for all reviews, for a minute.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tagpin_domain::image::ImageRef;
use tagpin_kube::node_images::ListedNodes;
use tagpin_review::NodeImages as _;
use tagpin_testing::scripted_api::{Api, Call};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance};

const LIST: &str = "GET /api/v1/nodes";

/// Returns a node as an API server writes it, with these names of images.
fn node(name: &str, images: &[&[&str]]) -> Value {
    let images: Vec<Value> = images.iter().map(|names| json!({ "names": names, "sizeBytes": 1 })).collect();
    json!({ "metadata": { "name": name, "uid": name }, "status": { "images": images } })
}

fn page(nodes: &[Value], more: Option<&str>) -> Value {
    json!({ "kind": "NodeList", "apiVersion": "v1", "metadata": { "continue": more }, "items": nodes })
}

/// Starts a question about an image, which has ten seconds.
fn ask(nodes: &Arc<ListedNodes>, image: &str) -> JoinHandle<bool> {
    let (nodes, image) = (Arc::clone(nodes), ImageRef::parse(image).unwrap());
    tokio::spawn(async move { nodes.holds(&image, Instant::now() + Duration::from_secs(10)).await })
}

fn nodes() -> (Arc<ListedNodes>, Api) {
    let (client, api) = Api::new();
    (Arc::new(ListedNodes::new(client)), api)
}

fn is_first_page(call: &Call) {
    assert_eq!(call.query.get("limit").map(String::as_str), Some("100"));
    assert!(!call.query.contains_key("continue") && !call.query.contains_key("watch"), "{:?}", call.query);
}

#[tokio::test(start_paused = true)]
async fn all_questions_share_one_listing_of_all_pages() {
    let (nodes, mut api) = nodes();
    let asked = ["webapi:dev", "webapi:prod", "docker.io/library/nginx:1", "localhost/tool:1"]
        .map(|image| ask(&nodes, image));
    let first = api.expect(LIST).await;
    is_first_page(&first);
    let broken = json!({ "metadata": { "name": "odd" }, "status": { "images": "none" } });
    let named = node(
        "a",
        &[&["docker.io/library/webapi@sha256:5d", "docker.io/library/webapi:dev"], &["<none>:<none>"]],
    );
    first.ok(page(&[named, broken], Some("more")));
    let second = api.expect(LIST).await;
    assert_eq!(second.query.get("continue").map(String::as_str), Some("more"));
    // A node without images has `null` there, and some runtimes write short names.
    let none = json!({ "metadata": { "name": "b" }, "status": { "images": null } });
    second.ok(page(&[none, node("c", &[&["nginx:1"], &["localhost/tool:2"]])], None));
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(asked.await.unwrap());
    }
    assert_eq!(answers, [true, false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_listing_is_used_for_a_minute() {
    let (nodes, mut api) = nodes();
    let asked = ask(&nodes, "webapi:dev");
    api.expect(LIST).await.ok(page(&[node("a", &[&["webapi:dev"]])], None));
    assert!(asked.await.unwrap());
    advance(Duration::from_secs(59)).await;
    assert!(ask(&nodes, "webapi:dev").await.unwrap());
    advance(Duration::from_secs(2)).await;
    let asked = ask(&nodes, "webapi:dev");
    api.expect(LIST).await.ok(page(&[], None));
    assert!(!asked.await.unwrap());
    api.quiet(Duration::from_secs(600)).await;
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_counts_as_far_as_it_came_and_is_tried_again_soon() {
    let (nodes, mut api) = nodes();
    let asked = ["webapi:dev", "nginx:1"].map(|image| ask(&nodes, image));
    api.expect(LIST).await.ok(page(&[node("a", &[&["webapi:dev"]])], Some("more")));
    let forbidden =
        json!({ "kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "no", "code": 403 });
    api.expect(LIST).await.answer(403, forbidden);
    let [held, other] = asked;
    assert!(held.await.unwrap() && !other.await.unwrap());
    assert!(!ask(&nodes, "nginx:1").await.unwrap());
    advance(Duration::from_secs(6)).await;
    let asked = ask(&nodes, "nginx:1");
    api.expect(LIST).await.ok(page(&[node("a", &[&["nginx:1"]])], None));
    assert!(asked.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_review_waits_a_second_and_the_next_one_finds_the_listing() {
    let (nodes, mut api) = nodes();
    let start = Instant::now();
    let asked = ask(&nodes, "webapi:dev");
    let call = api.expect(LIST).await;
    assert!(!asked.await.unwrap());
    assert_eq!(start.elapsed().as_millis(), 1_000);
    call.ok(page(&[node("a", &[&["webapi:dev"]])], None));
    assert!(ask(&nodes, "webapi:dev").await.unwrap());
    // A review without time left does not wait.
    let image = ImageRef::parse("webapi:other").unwrap();
    assert!(!nodes.holds(&image, Instant::now()).await);
}
