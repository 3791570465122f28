//! How long a connection's other side may take: for the head of a request, and to take an answer. It reads no byte.
//!
//! hyper's time-out for heads is also its idle time-out between requests, so the two are told apart here: an idle
//! connection may stay longer than the API server keeps it, and a head must end within seconds of its first byte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// From the first byte of a request to the end of its head.
const HEAD: Duration = Duration::from_secs(5);
/// Without the other side taking a byte of an answer.
const STALL: Duration = Duration::from_secs(10);

/// Whose turn it is on a connection: even while a head is awaited, odd while an answer is made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<AtomicUsize>);

impl Turns {
    /// A head ended, or an answer begins.
    pub(crate) fn next(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream that fails when its other side takes too long, and that ends between two requests when serving ends.
///
/// hyper ends an idle connection without a look at what has arrived, and with it a request that was under way.
pub(crate) struct Patience<S> {
    inner: S,
    turns: Turns,
    /// No further request is waited for; one whose first byte is here is read.
    stop: CancellationToken,
    /// Some of an answer may not be written yet.
    answering: bool,
    /// When the head that is awaited must have ended, and its turn.
    head: Option<(Instant, usize)>,
    /// Only for heads that do not come at once.
    head_timer: Option<Pin<Box<Sleep>>>,
    /// While the other side takes nothing.
    stall_timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Patience<S> {
    /// Around a stream whose handshake is done. It may idle from the start: the API server opens connections ahead.
    pub(crate) fn new(inner: S, turns: Turns, stop: CancellationToken) -> Self {
        Self { inner, turns, stop, answering: false, head: None, head_timer: None, stall_timer: None }
    }

    /// Whether nothing was asked since the last answer.
    fn is_idle(&self) -> bool {
        !self.answering && self.head.is_none() && self.turns.now().is_multiple_of(2)
    }

    fn is_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((end, turn)) = self.head else { return false };
        if turn != self.turns.now() {
            (self.head, self.head_timer) = (None, None);
            return false;
        }
        let timer = self.head_timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        timer.as_mut().poll(cx).is_ready()
    }

    /// Passes on how a write went, and ends one that goes nowhere.
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
            // The end of what there is to read.
            Poll::Pending if this.is_idle() && this.stop.is_cancelled() => return Poll::Ready(Ok(())),
            read => ready!(read)?,
        }
        let turn = this.turns.now();
        if buffer.filled().len() > before && turn.is_multiple_of(2) && this.head.is_none() {
            this.head = Some((Instant::now() + HEAD, turn));
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
        let turns = Turns::default();
        let mut stream = Patience::new(stream, turns.clone(), CancellationToken::new());
        for _ in 0..3 {
            caller.write_all(b"ab").await.unwrap();
            read(&mut stream).await.unwrap();
            sleep(HEAD / 2).await;
            read(&mut stream).await.unwrap();
            turns.next();
            // A body, or a long thought over the answer.
            sleep(HEAD * 2).await;
            caller.write_all(b"c").await.unwrap();
            read(&mut stream).await.unwrap();
            turns.next();
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
        let mut stream = Patience::new(stream, Turns::default(), CancellationToken::new());
        let idle = tokio::time::timeout(HEAD * 20, read(&mut stream)).await;
        assert!(idle.is_err(), "idle is not slow");
        caller.write_all(b"a").await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), b'a');
        assert_eq!(read(&mut stream).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn when_serving_ends_a_request_that_has_begun_is_read_and_no_further_one_is_waited_for() {
        let (mut caller, stream) = duplex(64);
        let (turns, stop) = (Turns::default(), CancellationToken::new());
        let mut stream = Patience::new(stream, turns.clone(), stop.clone());
        stop.cancel();
        caller.write_all(b"a").await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), b'a', "what has arrived is read");
        let rest = async {
            sleep(HEAD / 2).await;
            caller.write_all(b"b").await.unwrap();
        };
        let (read_on, ()) = tokio::join!(read(&mut stream), rest);
        assert_eq!(read_on.unwrap(), b'b', "and the rest of it is waited for");
        turns.next();
        assert!(tokio::time::timeout(HEAD, read(&mut stream)).await.is_err(), "an answer is being made");
        turns.next();
        stream.write_all(b"answer").await.unwrap();
        assert!(tokio::time::timeout(HEAD, read(&mut stream)).await.is_err(), "it is not written yet");
        stream.flush().await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_given_up() {
        let (mut caller, stream) = duplex(64);
        let mut stream = Patience::new(stream, Turns::default(), CancellationToken::new());
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
