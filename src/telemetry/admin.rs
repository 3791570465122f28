//! The admin port, beside the webhook's port: `/healthz`, `/readyz`, `/metrics`, `/policies`, `/registries`,
//! `/unreadable` and `/findings/TOKEN`. Its pages only show state; they change nothing.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
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

/// Time limit for one connection. Probes and scrapes send one request per connection.
const CONNECTION: Duration = Duration::from_secs(15);

/// Pause after a connection cannot be accepted (no file descriptors are left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Returns the pages of the port. Each request for `/policies` calls `policies` and shows the result as JSON.
pub fn router<P, F>(metrics: Registry, readiness: Readiness, policies: F) -> Router
where
    P: Serialize,
    F: Fn() -> P + Clone + Send + Sync + 'static,
{
    Router::new()
        // The process is alive if it answers at all: a dead API server or registry must not restart the replica.
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(expose).with_state(Arc::new(metrics)))
        .route("/policies", get(move || async move { json(&policies()) }))
}

/// Adds a page. Each request for it calls `page` and shows the result as JSON.
pub fn with_page<P, F>(router: Router, path: &str, page: F) -> Router
where
    P: Serialize,
    F: Fn() -> P + Clone + Send + Sync + 'static,
{
    router.route(path, get(move || async move { json(&page()) }))
}

/// Adds a page whose path ends with a secret. Each request for it calls `page` with what the caller wrote there, and shows
/// the result as JSON; without a result there is no such page.
pub fn with_guarded_page<P, F>(router: Router, path: &str, page: F) -> Router
where
    P: Serialize,
    F: Fn(&str) -> Option<P> + Clone + Send + Sync + 'static,
{
    let show = move |Path(secret): Path<String>| async move {
        page(&secret).map_or_else(|| StatusCode::NOT_FOUND.into_response(), |page| json(&page))
    };
    router.route(&format!("{path}/{{secret}}"), get(show))
}

/// Serves the pages until `stop` completes. It ends for no other reason.
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
            // A connection that fails or takes too long concerns its caller alone.
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
