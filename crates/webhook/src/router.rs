//! The paths of the webhook, with limits and deadlines. Every request gets an answer. No object is read here.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use tokio::time::Instant;
use tracing::{Instrument as _, error, warn};

use crate::body::{BODY_LIMIT, BodyError, Budget, Extent};
use crate::door::Door;
use crate::in_flight::Places;
use crate::in_time::in_time;
use crate::metrics::Turned;
use crate::review::{Request, ReviewError};
use crate::server::Caller;
use crate::trace;
use crate::{Admission, Asked, Decision};
use tagpin_domain::subject::Phase;
use tagpin_objects::door::{self, Token};
use tagpin_objects::duration;

/// tagpin's own deadline for `/mutate`. The API server's is 5 s.
const MUTATE_WITHIN: Duration = Duration::from_millis(2500);
/// tagpin's own deadline for `/validate`. The API server's is 10 s.
const VALIDATE_WITHIN: Duration = Duration::from_secs(5);
/// Time that is kept of the caller's deadline for the way back.
const WAY_BACK: Duration = Duration::from_millis(300);
/// Time beyond its deadline after which a review is given up. Without a bug, every review has an answer at
/// its deadline.
const GRACE: Duration = Duration::from_millis(150);
/// Maximum number of reviews of strangers in flight, which take none of the other places.
const STRANGERS_IN_FLIGHT: usize = 16;

struct Shared {
    admission: Admission,
    door: Arc<Door>,
    bodies: Budget,
    in_flight: Places,
    strangers_in_flight: Places,
}

/// The reason why a request gets no review: a status, a text, and the reason to count.
type Refused = (StatusCode, String, Turned);

/// The path on which a request came in, which the entry of the webhook configuration names.
#[derive(Debug, Clone, Copy)]
struct Entrance {
    phase: Phase,
    break_glass: bool,
}

const MUTATE: Entrance = Entrance { phase: Phase::Mutate, break_glass: false };
const VALIDATE: Entrance = Entrance { phase: Phase::Validate, break_glass: false };
/// The entrance for namespaces with break glass. The API server's choice of the path counts, because our copy
/// of the labels may be older.
const BREAK_GLASS: Entrance = Entrance { phase: Phase::Validate, break_glass: true };

impl Entrance {
    /// Returns the entrance of a path, and the token in it.
    fn of(path: &str) -> Option<(Self, Option<Token>)> {
        if let Some(entrance) = Self::plain(path) {
            return Some((entrance, None));
        }
        let (entrance, token) = path.rsplit_once('/')?;
        Some((Self::plain(entrance)?, Some(Token::parse(token)?)))
    }

    fn plain(path: &str) -> Option<Self> {
        match path {
            door::MUTATE => Some(MUTATE),
            door::VALIDATE => Some(VALIDATE),
            door::BREAK_GLASS => Some(BREAK_GLASS),
            _ => None,
        }
    }
}

/// The response to a review, before it is sent.
struct Answered {
    body: String,
    /// True if the connection ends after the response.
    closes: bool,
}

/// Returns the routes `POST /mutate`, `POST /validate` and `POST /validate/break-glass`, each with a token at the end or
/// without one. Callers that the door does not admit are strangers.
pub fn router(admission: Admission, door: Arc<Door>) -> Router {
    let in_flight = Places::new(admission.settings.in_flight);
    let strangers_in_flight = Places::new(STRANGERS_IN_FLIGHT);
    let shared = Shared { admission, door, bodies: Budget::default(), in_flight, strangers_in_flight };
    let handler = |State(shared): State<Arc<Shared>>, request: HttpRequest| async move {
        let elsewhere =
            |status| (status, "tagpin answers POST /mutate and POST /validate".to_owned(), Turned::NotFound);
        let Some((entrance, token)) = Entrance::of(request.uri().path()) else {
            return shared.turn_away(elsewhere(StatusCode::NOT_FOUND));
        };
        if request.method() != Method::POST {
            return shared.turn_away(elsewhere(StatusCode::METHOD_NOT_ALLOWED));
        }
        let span = trace::review(entrance.phase, request.headers());
        shared.answer(entrance, token, request).instrument(span).await
    };
    Router::new().fallback(handler).with_state(Arc::new(shared))
}

impl Shared {
    async fn answer(&self, entrance: Entrance, token: Option<Token>, request: HttpRequest) -> Response {
        let deadline = Instant::now() + within(entrance.phase, callers_timeout(request.uri().query()));
        let caller = request.extensions().get::<Caller>().cloned();
        let certified = caller.as_ref().is_none_or(Caller::is_certified);
        let known = certified && self.door.admits(token, deadline).await;
        let stays = known && caller.is_none_or(|caller| caller.keep());
        match self.review(entrance, known, request.into_body(), deadline).await {
            Ok(Answered { body, closes }) => {
                let mut response = Response::new(Body::from(body));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                if closes || !stays {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
            Err(refused) => self.turn_away(refused),
        }
    }

    /// Returns the response to a review. `known` is false for a review of a stranger.
    async fn review(
        &self,
        entrance: Entrance,
        known: bool,
        body: Body,
        deadline: Instant,
    ) -> Result<Answered, Refused> {
        let body = self.bodies.take(body, known, deadline).await.map_err(not_taken)?;
        let extent = body.extent;
        let mut request = Request::parse(&self.admission.settings.kinds, &body.bytes, extent)
            .map_err(|cause| no_review(cause, extent))?;
        let read = request.ahead.take();
        let places = if known { &self.in_flight } else { &self.strangers_in_flight };
        let Some(_place) = places.take(request.namespace()) else {
            let text = "too many reviews at the same time".to_owned();
            return Err((StatusCode::SERVICE_UNAVAILABLE, text, Turned::Shed));
        };
        let _in_flight = self.admission.metrics.in_flight();
        let Entrance { phase, break_glass } = entrance;
        let arrived = Instant::now();
        let asked = Asked { phase, break_glass, known, request: &request, read, arrived, deadline };
        let uid = request.uid();
        trace::about(uid, request.namespace());
        let answered = pin!(AssertUnwindSafe(self.admission.answer(asked)).catch_unwind());
        match in_time(deadline + GRACE, answered).await {
            Some(Ok((body, decision))) => {
                // The next canary comes on a new connection, and so proves that the API server can open one.
                let closes = extent == Extent::Unfinished || decision == Decision::Canary;
                Ok(Answered { body, closes })
            }
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
            // The API server then retries after this number of seconds, as long as its own timeout allows,
            // instead of failing open.
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status.is_client_error() {
            // A client that sends such a request is not the API server, and must not keep a connection.
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

/// Returns the time that a review may take: the shorter of the caller's and our own timeout, less the way
/// back.
fn within(phase: Phase, callers: Option<Duration>) -> Duration {
    let ours = match phase {
        Phase::Mutate => MUTATE_WITHIN,
        Phase::Validate => VALIDATE_WITHIN,
    };
    callers.map_or(ours, |callers| callers.min(ours)).saturating_sub(WAY_BACK)
}

/// Returns the API server's own timeout, which it adds to the URL: `?timeout=10s`.
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
