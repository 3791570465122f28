//! The port beside the webhook: `/healthz`, `/readyz`, `/metrics`, `/policies`, `/registries` and `/unreadable`. It
//! shows, it changes nothing.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use crate::telemetry::readiness::Readiness;

/// Whoever opens a connection has so long for all of it: probes and scrapes come one a connection.
const CONNECTION: Duration = Duration::from_secs(15);

/// Pause after the system gave no connection (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The pages of the port. `policies` is asked on each request and shown as JSON.
pub fn router<P, F>(metrics: Registry, readiness: Readiness, policies: F) -> Router
where
    P: Serialize,
    F: Fn() -> P + Clone + Send + Sync + 'static,
{
    Router::new()
        // Alive means that requests are answered at all: a dead API server or registry must not restart us.
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(expose).with_state(Arc::new(metrics)))
        .route("/policies", get(move || async move { json(&policies()) }))
}

/// Adds a page that is asked on each request and shown as JSON.
pub fn with_page<P, F>(router: Router, path: &str, page: F) -> Router
where
    P: Serialize,
    F: Fn() -> P + Clone + Send + Sync + 'static,
{
    router.route(path, get(move || async move { json(&page()) }))
}

/// Serves the pages until `stop` is done; it ends for no other reason.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => return,
        };
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // What goes wrong on one connection is its caller's business.
            let _ = timeout(CONNECTION, connection).await;
        });
    }
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    match readiness.check() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn expose(State(metrics): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &metrics) {
        Ok(()) => ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
