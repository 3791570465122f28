//! Gathering from the replicas what they refused.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::routing::get;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use tagpin_domain::policy::PolicyId;
use tagpin_kube::Observed;
use tagpin_kube::door::{CURRENT, NEXT};
use tagpin_kube::policies::InForce;
use tagpin_leader::findings::{Found, Gatherer, INTERVAL};
use tagpin_leader::replicas::{Ask, AskByAddress, Replica};
use tagpin_objects::door::{LENGTH, Token};
use tagpin_objects::findings::{FINDINGS, Page};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

const TOKEN: [u8; LENGTH] = [1; LENGTH];

/// Replicas with these pages, by name. They answer only to the current token.
#[derive(Clone, Default)]
struct Pages(Arc<Mutex<BTreeMap<String, Page>>>);

#[async_trait]
impl Ask for Pages {
    async fn ask(&self, _: &Replica) -> Option<Vec<InForce>> {
        panic!("findings are gathered without the policies")
    }

    async fn findings(&self, replica: &Replica, token: Token) -> Option<Page> {
        let pages = self.0.lock().unwrap();
        pages.get(&replica.name).filter(|_| token == Token::new(TOKEN)).cloned()
    }
}

fn replica(name: &str) -> Replica {
    Replica { name: name.to_owned(), uid: name.to_owned(), address: Ipv4Addr::LOCALHOST.into() }
}

fn page(rows: &[(&str, &str, u32, &str)]) -> Page {
    let row = |(policy, image, count, last): &(&str, &str, u32, &str)| {
        json!({ "policy": policy, "namespace": "ci", "kind": "Pod", "user": "runner", "image": image,
            "code": "TagForbidden", "count": count, "last": format!("2026-11-21T{last}Z") })
    };
    serde_json::from_value(json!({ "refused": rows.iter().map(row).collect::<Vec<_>>() })).unwrap()
}

fn secret() -> Secret {
    let entry = |key: &str, byte| (key.to_owned(), ByteString(vec![byte; LENGTH]));
    Secret { data: Some([entry(CURRENT, 1), entry(NEXT, 2)].into()), ..Secret::default() }
}

fn rows(found: &Option<Arc<Found>>, policy: &str) -> Vec<(String, u32, String)> {
    let id = PolicyId { namespace: None, name: policy.to_owned() };
    let refused = found.as_ref().and_then(|found| found.refused.get(&id));
    refused.into_iter().flatten().map(|row| (row.image.clone(), row.count, row.last.to_string())).collect()
}

#[tokio::test(start_paused = true)]
async fn the_pages_of_all_replicas_are_joined_each_minute() {
    let pages = Pages::default();
    let set = |name: &str, page| drop(pages.0.lock().unwrap().insert(name.to_owned(), page));
    set(
        "a",
        page(&[
            ("base", "web", 3, "10:00:00"),
            ("base", "app", 4, "09:00:00"),
            ("other", "web", 1, "09:00:00"),
        ]),
    );
    set("b", page(&[("base", "web", 2, "10:00:01")]));
    let (telling, door) = watch::channel(Observed::Unknown);
    let (ready, replicas) = watch::channel(Vec::new());
    let (sender, mut found) = watch::channel(None);
    let gatherer = Gatherer { ask: Arc::new(pages.clone()), door, replicas, found: sender };
    let task = tokio::spawn(gatherer.keep());
    ready.send_replace(vec![replica("a"), replica("b")]);
    assert!(timeout(INTERVAL * 3, found.changed()).await.is_err(), "nobody is asked without a token");

    telling.send_replace(Observed::Present(Arc::new(secret())));
    timeout(Duration::from_secs(1), found.changed()).await.unwrap().unwrap();
    let row = |image: &str, count, last: &str| (image.to_owned(), count, format!("2026-11-21T{last}Z"));
    let seen = found.borrow_and_update().clone();
    assert_eq!(rows(&seen, "base"), [row("web", 5, "10:00:01"), row("app", 4, "09:00:00")]);
    assert_eq!(rows(&seen, "other"), [row("web", 1, "09:00:00")]);
    assert!(timeout(INTERVAL * 3, found.changed()).await.is_err(), "nothing is new");

    // A replica that does not answer keeps its last page as long as it is ready.
    pages.0.lock().unwrap().remove("a");
    set("b", page(&[("base", "web", 9, "10:00:02")]));
    timeout(INTERVAL * 2, found.changed()).await.unwrap().unwrap();
    let seen = found.borrow_and_update().clone();
    assert_eq!(rows(&seen, "base"), [row("web", 12, "10:00:02"), row("app", 4, "09:00:00")]);
    ready.send_replace(vec![replica("b")]);
    timeout(INTERVAL * 2, found.changed()).await.unwrap().unwrap();
    assert_eq!(rows(&found.borrow_and_update(), "base"), [row("web", 9, "10:00:02")]);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn the_newest_reason_of_an_image_counts() {
    let row = |code: &str, last: &str| json!({ "namespace": "shop", "slot": "app", "image": "web:1", "code": code, "last": format!("2026-11-21T{last}Z") });
    let page =
        |rows: Vec<serde_json::Value>| serde_json::from_value::<Page>(json!({ "unpinned": rows })).unwrap();
    let pages = Pages::default();
    let rows = vec![row("RateLimited", "10:00:02"), row("PinUndone", "10:00:01")];
    pages.0.lock().unwrap().insert("a".to_owned(), page(rows));
    pages.0.lock().unwrap().insert("b".to_owned(), page(vec![row("AccessDenied", "10:00:00")]));
    let (sender, mut found) = watch::channel(None);
    let gatherer = Gatherer {
        ask: Arc::new(pages),
        door: watch::channel(Observed::Present(Arc::new(secret()))).1,
        replicas: watch::channel(vec![replica("a"), replica("b")]).1,
        found: sender,
    };
    let task = tokio::spawn(gatherer.keep());
    found.changed().await.unwrap();
    let key = ["shop", "app", "web:1"].map(str::to_owned);
    let unpinned = found.borrow().as_ref().map(|found| found.unpinned.clone());
    assert_eq!(unpinned, Some([(key, "RateLimited".to_owned())].into()));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn the_most_frequent_refusals_of_a_policy_are_kept() {
    let images: Vec<_> = (0..300).map(|image| image.to_string()).collect();
    let many: Vec<_> =
        (0..).zip(&images).map(|(count, image)| ("base", image.as_str(), count, "10:00:00")).collect();
    let pages = Pages::default();
    pages.0.lock().unwrap().insert("a".to_owned(), page(&many));
    let (sender, mut found) = watch::channel(None);
    let gatherer = Gatherer {
        ask: Arc::new(pages),
        door: watch::channel(Observed::Present(Arc::new(secret()))).1,
        replicas: watch::channel(vec![replica("a")]).1,
        found: sender,
    };
    let task = tokio::spawn(gatherer.keep());
    found.changed().await.unwrap();
    let counts: Vec<_> = rows(&found.borrow(), "base").into_iter().map(|(_, count, _)| count).collect();
    assert_eq!(counts, (280..300).rev().collect::<Vec<_>>());
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn one_namespace_leaves_rows_to_the_others() {
    let row = |namespace: &str, image: usize, count: u32| {
        json!({ "policy": "base", "namespace": namespace, "kind": "Pod", "user": "me", "image": image.to_string(),
            "code": "TagForbidden", "count": count, "last": "2026-11-21T10:00:00Z" })
    };
    let loud = (0..64).map(|image| row("loud", image, 1_000_000));
    let refused: Vec<_> = loud.chain([row("velero", 0, 12), row("ci", 0, 30)]).collect();
    let pages = Pages::default();
    let page = serde_json::from_value::<Page>(json!({ "refused": refused })).unwrap();
    pages.0.lock().unwrap().insert("a".to_owned(), page);
    let (sender, mut found) = watch::channel(None);
    let gatherer = Gatherer {
        ask: Arc::new(pages),
        door: watch::channel(Observed::Present(Arc::new(secret()))).1,
        replicas: watch::channel(vec![replica("a")]).1,
        found: sender,
    };
    let task = tokio::spawn(gatherer.keep());
    found.changed().await.unwrap();
    let counts: Vec<_> = rows(&found.borrow(), "base").into_iter().map(|(_, count, _)| count).collect();
    assert_eq!((counts.len(), &counts[17..]), (20, &[1_000_000, 30, 12][..]));
    task.abort();
}

#[tokio::test]
async fn a_replica_is_asked_for_its_findings_with_the_token() {
    let page = r#"{"refused":[],"unpinned":[]}"#;
    let path = Token::new(TOKEN).path(FINDINGS);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pages = Router::new().route(&path, get(move || async move { page }));
    let task = tokio::spawn(async move { axum::serve(listener, pages).await });
    let ask =
        |byte| async move { AskByAddress { port }.findings(&replica("a"), Token::new([byte; LENGTH])).await };
    assert_eq!((ask(1).await, ask(2).await), (Some(Page::default()), None));
    task.abort();
}
