//! TLS and HTTP/1.1 around the router: who may stay connected for how long, and how serving ends.
//!
//! hyper's time-out for heads is also its idle time-out between requests, so the two are told apart here: an idle
//! connection may stay longer than the API server keeps it, and a head must arrive within seconds of its first byte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use crate::admission::tls::CurrentCertificate;

/// The API server keeps idle connections for 90 s; closing them first would race with its next request.
const IDLE: Duration = Duration::from_secs(150);
/// From the first byte of a request to the end of its head.
const HEAD: Duration = Duration::from_secs(5);
/// For the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections at the same time.
const CONNECTIONS: usize = 1024;
/// How long answers in flight may take once serving ends.
const LAST_ANSWERS: Duration = Duration::from_secs(12);
/// Pause after the system gave no connection (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How serving ends, in two steps.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// Answers go on, each with `Connection: close`, so that callers find another replica.
    pub leaving: CancellationToken,
    /// No new connection is taken, and what is in flight is answered.
    pub stop: CancellationToken,
}

/// Serves until it is stopped and everything in flight is answered.
///
/// # Errors
/// When TLS can not be set up at all.
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
    // Who has not taken its answer by then does not want it.
    let _ = timeout(LAST_ANSWERS, tracker.wait()).await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    let (stream, _) = listener.accept().await.ok()?;
    // An answer is one small write: waiting for more to send only delays it.
    stream.set_nodelay(true).ok()?;
    Some((stream, permit))
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router, drain: Drain) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let turns = Arc::new(AtomicUsize::new(0));
    let stream = HeadTimeout { inner: stream, turns: Arc::clone(&turns), ends: None };
    let leaving = drain.leaving.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        turns.fetch_add(1, Ordering::Relaxed);
        let (mut router, turns, leaving) = (router.clone(), Arc::clone(&turns), leaving.clone());
        async move {
            let mut response: Response<Body> = router.call(request.map(Body::new)).await?;
            turns.fetch_add(1, Ordering::Relaxed);
            if leaving.is_cancelled() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    // What goes wrong on one connection is its caller's business.
    tokio::select! {
        _ = serving.as_mut() => return,
        () = drain.stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

/// A stream that fails when a request's head takes too long after its first byte.
struct HeadTimeout<S> {
    inner: S,
    /// Counts heads that ended and answers that began: even while a head is awaited.
    turns: Arc<AtomicUsize>,
    /// When the head that began must be complete, and the turn that it is.
    ends: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadTimeout<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let turn = this.turns.load(Ordering::Relaxed);
        this.ends.take_if(|(_, began)| *began != turn);
        if let Some((ends, _)) = &mut this.ends
            && ends.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        if buffer.filled().len() > before && turn.is_multiple_of(2) && this.ends.is_none() {
            this.ends = Some((Box::pin(sleep_until(Instant::now() + HEAD)), turn));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadTimeout<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
