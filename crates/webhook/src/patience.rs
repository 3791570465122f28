//! Time limits for the client of a connection: for sending the head of a request, and for taking a response.
//! Nothing is parsed here.
//!
//! hyper's time limit for heads is also its idle time limit between requests. Here the two differ: an idle
//! connection may stay longer than the API server keeps it, and a head must end within seconds of its first
//! byte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Maximum time from the first byte of a request to the end of its head.
const HEAD: Duration = Duration::from_secs(5);
/// Maximum time in which the client takes no byte of an answer.
const STALL: Duration = Duration::from_secs(10);

/// The progress of the requests on one connection. hyper's service writes it and the stream reads it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests(Arc<Progress>);

#[derive(Debug, Default)]
struct Progress {
    /// Number of requests whose head has been read.
    heads: AtomicUsize,
    /// True from the end of a head until the response begins.
    handling: AtomicBool,
}

impl Requests {
    /// Records that the head of a request has been read.
    pub(crate) fn head_read(&self) {
        self.0.heads.fetch_add(1, Ordering::Relaxed);
        self.0.handling.store(true, Ordering::Relaxed);
    }

    /// Records that the response to the request begins.
    pub(crate) fn answer_begins(&self) {
        self.0.handling.store(false, Ordering::Relaxed);
    }

    fn heads(&self) -> usize {
        self.0.heads.load(Ordering::Relaxed)
    }

    fn awaits_head(&self) -> bool {
        !self.0.handling.load(Ordering::Relaxed)
    }
}

/// A stream that fails when the client takes too long, and that ends between two requests once serving ends.
///
/// hyper would close an idle connection without reading what has arrived, and so would drop a request on its
/// way.
pub(crate) struct Patience<S> {
    inner: S,
    requests: Requests,
    /// Once cancelled, no further request is awaited. A request whose first byte has arrived is still read.
    stop: CancellationToken,
    /// True while a part of a response may not be written yet.
    answering: bool,
    /// The time by which the arriving head must end, and the number of heads before it.
    head: Option<(Instant, usize)>,
    /// The timer of a head that does not arrive at once.
    head_timer: Option<Pin<Box<Sleep>>>,
    /// The timer that runs while the client takes no byte.
    stall_timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Patience<S> {
    /// Wraps a stream whose handshake is done. The stream may be idle from the start: the API server opens
    /// connections ahead.
    pub(crate) fn new(inner: S, requests: Requests, stop: CancellationToken) -> Self {
        Self { inner, requests, stop, answering: false, head: None, head_timer: None, stall_timer: None }
    }

    /// Returns true if no request has begun since the last response.
    fn is_idle(&self) -> bool {
        !self.answering && self.head.is_none() && self.requests.awaits_head()
    }

    fn is_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((end, heads_before)) = self.head else { return false };
        if heads_before != self.requests.heads() {
            (self.head, self.head_timer) = (None, None);
            return false;
        }
        let timer = self.head_timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        timer.as_mut().poll(cx).is_ready()
    }

    /// Passes on the result of a write, and fails a write that makes no progress.
    fn written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall_timer = None;
            return written;
        }
        let timer = self.stall_timer.get_or_insert_with(|| Box::pin(sleep(STALL)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_too_slow(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buffer) {
            Poll::Pending if this.is_idle() && this.stop.is_cancelled() => return Poll::Ready(Ok(())),
            read => ready!(read)?,
        }
        if buffer.filled().len() > before && this.requests.awaits_head() && this.head.is_none() {
            this.head = Some((Instant::now() + HEAD, this.requests.heads()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.answering = true;
        let written = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.answering = true;
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        this.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(cx);
        this.answering &= flushed.is_pending();
        this.written(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.written(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    async fn read<S: AsyncRead + Unpin>(stream: &mut Patience<S>) -> io::Result<u8> {
        stream.read_u8().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_must_end_in_time_and_an_idle_connection_may_stay() {
        let (mut caller, stream) = duplex(64);
        let requests = Requests::default();
        let mut stream = Patience::new(stream, requests.clone(), CancellationToken::new());
        for _ in 0..3 {
            caller.write_all(b"ab").await.unwrap();
            read(&mut stream).await.unwrap();
            sleep(HEAD / 2).await;
            read(&mut stream).await.unwrap();
            requests.head_read();
            // A body arrives, or the response takes long.
            sleep(HEAD * 2).await;
            caller.write_all(b"c").await.unwrap();
            read(&mut stream).await.unwrap();
            requests.answer_begins();
            let idle = tokio::time::timeout(HEAD * 20, read(&mut stream)).await;
            assert!(idle.is_err(), "idle is not slow");
        }
        caller.write_all(b"a").await.unwrap();
        read(&mut stream).await.unwrap();
        let started = Instant::now();
        assert_eq!(read(&mut stream).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed(), HEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_opened_ahead_may_idle_from_the_start() {
        let (mut caller, stream) = duplex(64);
        let mut stream = Patience::new(stream, Requests::default(), CancellationToken::new());
        let idle = tokio::time::timeout(HEAD * 20, read(&mut stream)).await;
        assert!(idle.is_err(), "idle is not slow");
        caller.write_all(b"a").await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), b'a');
        assert_eq!(read(&mut stream).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn when_serving_ends_a_request_that_has_begun_is_read_and_no_further_one_is_waited_for() {
        let (mut caller, stream) = duplex(64);
        let (requests, stop) = (Requests::default(), CancellationToken::new());
        let mut stream = Patience::new(stream, requests.clone(), stop.clone());
        stop.cancel();
        caller.write_all(b"a").await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), b'a', "what has arrived is read");
        let rest = async {
            sleep(HEAD / 2).await;
            caller.write_all(b"b").await.unwrap();
        };
        let (read_on, ()) = tokio::join!(read(&mut stream), rest);
        assert_eq!(read_on.unwrap(), b'b', "and the rest of it is waited for");
        requests.head_read();
        assert!(tokio::time::timeout(HEAD, read(&mut stream)).await.is_err(), "an answer is being made");
        requests.answer_begins();
        stream.write_all(b"answer").await.unwrap();
        assert!(tokio::time::timeout(HEAD, read(&mut stream)).await.is_err(), "it is not written yet");
        stream.flush().await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_given_up() {
        let (mut caller, stream) = duplex(64);
        let mut stream = Patience::new(stream, Requests::default(), CancellationToken::new());
        let started = Instant::now();
        let write = async {
            let cause = stream.write_all(&[0; 640]).await.unwrap_err();
            (cause.kind(), started.elapsed())
        };
        let take = async {
            for _ in 0..64 * 4 {
                sleep(STALL / 64).await;
                caller.read_u8().await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let (kind, took) = tokio::select! {
            written = write => written,
            () = take => unreachable!("it never ends"),
        };
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!(took >= STALL * 4, "{took:?}");
    }
}
