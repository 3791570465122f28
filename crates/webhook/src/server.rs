//! TLS and HTTP/1.1 around the router: limits on connections, and the end of serving. `places` counts the connections.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use crate::metrics::Connections;
use crate::patience::{Patience, Requests};
use crate::server::places::{Place, Places};
use crate::tls::{ClientCa, CurrentCertificate};

mod places;

/// Maximum idle time of a connection. The API server keeps idle connections for 90 s, and closing them first
/// would race with its next request.
const IDLE: Duration = Duration::from_secs(150);
/// Time from accepting a connection, the TLS handshake included, until a request on it must have shown a valid token.
const STRANGER: Duration = Duration::from_secs(5);
/// Time limit for a request that had begun by then.
const LAST_WORD: Duration = Duration::from_millis(500);
/// Maximum number of unread bytes that a connection may hold: the heads of the API server's requests are
/// short.
const READ_BUFFER: usize = 64 * 1024;
/// Time limit for responses in flight once serving ends; it is longer than any deadline.
const LAST_ANSWERS: Duration = Duration::from_secs(12);
/// Pause after a failed accept, such as one without free file descriptors, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The two steps in which serving ends.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// Once cancelled, each response carries `Connection: close`, so that callers find another replica.
    pub leaving: CancellationToken,
    /// Once cancelled, no new connection is accepted, and requests in flight are answered.
    pub stop: CancellationToken,
}

/// The callers that the server expects.
#[derive(Debug, Default)]
pub struct Callers {
    /// The authority of the API server's client certificate. Without one, a token is enough.
    pub client_ca: Option<ClientCa>,
    /// The metrics of connections.
    pub metrics: Connections,
}

/// The connection on which a request arrived.
/// The server adds it to the extensions of each request.
#[derive(Debug, Clone)]
pub struct Caller {
    place: Arc<Place>,
    /// True if the caller has a certificate of the [`ClientCa`], or needs none.
    certified: bool,
}

impl Caller {
    /// Returns true if the caller may count as the API server when it shows a valid token.
    pub(crate) const fn is_certified(&self) -> bool {
        self.certified
    }

    /// Keeps the connection open, because the caller counts as the API server. Returns false if too many are open.
    #[must_use]
    pub fn keep(&self) -> bool {
        self.place.promote()
    }
}

/// Serves until it is stopped and every request in flight is answered.
///
/// # Errors
/// Fails if TLS cannot be set up.
pub async fn serve(
    listener: TcpListener,
    certificate: &CurrentCertificate,
    router: Router,
    drain: Drain,
    callers: Callers,
) -> Result<(), rustls::Error> {
    let Callers { client_ca, metrics } = callers;
    let acceptor = TlsAcceptor::from(Arc::new(certificate.server_config(client_ca.as_ref())?));
    let places = Places::new(metrics);
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.stop.cancelled() => break,
        };
        let Ok((stream, address)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // A response is one small write, so waiting for more data would only delay it. If the connection broke
        // meanwhile, the next read fails.
        let _ = stream.set_nodelay(true);
        let place = Arc::new(places.enter(address));
        let connection = Connection {
            place: Arc::clone(&place),
            acceptor: acceptor.clone(),
            client_ca: client_ca.clone(),
            router: router.clone(),
            drain: drain.clone(),
        };
        tracker.spawn(async move {
            tokio::select! {
                () = connection.serve(stream) => {}
                () = place.is_evicted() => {}
            }
        });
    }
    tracker.close();
    // Slower clients are disconnected.
    let _ = timeout(LAST_ANSWERS, tracker.wait()).await;
    Ok(())
}

/// One connection, with the parts that it is served by.
struct Connection {
    place: Arc<Place>,
    acceptor: TlsAcceptor,
    client_ca: Option<ClientCa>,
    router: Router,
    drain: Drain,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        let Self { place, acceptor, client_ca, router, drain } = self;
        let stream = tokio::select! {
            stream = acceptor.accept(stream) => stream,
            () = place.overstays(STRANGER) => return place.is_late(),
        };
        let Ok(stream) = stream else { return };
        let shown = stream.get_ref().1.peer_certificates();
        let certified = client_ca.is_none_or(|ca| ca.has_signed(shown));
        let caller = Caller { place: Arc::clone(&place), certified };
        let requests = Requests::default();
        let end = drain.stop.child_token();
        let stream = Patience::new(stream, requests.clone(), end.clone());
        let leaving = drain.leaving;
        let service = service_fn(move |request: Request<Incoming>| {
            requests.head_read();
            let (mut router, requests, leaving) = (router.clone(), requests.clone(), leaving.clone());
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(caller.clone());
            async move {
                let mut response: Response<Body> = router.call(request).await?;
                requests.answer_begins();
                if leaving.is_cancelled() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_buf_size(READ_BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        // A stranger is late also if the time limit for its request has come by the time that this is looked at.
        tokio::select! {
            biased;
            () = place.overstays(STRANGER) => {
                // The API server opens connections ahead. What it has sent by now is still read and answered.
                end.cancel();
                tokio::select! {
                    _ = serving.as_mut() => {}
                    () = place.overstays(STRANGER + LAST_WORD) => {}
                }
                if !place.is_known() {
                    place.is_late();
                }
                return;
            }
            // An idle connection ends at its next read.
            () = end.cancelled() => {}
            // A failure on one connection concerns its caller alone.
            _ = serving.as_mut() => return,
        }
        let _ = serving.await;
    }
}
