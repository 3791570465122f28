//! Lists and watches that break off, never end, or go wrong on the way: nothing is lost, and the API server is asked
//! again after pauses.

use std::time::Duration;

use serde_json::{Value, json};
use tagpin_kube::Cluster;
use tagpin_kube::store::Store;
use tagpin_objects::kinds::Kinds;
use tokio::time::Instant;

use tagpin_testing::path;
use tagpin_testing::scripted_api::{Call, Watch};

use crate::replica::Replica;

const NAMESPACES: &str = "/api/v1/namespaces";
/// Shortest first pause after a failure, without its random part.
const FIRST: Duration = Duration::from_millis(400);
/// Time limit of a request and of the objects of a stream.
const LIMIT: Duration = Duration::from_secs(65);

fn namespace(name: &str, version: &str) -> Value {
    json!({ "metadata": { "name": name, "resourceVersion": version } })
}

fn knows(cluster: &Cluster, name: &str) -> bool {
    cluster.namespace_labels(name).is_some()
}

/// Returns the version from which a request watches; none if it lists.
fn watches_from(call: &Call) -> Option<&str> {
    call.query.get("resourceVersion").map(String::as_str).filter(|_| !call.lists())
}

/// Returns a replica of which every other store is filled, so that no other list takes the turn of one. The watches of
/// these stores stay open.
async fn settled() -> (Replica, Vec<Watch>) {
    let (mut replica, mut open) = (Replica::start(), Vec::new());
    for path in Store::all(&Kinds::default()).map(path).filter(|path| path != NAMESPACES) {
        open.push(replica.fill(&path, json!([])).await);
    }
    (replica, open)
}

fn status(code: u16) -> Value {
    json!({ "kind": "Status", "status": "Failure", "code": code, "reason": "x", "message": "scripted" })
}

/// Answers a watch with one event, and ends it.
fn one_event(call: Call, kind: &str, object: Value) {
    call.watch().event(kind, object);
}

/// Lists nothing and breaks the watch that follows, again and again. Returns the pauses before the lists.
async fn pauses_of(replica: &mut Replica, rounds: usize, what: &str, breaks: fn(Call)) -> Vec<Duration> {
    let mut pauses = Vec::new();
    for _ in 0..rounds {
        replica.call(NAMESPACES).await.list(json!([namespace("kept", "1")]), "10");
        breaks(replica.call(NAMESPACES).await);
        let start = Instant::now();
        let again = replica.call(NAMESPACES).await;
        assert!(again.lists(), "{what}: {:?}", again.query);
        assert!(knows(&replica.cluster, "kept"), "what is held stays in use meanwhile");
        pauses.push(start.elapsed());
        replica.waiting.entry(NAMESPACES.to_owned()).or_default().insert(0, again);
    }
    pauses
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_cannot_go_on_is_listed_anew_after_pauses_that_grow() {
    type Answer = fn(Call);
    let cases: [(&str, Answer); 8] = [
        ("a refused version", |call| call.refuse(410, "Expired")),
        ("a kind that is gone for a moment", |call| call.refuse(404, "NotFound")),
        ("a version that is forgotten on the way", |call| call.watch().expired()),
        ("an error of the server", |call| one_event(call, "ERROR", status(500))),
        ("an object without a version", |call| {
            one_event(call, "ADDED", json!({ "metadata": { "name": "a" } }));
        }),
        ("an object with an empty version", |call| one_event(call, "ADDED", namespace("a", ""))),
        ("an object that is none", |call| one_event(call, "MODIFIED", Value::Null)),
        ("an event that is none", |call| one_event(call, "CHANGED", namespace("a", "11"))),
    ];
    for (what, breaks) in cases {
        let (mut replica, _open) = settled().await;
        let pauses = pauses_of(&mut replica, 6, what, breaks).await;
        assert!(pauses.iter().all(|pause| *pause >= FIRST), "{what}: {pauses:?}");
        assert!(
            pauses[4] >= Duration::from_secs(3) && pauses[5] <= Duration::from_secs(10),
            "{what}: {pauses:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_in_a_watch_loses_nothing() {
    for code in [410, 500] {
        let mut replica = Replica::start();
        let watch = replica.fill(NAMESPACES, json!([namespace("a", "1"), namespace("b", "2")])).await;
        watch.event("ADDED", namespace("c", "11"));
        watch.event("ERROR", status(code));
        let list = replica.call(NAMESPACES).await;
        assert!(list.lists() && ["a", "b", "c"].iter().all(|name| knows(&replica.cluster, name)));
        // Meanwhile one was deleted, and another one created.
        list.list(json!([namespace("b", "2"), namespace("c", "11"), namespace("d", "12")]), "20");
        replica.until("list", |cluster| knows(cluster, "d") && !knows(cluster, "a")).await;
        assert!(knows(&replica.cluster, "b") && knows(&replica.cluster, "c"));
        assert_eq!(watches_from(&replica.call(NAMESPACES).await), Some("20"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_moves_the_version_and_an_empty_one_does_not() {
    let mut replica = Replica::start();
    let bookmark = |version: &str| json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "resourceVersion": version } });
    let watch = replica.fill(NAMESPACES, json!([])).await;
    watch.event("BOOKMARK", bookmark("50"));
    drop(watch);
    let again = replica.call(NAMESPACES).await;
    assert_eq!(watches_from(&again), Some("50"));
    again.watch().event("BOOKMARK", bookmark(""));
    assert!(
        replica.call(NAMESPACES).await.lists(),
        "without a version the watch would miss what happened before it"
    );
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_opened_again_after_pauses_that_grow_until_one_lasts() {
    let mut replica = Replica::start();
    drop(replica.fill(NAMESPACES, json!([])).await);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let start = Instant::now();
        let again = replica.call(NAMESPACES).await;
        assert_eq!(watches_from(&again), Some("10"));
        pauses.push(start.elapsed());
        drop(again.watch());
    }
    assert!(pauses.iter().all(|pause| *pause >= FIRST) && pauses[4] >= Duration::from_secs(3), "{pauses:?}");
    let lasting = replica.call(NAMESPACES).await.watch();
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(lasting);
    let start = Instant::now();
    drop(replica.call(NAMESPACES).await.watch());
    assert_eq!(start.elapsed(), Duration::ZERO, "a watch ends after its time");
    let start = Instant::now();
    drop(replica.call(NAMESPACES).await.watch());
    assert!((FIRST..Duration::from_secs(3)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_after_the_same_event_are_opened_again_after_a_pause() {
    let mut replica = Replica::start();
    drop(replica.fill(NAMESPACES, json!([])).await);
    for _ in 0..6 {
        let start = Instant::now();
        replica.call(NAMESPACES).await.watch().event("ADDED", namespace("a", "11"));
        assert!(start.elapsed() >= FIRST, "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_token_expired_starts_again_from_its_first_page() {
    let (mut replica, _open) = settled().await;
    let start = Instant::now();
    for _ in 0..4 {
        replica.call(NAMESPACES).await.refuse(422, "Invalid");
        let first = replica.call(NAMESPACES).await;
        assert!(!first.query.contains_key("continue"), "{:?}", first.query);
        let metadata = json!({ "resourceVersion": "9", "continue": "more" });
        let items = json!([namespace("gone", "1")]);
        first.ok(json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items }));
        let second = replica.call(NAMESPACES).await;
        assert_eq!(second.query["continue"], "more");
        second.refuse(410, "Expired");
    }
    replica.call(NAMESPACES).await.list(json!([namespace("a", "2")]), "10");
    replica.until("list", |cluster| knows(cluster, "a")).await;
    assert!(!knows(&replica.cluster, "gone"), "pages of two lists are none");
    assert!(start.elapsed() >= Duration::from_secs(4), "{:?}", start.elapsed());
}

/// Asserts that a request that arrived just now is given up after the time limit.
async fn given_up_in_time(call: &Call) {
    let start = Instant::now();
    call.given_up().await;
    let elapsed = start.elapsed();
    assert!((LIMIT..LIMIT + Duration::from_secs(1)).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_answered_is_given_up() {
    let mut replica = Replica::start();
    // The stream, the page and the watch, one after the other.
    given_up_in_time(&replica.call(NAMESPACES).await).await;
    replica.call(NAMESPACES).await.refuse(422, "Invalid");
    let page = replica.call(NAMESPACES).await;
    assert!(!page.streams());
    given_up_in_time(&page).await;
    replica.call(NAMESPACES).await.list(json!([namespace("a", "1")]), "10");
    let watch = replica.call(NAMESPACES).await;
    assert_eq!(watches_from(&watch), Some("10"));
    given_up_in_time(&watch).await;
    assert_eq!(watches_from(&replica.call(NAMESPACES).await), Some("10"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_goes_on_for_ever_is_followed_by_pages() {
    let mut replica = Replica::start();
    let stream = replica.call(NAMESPACES).await.watch();
    let start = Instant::now();
    while start.elapsed() < LIMIT - Duration::from_secs(5) {
        stream.event("ADDED", namespace("a", "1"));
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let call = replica.call(NAMESPACES).await;
    assert!(!call.streams() && call.lists() && start.elapsed() <= LIMIT + Duration::from_secs(10));
    assert!(!knows(&replica.cluster, "a"), "half a list is none");
    call.list(json!([namespace("b", "1")]), "10");
    replica.until("list", |cluster| knows(cluster, "b") && !knows(cluster, "a")).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_deleted_while_it_is_listed_is_not_kept() {
    let mut replica = Replica::start();
    let stream = replica.call(NAMESPACES).await.watch();
    stream.event("ADDED", namespace("a", "1"));
    stream.event("ADDED", namespace("b", "2"));
    stream.event("DELETED", namespace("a", "9"));
    stream.listed("10");
    let call = replica.call(NAMESPACES).await;
    assert!(call.lists() && !call.streams());
    call.list(json!([namespace("b", "2"), namespace("c", "3")]), "10");
    replica.until("list", |cluster| knows(cluster, "b") && !knows(cluster, "a")).await;
    // One that is deleted after the list comes as an event.
    replica.call(NAMESPACES).await.watch().event("DELETED", namespace("b", "11"));
    replica.until("event", |cluster| knows(cluster, "c") && !knows(cluster, "b")).await;
}
