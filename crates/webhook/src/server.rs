//! TLS and HTTP/1.1 around the router: limits on connections, and the end of serving.

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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use crate::patience::{Patience, Requests};
use crate::tls::CurrentCertificate;

/// Maximum idle time of a connection. The API server keeps idle connections for 90 s, and closing them first
/// would race with its next request.
const IDLE: Duration = Duration::from_secs(150);
/// Time limit for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Maximum number of open connections.
const CONNECTIONS: usize = 1024;
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

/// Serves until it is stopped and every request in flight is answered.
///
/// # Errors
/// Fails if TLS cannot be set up.
pub async fn serve(
    listener: TcpListener,
    certificate: &CurrentCertificate,
    router: Router,
    drain: Drain,
) -> Result<(), rustls::Error> {
    let acceptor = TlsAcceptor::from(Arc::new(certificate.server_config()?));
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = drain.stop.cancelled() => break,
        };
        let Some((stream, permit)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let connection = connection(stream, acceptor.clone(), router.clone(), drain.clone());
        tracker.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
    tracker.close();
    // Slower clients are disconnected.
    let _ = timeout(LAST_ANSWERS, tracker.wait()).await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    let (stream, _) = listener.accept().await.ok()?;
    // A response is one small write, so waiting for more data would only delay it. If the connection broke
    // meanwhile, the next read fails.
    let _ = stream.set_nodelay(true);
    Some((stream, permit))
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router, drain: Drain) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let requests = Requests::default();
    let stream = Patience::new(stream, requests.clone(), drain.stop.clone());
    let leaving = drain.leaving.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        requests.head_read();
        let (mut router, requests, leaving) = (router.clone(), requests.clone(), leaving.clone());
        async move {
            let mut response: Response<Body> = router.call(request.map(Body::new)).await?;
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
    // A failure on one connection concerns its caller alone.
    tokio::select! {
        _ = serving.as_mut() => return,
        // An idle connection ends at its next read.
        () = drain.stop.cancelled() => {}
    }
    let _ = serving.await;
}
