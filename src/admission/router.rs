//! The two paths of the webhook: limits, deadlines, and an answer whatever happens. It reads no object.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::FutureExt as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;
use tracing::error;

use crate::admission::review::{Request, ReviewError};
use crate::admission::{Admission, deadline};
use crate::domain::subject::Phase;
use crate::registry::{Resolve, Suggest};
use crate::telemetry::admission::Turned;

/// An update carries the object twice, and the API server takes objects of up to 3 MiB.
pub const BODY_LIMIT: usize = 7 * 1024 * 1024;

struct Shared<R> {
    admission: Admission<R>,
    in_flight: Semaphore,
}

/// `POST /mutate` and `POST /validate`.
pub fn router<R: Resolve + Suggest + 'static>(admission: Admission<R>) -> Router {
    let in_flight = Semaphore::new(admission.settings.in_flight);
    let shared = Arc::new(Shared { admission, in_flight });
    let handler = |phase: Phase| {
        move |State(shared): State<Arc<Shared<R>>>, request: HttpRequest| async move {
            shared.handle(phase, request).await
        }
    };
    Router::new()
        .route("/mutate", post(handler(Phase::Mutate)))
        .route("/validate", post(handler(Phase::Validate)))
        .with_state(shared)
}

impl<R: Resolve + Suggest> Shared<R> {
    async fn handle(&self, phase: Phase, request: HttpRequest) -> Response {
        let metrics = &self.admission.metrics;
        let Ok(_permit) = self.in_flight.try_acquire() else {
            metrics.turned_away(Turned::Shed);
            return (StatusCode::SERVICE_UNAVAILABLE, "too many reviews in flight\n").into_response();
        };
        let _in_flight = metrics.in_flight();
        let deadline = deadline(phase, callers_timeout(request.uri().query()));
        let body = match timeout_at(deadline, Limited::new(request.into_body(), BODY_LIMIT).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(cause)) if cause.is::<LengthLimitError>() => {
                metrics.turned_away(Turned::TooLarge);
                let text = format!("the review is larger than {BODY_LIMIT} bytes\n");
                return (StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
            }
            Ok(Err(_)) | Err(_) => {
                metrics.turned_away(Turned::Unreadable);
                return (StatusCode::BAD_REQUEST, "the body did not arrive\n").into_response();
            }
        };
        let review = match Request::parse(&body) {
            Ok(review) => review,
            Err(cause) => return self.unreadable(&cause),
        };
        let answered = AssertUnwindSafe(self.admission.answer(phase, &review, deadline)).catch_unwind().await;
        match answered {
            Ok(Ok(answer)) => ([(CONTENT_TYPE, "application/json")], Body::from(answer.to_json(&review.uid)))
                .into_response(),
            Ok(Err(cause)) => {
                self.unreadable(&ReviewError::NotObject { line: cause.line(), column: cause.column() })
            }
            Err(_) => {
                metrics.turned_away(Turned::Panicked);
                error!(uid = review.uid.as_str(), "a review panicked");
                (StatusCode::INTERNAL_SERVER_ERROR, "tagpin failed on this review; its log has more\n")
                    .into_response()
            }
        }
    }

    fn unreadable(&self, cause: &ReviewError) -> Response {
        self.admission.metrics.turned_away(Turned::Unreadable);
        (StatusCode::BAD_REQUEST, format!("{cause}\n")).into_response()
    }
}

/// The API server's own time-out, which it adds to the URL: `?timeout=10s`.
fn callers_timeout(query: Option<&str>) -> Option<Duration> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix("timeout="))?;
    let number = |text: &str| text.parse::<u64>().ok();
    match value.strip_suffix("ms") {
        Some(milliseconds) => number(milliseconds).map(Duration::from_millis),
        None => number(value.strip_suffix('s')?).map(Duration::from_secs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_timeout_is_read_from_the_query() {
        assert_eq!(callers_timeout(Some("timeout=10s")), Some(Duration::from_secs(10)));
        assert_eq!(callers_timeout(Some("a=b&timeout=250ms")), Some(Duration::from_millis(250)));
        for none in
            [None, Some(""), Some("timeout="), Some("timeout=s"), Some("timeout=-1s"), Some("timeout=1h")]
        {
            assert_eq!(callers_timeout(none), None, "{none:?}");
        }
    }
}
