//! The paths of the webhook: limits, deadlines, and an answer whatever happens. It reads no object.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{Instrument as _, error, warn};

use crate::body::{BODY_LIMIT, BodyError, Budget, Extent};
use crate::in_time::in_time;
use crate::metrics::Turned;
use crate::review::{Request, ReviewError};
use crate::trace;
use crate::{Admission, Asked};
use tagpin_domain::subject::Phase;
use tagpin_objects::duration;

/// Our own deadline of /mutate; the API server's is 5 s.
const MUTATE_WITHIN: Duration = Duration::from_millis(2500);
/// Our own deadline of /validate; the API server's is 10 s.
const VALIDATE_WITHIN: Duration = Duration::from_secs(5);
/// What is kept of the caller's deadline for the way back.
const WAY_BACK: Duration = Duration::from_millis(300);
/// What a review may take beyond its deadline before it is given up: it has an answer at the deadline, but for a bug.
const GRACE: Duration = Duration::from_millis(150);

struct Shared {
    admission: Admission,
    bodies: Budget,
    in_flight: Semaphore,
}

/// Why a request gets no review: a status, a text, and how it is counted.
type Refused = (StatusCode, String, Turned);

/// Where a request came in, which the entry of the webhook configuration says.
#[derive(Debug, Clone, Copy)]
struct Entrance {
    phase: Phase,
    break_glass: bool,
}

const MUTATE: Entrance = Entrance { phase: Phase::Mutate, break_glass: false };
const VALIDATE: Entrance = Entrance { phase: Phase::Validate, break_glass: false };
/// The API server says by the path that the namespace has break glass on: what we know of its labels may be older.
const BREAK_GLASS: Entrance = Entrance { phase: Phase::Validate, break_glass: true };

/// `POST /mutate`, `POST /validate` and `POST /validate/break-glass`.
pub fn router(admission: Admission) -> Router {
    let in_flight = Semaphore::new(admission.settings.in_flight);
    let shared = Arc::new(Shared { admission, bodies: Budget::default(), in_flight });
    let handler = |entrance: Entrance| {
        move |State(shared): State<Arc<Shared>>, request: HttpRequest| async move {
            let span = trace::review(entrance.phase, request.headers());
            shared.answer(entrance, request).instrument(span).await
        }
    };
    let elsewhere = |status: StatusCode| {
        move |State(shared): State<Arc<Shared>>| async move {
            shared.turn_away((
                status,
                "tagpin answers POST /mutate and POST /validate".into(),
                Turned::NotFound,
            ))
        }
    };
    Router::new()
        .route("/mutate", post(handler(MUTATE)))
        .route("/validate", post(handler(VALIDATE)))
        .route("/validate/break-glass", post(handler(BREAK_GLASS)))
        .fallback(elsewhere(StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(elsewhere(StatusCode::METHOD_NOT_ALLOWED))
        .with_state(shared)
}

impl Shared {
    async fn answer(&self, entrance: Entrance, request: HttpRequest) -> Response {
        let deadline = Instant::now() + within(entrance.phase, callers_timeout(request.uri().query()));
        match self.review(entrance, request.into_body(), deadline).await {
            Ok((answer, extent)) => {
                let mut response =
                    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], answer).into_response();
                if extent == Extent::Unfinished {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
            Err(refused) => self.turn_away(refused),
        }
    }

    /// The bytes of the answer to a review, and how much of the review was read for it.
    async fn review(
        &self,
        entrance: Entrance,
        body: Body,
        deadline: Instant,
    ) -> Result<(String, Extent), Refused> {
        let body = self.bodies.take(body, deadline).await.map_err(not_taken)?;
        let extent = body.extent;
        let Ok(_permit) = self.in_flight.try_acquire() else {
            let text = "too many reviews at the same time".to_owned();
            return Err((StatusCode::SERVICE_UNAVAILABLE, text, Turned::Shed));
        };
        let _in_flight = self.admission.metrics.in_flight();
        let mut request = Request::parse(&self.admission.settings.kinds, &body.bytes, extent)
            .map_err(|cause| no_review(cause, extent))?;
        let Entrance { phase, break_glass } = entrance;
        let read = request.ahead.take();
        let asked = Asked { phase, break_glass, request: &request, read, arrived: Instant::now(), deadline };
        let uid = request.uid();
        trace::about(uid, request.namespace());
        let answered = pin!(AssertUnwindSafe(self.admission.answer(asked)).catch_unwind());
        match in_time(deadline + GRACE, answered).await {
            Some(Ok(answer)) => Ok((answer, extent)),
            Some(Err(_)) => {
                error!(uid, "a review panicked");
                let text = "tagpin failed on this review; its log has more".to_owned();
                Err((StatusCode::INTERNAL_SERVER_ERROR, text, Turned::Panicked))
            }
            None => {
                warn!(uid, "a review took too long");
                let text = "tagpin had no answer in time; its log has more".to_owned();
                Err((StatusCode::SERVICE_UNAVAILABLE, text, Turned::Late))
            }
        }
    }

    fn turn_away(&self, (status, text, why): Refused) -> Response {
        self.admission.metrics.turned_away(why);
        let mut response = (status, text + "\n").into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            // The API server asks again after so many seconds, as long as its own time-out allows, instead of failing open.
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status.is_client_error() {
            // Whoever sends this is not the API server, and gets no place to wait.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn not_taken(why: BodyError) -> Refused {
    match why {
        BodyError::NoRoom => {
            (StatusCode::SERVICE_UNAVAILABLE, "too many large reviews at the same time".into(), Turned::Shed)
        }
        BodyError::Broken => {
            (StatusCode::BAD_REQUEST, "the body did not arrive in time".into(), Turned::Unreadable)
        }
    }
}

fn no_review(cause: ReviewError, extent: Extent) -> Refused {
    match extent {
        Extent::Whole => (StatusCode::BAD_REQUEST, cause.to_string(), Turned::Unreadable),
        Extent::Beginning | Extent::Unfinished => {
            let text = format!("the body is larger than {BODY_LIMIT} bytes and does not begin as a review");
            (StatusCode::PAYLOAD_TOO_LARGE, text, Turned::TooLarge)
        }
    }
}

/// How long a review may take: the caller's time-out or ours, whichever is shorter, less the way back.
fn within(phase: Phase, callers: Option<Duration>) -> Duration {
    let ours = match phase {
        Phase::Mutate => MUTATE_WITHIN,
        Phase::Validate => VALIDATE_WITHIN,
    };
    callers.map_or(ours, |callers| callers.min(ours)).saturating_sub(WAY_BACK)
}

/// The API server's own time-out, which it adds to the URL: `?timeout=10s`.
fn callers_timeout(query: Option<&str>) -> Option<Duration> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix("timeout="))?;
    duration::parse(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_timeout_counts_less_the_way_back() {
        let within = |phase, query| within(phase, callers_timeout(query)).as_millis();
        assert_eq!(within(Phase::Mutate, Some("timeout=5s")), 2200);
        assert_eq!(within(Phase::Validate, Some("timeout=10s")), 4700);
        assert_eq!(within(Phase::Validate, Some("a=b&timeout=1.5s")), 1200);
        assert_eq!(within(Phase::Validate, Some("timeout=100ms")), 0);
        for none in
            [None, Some(""), Some("timeout="), Some("timeout=s"), Some("timeout=-1s"), Some("xtimeout=1s")]
        {
            assert_eq!(within(Phase::Mutate, none), 2200, "{none:?}");
        }
    }
}
