//! Lists of all objects: as a stream of events, and in pages where the API server has no such streams.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tagpin_kube::Cluster;
use tagpin_kube::store::Store;
use tagpin_objects::kinds::Kinds;
use tokio::time::Instant;

use tagpin_testing::scripted_api::Call;

use crate::replica::Replica;

const NAMESPACES: &str = "/api/v1/namespaces";

fn namespace(name: &str, version: &str) -> Value {
    json!({ "metadata": { "name": name, "resourceVersion": version } })
}

/// Returns a namespace whose JSON is this long.
fn large(name: &str, bytes: usize) -> Value {
    json!({ "metadata": { "name": name, "resourceVersion": "1", "annotations": { "a": "x".repeat(bytes) } } })
}

fn knows(cluster: &Cluster, name: &str) -> bool {
    cluster.namespace_labels(name).is_some()
}

/// Answers a request for a list with one page that is not the last.
fn page(call: Call, items: &[Value]) {
    let metadata = json!({ "resourceVersion": "9", "continue": "more" });
    call.ok(json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items }));
}

#[tokio::test(start_paused = true)]
async fn a_list_is_a_stream_and_its_watch_follows() {
    let mut replica = Replica::start();
    let call = replica.call(NAMESPACES).await;
    let parameter = |name: &str| call.query.get(name).map(String::as_str);
    let wanted = ["sendInitialEvents", "resourceVersionMatch", "allowWatchBookmarks", "timeoutSeconds"];
    assert_eq!(wanted.map(parameter), [Some("true"), Some("NotOlderThan"), Some("true"), Some("60")]);
    let stream = call.watch();
    stream.event("ADDED", namespace("a", "1"));
    stream.event("ADDED", namespace("b", "2"));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!knows(&replica.cluster, "a"), "half a list is none");
    stream.listed("10");
    replica.until("list", |cluster| knows(cluster, "a") && knows(cluster, "b")).await;
    // The buffer of the stream is as long as the largest object, so the watch is another request.
    let call = replica.call(NAMESPACES).await;
    assert_eq!((call.lists(), call.query["resourceVersion"].as_str()), (false, "10"));
    let watch = call.watch();
    watch.event("ADDED", namespace("c", "11"));
    replica.until("event", |cluster| knows(cluster, "c")).await;
    // It goes on from where it ended.
    drop(watch);
    let again = replica.call(NAMESPACES).await;
    assert_eq!((again.lists(), again.query["resourceVersion"].as_str()), (false, "11"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_is_opened_again_after_a_pause() {
    let mut replica = Replica::start();
    replica.call(NAMESPACES).await.watch().listed("10");
    let mut last = Instant::now();
    for _ in 0..3 {
        drop(replica.call(NAMESPACES).await.watch());
        let again = replica.call(NAMESPACES).await;
        assert_eq!((again.lists(), again.query["resourceVersion"].as_str()), (false, "10"));
        assert!(last.elapsed() >= Duration::from_millis(400), "{:?}", last.elapsed());
        last = Instant::now();
        drop(again.watch());
    }
}

#[tokio::test(start_paused = true)]
async fn without_streams_a_list_comes_in_pages_at_once() {
    for (code, reason) in [(422, "Invalid"), (400, "BadRequest")] {
        let mut replica = Replica::start();
        let start = Instant::now();
        replica.call(NAMESPACES).await.refuse(code, reason);
        let first = replica.call(NAMESPACES).await;
        assert!(!first.streams() && start.elapsed() <= Duration::from_secs(30), "{:?}", start.elapsed());
        assert_eq!(first.query["limit"], "5");
        page(first, &[namespace("a", "1")]);
        let second = replica.call(NAMESPACES).await;
        assert_eq!(second.query["continue"], "more");
        assert!(!knows(&replica.cluster, "a"), "half a list is none");
        second.list(json!([namespace("b", "2")]), "10");
        let watch = replica.call(NAMESPACES).await;
        assert_eq!((watch.lists(), watch.query["timeoutSeconds"].as_str()), (false, "60"));
        assert!(knows(&replica.cluster, "a") && knows(&replica.cluster, "b"));
        // An API server that was upgraded meanwhile may have streams.
        watch.watch().expired();
        assert!(replica.call(NAMESPACES).await.streams());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_ends_its_list_is_followed_by_pages() {
    for stays_open in [false, true] {
        let mut replica = Replica::start();
        // An API server that does not know the parameter sends the objects, and never the end of the list.
        let stream = replica.call(NAMESPACES).await.watch();
        stream.event("ADDED", namespace("a", "1"));
        let open = stays_open.then_some(stream);
        let call = replica.call(NAMESPACES).await;
        assert!(!call.streams(), "{stays_open}");
        call.list(json!([namespace("a", "1")]), "10");
        replica.until("list", |cluster| knows(cluster, "a")).await;
        drop(open);
    }
}

#[tokio::test(start_paused = true)]
async fn pages_of_large_objects_halve_and_those_of_small_objects_grow() {
    let mut replica = Replica::start();
    replica.call(NAMESPACES).await.refuse(422, "Invalid");
    let small = vec![namespace("a", "1"); 5];
    let two_and_large = vec![large("b", 3 << 20), large("c", 2 << 20)];
    let between = vec![large("d", 1 << 20)];
    for (limit, items) in [
        ("5", &small),
        ("10", &small),
        ("20", &small),
        ("20", &between),
        ("20", &two_and_large),
        ("10", &two_and_large),
        ("5", &two_and_large),
        ("2", &two_and_large),
        // An object of any size has a page of its own.
        ("1", &two_and_large),
        ("1", &small),
    ] {
        let call = replica.call(NAMESPACES).await;
        assert_eq!(call.query["limit"], limit);
        page(call, items);
    }
    let last = replica.call(NAMESPACES).await;
    assert_eq!((last.query["limit"].as_str(), last.query["continue"].as_str()), ("2", "more"));
    last.list(json!([namespace("e", "2")]), "10");
    replica.until("list", |cluster| ["a", "b", "c", "d", "e"].iter().all(|name| knows(cluster, name))).await;
}

#[tokio::test(start_paused = true)]
async fn three_lists_are_read_at_a_time_and_one_that_hangs_holds_up_no_other_for_long() {
    let mut replica = Replica::start();
    let start = Instant::now();
    let mut open = BTreeMap::new();
    for _ in 0..3 {
        let call = replica.next().await;
        open.insert(call.path.clone(), call.watch());
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    let (path, stream) = open.pop_first().unwrap();
    stream.listed("10");
    let next = [replica.next().await, replica.next().await];
    assert!(
        next.iter().any(|call| call.path == path && !call.lists())
            && next.iter().any(|call| call.path != path)
    );
    assert_eq!(start.elapsed(), Duration::ZERO, "the turn of a list that has ended goes to another");
    // Nobody answers any more.
    for _ in Store::all(&Kinds::default()).skip(4) {
        assert!(replica.next().await.streams());
    }
    assert!(start.elapsed() <= Duration::from_secs(31), "{:?}", start.elapsed());
}
