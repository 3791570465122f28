//! The admin port over a real socket: readiness with its reasons, metrics and policies.

use prometheus_client::registry::Registry;
use tagpin::telemetry::readiness::Readiness;
use tagpin::telemetry::{self, admin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Starts the admin port and returns its response for one page.
async fn page(metrics: Registry, readiness: Readiness, path: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let pages = admin::router(metrics, readiness, || vec![("baseline", 3)]);
    let pages = admin::with_page(pages, "/registries", || vec![("docker.io", "2xx")]);
    let pages = admin::with_guarded_page(pages, "/findings", |secret| (secret == "right").then_some("found"));
    tokio::spawn(admin::serve(listener, pages, std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn readyz_names_what_it_waits_for() {
    let readiness = Readiness::default();
    let _gate = readiness.gate("certificate");
    let answer = page(telemetry::metrics(), readiness, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with("waiting for certificate\n"), "{answer}");
}

#[tokio::test]
async fn readyz_is_ok_once_every_gate_is_open() {
    let readiness = Readiness::default();
    readiness.gate("certificate").open();
    assert!(page(telemetry::metrics(), readiness, "/readyz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_replica_that_waits_is_alive() {
    let readiness = Readiness::default();
    let _gate = readiness.gate("certificate");
    assert!(page(telemetry::metrics(), readiness, "/healthz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn metrics_tell_the_version() {
    let answer = page(telemetry::metrics(), Readiness::default(), "/metrics").await;
    let version = env!("CARGO_PKG_VERSION");
    assert!(answer.contains(&format!("tagpin_build_info{{version=\"{version}\"}} 1")), "{answer}");
}

#[tokio::test]
async fn policies_in_force_are_json() {
    let answer = page(telemetry::metrics(), Readiness::default(), "/policies").await;
    assert!(answer.contains("content-type: application/json"), "{answer}");
    assert!(answer.ends_with(r#"[["baseline",3]]"#), "{answer}");
}

#[tokio::test]
async fn registries_are_json() {
    let answer = page(telemetry::metrics(), Readiness::default(), "/registries").await;
    assert!(answer.ends_with(r#"[["docker.io","2xx"]]"#), "{answer}");
}

#[tokio::test]
async fn a_guarded_page_is_there_for_whoever_knows_its_secret() {
    let status = async |path: &str| {
        let answer = page(telemetry::metrics(), Readiness::default(), path).await;
        (answer.split(' ').nth(1).unwrap().to_owned(), answer.ends_with("\"found\""))
    };
    for path in ["/findings", "/findings/", "/findings/wrong", "/findings/right/", "/findings/right/x"] {
        assert_eq!(status(path).await, ("404".to_owned(), false), "{path}");
    }
    assert_eq!(status("/findings/right").await, ("200".to_owned(), true));
}
