//! Sends batches of spans to the collector. It logs when the collector stops accepting them, and when it starts again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use axum::http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;
use tracing::{info, warn};

/// Sends batches on a runtime, because the thread that collects them has none.
#[derive(Debug)]
pub(super) struct Sender {
    client: reqwest::Client,
    runtime: Handle,
    failing: AtomicBool,
}

impl Sender {
    pub(super) fn new(runtime: Handle, timeout: Duration) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("tagpin/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(timeout)
            .build()?;
        Ok(Self { client, runtime, failing: AtomicBool::new(false) })
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let request =
            self.client.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
        let sent = self.runtime.spawn(async move { request.send().await }).await?;
        let failing = match &sent {
            Ok(answer) if answer.status().is_success() => false,
            Ok(answer) => {
                self.failing(answer.status().as_str());
                true
            }
            Err(error) => {
                self.failing(if error.is_timeout() { "timeout" } else { "no connection" });
                true
            }
        };
        if !failing && self.failing.swap(false, Ordering::Relaxed) {
            info!("the collector accepts traces again");
        }
        // The body of the answer only has details of rejected spans.
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = sent?.status();
        Ok(answer)
    }
}

impl Sender {
    fn failing(&self, cause: &str) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            warn!(cause, "the collector does not accept traces: they are lost until it does");
        }
    }
}
