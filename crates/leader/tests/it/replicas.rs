//! The ready replicas, and their answers over a real connection.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};
use tagpin_kube::policies::InForce;
use tagpin_kube::unreadable::Unreadables;
use tagpin_leader::replicas::{Ask, AskByAddress, Replica, watch};
use tokio::net::TcpListener;

use crate::reach::reach;
use tagpin_testing::scripted_api::Api;

fn pod(name: &str, ip: Option<&str>, ready: &str, deleting: bool) -> Value {
    let mut metadata =
        json!({ "name": name, "namespace": "tagpin-system", "uid": name, "resourceVersion": "4" });
    if deleting {
        metadata["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
    }
    let conditions =
        json!([{ "type": "Initialized", "status": "True" }, { "type": "Ready", "status": ready }]);
    json!({ "metadata": metadata, "status": { "podIP": ip, "conditions": conditions } })
}

#[tokio::test(start_paused = true)]
async fn only_ready_pods_with_an_address_are_replicas() {
    let (client, mut api) = Api::new();
    let (sender, mut ready) = tokio::sync::watch::channel(Vec::new());
    let unreadable = Unreadables::default();
    let task = tokio::spawn(async move { watch(client, "tagpin-system", sender, &unreadable).await });
    let list = api.expect("GET /api/v1/namespaces/tagpin-system/pods").await;
    assert_eq!(list.query["labelSelector"], "app.kubernetes.io%2Fname%3Dtagpin");
    list.list(
        json!([
            pod("b", Some("10.0.0.2"), "True", false),
            pod("a", Some("fd00::1"), "True", false),
            pod("starting", Some("10.0.0.3"), "False", false),
            pod("leaving", Some("10.0.0.4"), "True", true),
            pod("nowhere", None, "True", false),
        ]),
        "10",
    );
    let watched = api.expect("GET /api/v1/namespaces/tagpin-system/pods").await.watch();
    let names = |ready: &[Replica]| ready.iter().map(|replica| replica.name.clone()).collect::<Vec<_>>();
    let held = reach(&mut ready, |ready| !ready.is_empty()).await;
    assert_eq!(names(&held), ["a", "b"]);
    assert_eq!(held[0].address, "fd00::1".parse::<IpAddr>().unwrap());
    watched.event("MODIFIED", pod("starting", Some("10.0.0.3"), "True", false));
    watched.event("MODIFIED", pod("a", Some("fd00::1"), "False", false));
    watched.event("DELETED", pod("b", Some("10.0.0.2"), "True", false));
    reach(&mut ready, |ready| names(ready) == ["starting"]).await;
    task.abort();
}

/// Serves this router as a replica on loopback. Returns the port.
async fn serve(router: Router) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

async fn ask(port: u16) -> Option<Vec<InForce>> {
    let replica = Replica { name: "a".into(), uid: "a".into(), address: Ipv4Addr::LOCALHOST.into() };
    AskByAddress { port }.ask(&replica).await
}

#[tokio::test]
async fn a_replica_is_asked_by_its_address() {
    let rows = r#"[{"kind":"ClusterImagePolicy","name":"base","uid":"p","generation":3}]"#;
    let port = serve(Router::new().route("/policies", get(move || async move { rows }))).await;
    let answer = ask(port).await.unwrap();
    assert_eq!((answer[0].uid.as_str(), answer[0].generation), ("p", Some(3)));
}

#[tokio::test]
async fn an_answer_that_is_none_is_no_answer() {
    let failing = get(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "[]") });
    assert_eq!(ask(serve(Router::new().route("/policies", failing)).await).await, None);
    let garbage = get(|| async { "<html>" });
    assert_eq!(ask(serve(Router::new().route("/policies", garbage)).await).await, None);
    let endless = get(|| async { "[".repeat(8 << 20) });
    assert_eq!(ask(serve(Router::new().route("/policies", endless)).await).await, None);
    // No process listens on this port any more.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert_eq!(ask(port).await, None);
}

#[tokio::test]
async fn a_replica_that_does_not_answer_costs_a_second() {
    let hangs = get(|| async { std::future::pending::<Infallible>().await.to_string() });
    let port = serve(Router::new().route("/policies", hangs)).await;
    let start = std::time::Instant::now();
    assert_eq!(ask(port).await, None);
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(990) && waited < Duration::from_secs(5), "{waited:?}");
}
