//! Reads the body of a request, within a limit for each body and a budget for all bodies together.
//!
//! Room is reserved by the announced length before the first byte of a body is read, so that half-read bodies
//! never wait for one another's memory. A body above the limit is read to its end, so that its connection can
//! be used again, but only its beginning is kept. The beginning is enough to answer, because the API server
//! writes the envelope of a review before the objects.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::in_time::in_time;

/// Maximum size in bytes of a body that is read whole.
///
/// The API server takes requests of 3 MiB and stores objects of up to 2 MiB. An update carries both, and the
/// API server writes one byte of a string as up to six: `<` as `\u003c`.
pub const BODY_LIMIT: usize = 32 * 1024 * 1024;
/// Number of bytes that are kept of a larger body. The envelope takes a few hundred bytes, unless its user is
/// in very many groups.
const BEGINNING: usize = 1024 * 1024;
/// Maximum size in bytes of an ordinary body; nearly every review is smaller.
const ORDINARY: usize = 256 * 1024;
/// Maximum number of bytes of all ordinary bodies together. Large bodies never take this room.
const ALL_ORDINARY: usize = 16 * 1024 * 1024;
/// Maximum number of bytes of all large bodies together. Both budgets together are a quarter of the memory
/// that the chart gives a replica.
const ALL_LARGE: usize = 48 * 1024 * 1024;
/// Maximum number of bytes of all bodies of strangers together, which take none of the other room.
const ALL_STRANGERS: usize = 4 * 1024 * 1024;
/// Unit of the budgets, in bytes.
const KIB: usize = 1024;
/// Interval at which the pace of a body is checked.
const PERIOD: Duration = Duration::from_millis(250);
/// Minimum number of bytes that have to arrive within a period while other bodies wait for the room.
const PACE: usize = 256 * 1024;

/// The room for all bodies.
#[derive(Debug)]
pub(crate) struct Budget {
    ordinary: Room,
    large: Room,
    strangers: Room,
}

/// The room that bodies of one size share.
#[derive(Debug)]
struct Room {
    kibibytes: Semaphore,
    /// Number of bodies that wait for room.
    waiting: AtomicUsize,
}

/// A body and its part of the budget.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    pub(crate) bytes: Bytes,
    pub(crate) extent: Extent,
    _part: SemaphorePermit<'a>,
}

/// The part of a body that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The whole body.
    Whole,
    /// The beginning of a body above [`BODY_LIMIT`], which was read to its end.
    Beginning,
    /// The beginning of a body above [`BODY_LIMIT`] whose end had not arrived by the deadline.
    Unfinished,
}

/// The reason why a body was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Other bodies need the memory.
    NoRoom,
    /// The body did not arrive in time, or its connection broke.
    Broken,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            ordinary: Room::of(ALL_ORDINARY),
            large: Room::of(ALL_LARGE),
            strangers: Room::of(ALL_STRANGERS),
        }
    }
}

impl Budget {
    /// Reads a body into memory before the deadline. `known` is false for a body of a stranger.
    pub(crate) async fn take(
        &self,
        body: Body,
        known: bool,
        deadline: Instant,
    ) -> Result<Taken<'_>, BodyError> {
        // The API server always announces the length.
        let announced = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let wanted = match announced {
            Some(length) if length > BODY_LIMIT => BEGINNING,
            Some(length) => length,
            None => BODY_LIMIT,
        };
        let room = match known {
            true if wanted <= ORDINARY => &self.ordinary,
            true => &self.large,
            false if wanted <= ALL_STRANGERS => &self.strangers,
            false => return Err(BodyError::NoRoom),
        };
        let mut part = room.reserve(wanted, deadline).await?;
        let mut arrival = Arrival { body, limit: wanted, length: 0, first: Bytes::new(), all: Vec::new() };
        let extent = arrival.read(room, deadline).await?;
        let bytes = arrival.into_bytes();
        // The part of the reservation that was not needed is returned.
        drop(part.split(part.num_permits().saturating_sub(bytes.len().div_ceil(KIB))));
        Ok(Taken { bytes, extent, _part: part })
    }
}

impl Room {
    fn of(bytes: usize) -> Self {
        Self { kibibytes: Semaphore::new(bytes / KIB), waiting: AtomicUsize::new(0) }
    }

    /// Waits until there is room for this number of bytes, and reserves it.
    async fn reserve(&self, bytes: usize, deadline: Instant) -> Result<SemaphorePermit<'_>, BodyError> {
        let kibibytes = u32::try_from(bytes.div_ceil(KIB)).map_err(|_| BodyError::NoRoom)?;
        if let Ok(part) = self.kibibytes.try_acquire_many(kibibytes) {
            return Ok(part);
        }
        let _waiting = Waiting::among(&self.waiting);
        match in_time(deadline, pin!(self.kibibytes.acquire_many(kibibytes))).await {
            Some(Ok(part)) => Ok(part),
            Some(Err(_)) | None => Err(BodyError::NoRoom),
        }
    }

    fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// A guard that counts a waiting body until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that is arriving.
struct Arrival {
    body: Body,
    /// Number of bytes for which room is reserved. Of a longer body, only the first [`BEGINNING`] bytes are
    /// kept.
    limit: usize,
    /// Number of bytes that have arrived.
    length: usize,
    /// The body while it is of one piece. Most bodies are, and are not copied.
    first: Bytes,
    all: Vec<u8>,
}

impl Arrival {
    async fn read(&mut self, room: &Room, deadline: Instant) -> Result<Extent, BodyError> {
        let (mut period, mut before) = (Instant::now() + PERIOD, 0);
        loop {
            let frame = in_time(deadline.min(period), pin!(self.body.frame())).await;
            let is_late = frame.is_none();
            match frame {
                Some(Some(frame)) => {
                    if let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() {
                        self.keep(&data);
                    }
                }
                Some(None) if self.is_cut() => return Ok(Extent::Beginning),
                Some(None) => return Ok(Extent::Whole),
                None => {}
            }
            let now = Instant::now();
            if now >= deadline && self.is_cut() {
                return Ok(Extent::Unfinished);
            }
            if now >= deadline && is_late {
                return Err(BodyError::Broken);
            }
            if now >= period {
                if room.is_wanted() && self.length - before < PACE {
                    return Err(BodyError::NoRoom);
                }
                (period, before) = (now + PERIOD, self.length);
            }
        }
    }

    fn is_cut(&self) -> bool {
        self.length > self.limit
    }

    fn keep(&mut self, data: &Bytes) {
        let is_first = self.length == 0;
        self.length += data.len();
        if is_first && !self.is_cut() {
            self.first = data.clone();
            return;
        }
        if self.all.is_empty() {
            self.all.reserve_exact(self.limit);
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        if !self.is_cut() {
            self.all.extend_from_slice(data);
            return;
        }
        let missing = BEGINNING.saturating_sub(self.all.len()).min(data.len());
        self.all.extend_from_slice(data.get(..missing).unwrap_or_default());
        self.all.truncate(BEGINNING);
        self.all.shrink_to(BEGINNING);
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::BoxError;
    use futures::{StreamExt as _, stream};
    use hyper::body::{Frame, SizeHint};
    use tokio::time::sleep;

    use super::*;

    const MIB: usize = 1024 * KIB;

    /// A body that announces its length, as the bodies of the API server do.
    struct Announced {
        body: Body,
        length: usize,
    }

    impl hyper::body::Body for Announced {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            Pin::new(&mut self.body).poll_frame(context)
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.length as u64)
        }
    }

    fn announced(length: usize, body: Body) -> Body {
        Body::new(Announced { body, length })
    }

    /// Returns a body of these pieces, which are made when they are read.
    fn pieces(pieces: impl IntoIterator<Item = Vec<u8>, IntoIter: Send + 'static>) -> Body {
        Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, BoxError>)))
    }

    /// Returns a body of this length in pieces of 64 KiB.
    fn large(length: usize) -> Body {
        announced(length, pieces((0..length / (64 * KIB)).map(|_| vec![b' '; 64 * KIB])))
    }

    /// Returns a body of which nothing arrives.
    fn stalled(length: usize) -> Body {
        announced(length, Body::from_stream(stream::pending::<Result<Vec<u8>, BoxError>>()))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(4)
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_become_one_body() {
        let budget = Budget::default();
        let body = || pieces([b"a".to_vec(), Vec::new(), b"bc".to_vec(), b"d".to_vec()]);
        for body in [body(), announced(4, body())] {
            let taken = budget.take(body, true, soon()).await.unwrap();
            assert_eq!((&*taken.bytes, taken.extent), (&b"abcd"[..], Extent::Whole));
        }
        assert_eq!(budget.take(Body::empty(), true, soon()).await.unwrap().bytes, "");
        let largest = budget.take(large(BODY_LIMIT), true, soon()).await.unwrap();
        assert_eq!((largest.bytes.len(), largest.extent), (BODY_LIMIT, Extent::Whole));
    }

    #[tokio::test(start_paused = true)]
    async fn the_beginning_of_a_body_over_the_limit_is_kept_and_the_rest_is_read_away() {
        let budget = Budget::default();
        let over = || pieces((0..BODY_LIMIT / MIB + 1).map(|_| vec![b' '; MIB + 1]));
        let one_piece = Body::from(vec![b' '; BODY_LIMIT + 1]);
        for body in [over(), announced((BODY_LIMIT / MIB + 1) * (MIB + 1), over()), one_piece] {
            let taken = budget.take(body, true, soon()).await.unwrap();
            assert_eq!((taken.bytes.len(), taken.extent), (BEGINNING, Extent::Beginning));
            // A beginning takes no more room than it has bytes, so a body of the largest size fits beside it.
            assert!(budget.take(large(BODY_LIMIT), true, Instant::now()).await.is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_over_the_limit_that_goes_on_is_answered_at_its_deadline() {
        let budget = Budget::default();
        let trickle = stream::repeat(()).then(|()| async {
            sleep(Duration::from_millis(10)).await;
            Ok::<_, BoxError>(vec![b' '; MIB])
        });
        let body = announced(usize::MAX, Body::from_stream(trickle));
        let deadline = soon();
        let taken = budget.take(body, true, deadline).await.unwrap();
        assert_eq!((taken.bytes.len(), taken.extent), (BEGINNING, Extent::Unfinished));
        assert!(Instant::now() < deadline + Duration::from_millis(20));
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_wait_for_one_anothers_memory_until_their_deadline() {
        let budget = Budget::default();
        let mut taken = Vec::new();
        for _ in 0..6 {
            taken.push(budget.take(large(8 * MIB), true, soon()).await.unwrap());
        }
        assert_eq!(budget.take(large(8 * MIB), true, soon()).await.unwrap_err(), BodyError::NoRoom);
        // Ordinary bodies have their own room.
        assert!(budget.take(large(ORDINARY), true, soon()).await.is_ok());
        let next = budget.take(large(8 * MIB), true, soon());
        taken.pop();
        assert!(next.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_arrive_at_the_same_time_do_not_wait_for_one_another_for_ever() {
        let budget = Budget::default();
        // Each body would be half read before the first could end, if room were not reserved before.
        let paced = |length: usize| {
            let pieces = stream::iter(0..length / MIB).then(|_| async {
                sleep(Duration::from_millis(1)).await;
                Ok::<_, BoxError>(vec![b' '; MIB])
            });
            announced(length, Body::from_stream(pieces))
        };
        let all = (0..8).map(|_| async { budget.take(paced(20 * MIB), true, soon()).await.map(drop) });
        assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    }

    #[tokio::test(start_paused = true)]
    async fn ten_stalled_bodies_keep_no_other_beyond_its_deadline() {
        // The bodies announce various lengths, and send nothing or a byte now and then.
        let dripping = |length| {
            let drops = stream::repeat(()).then(|()| async {
                sleep(PERIOD / 5).await;
                Ok::<_, BoxError>(vec![b' '])
            });
            announced(length, Body::from_stream(drops))
        };
        type Hostile = fn(usize) -> Body;
        let hostile: [(usize, Hostile); 4] =
            [(7 * MIB, stalled), (BODY_LIMIT, stalled), (BODY_LIMIT, dripping), (usize::MAX, stalled)];
        for (length, hostile) in hostile {
            let budget = Budget::default();
            let hostile = (0..10).map(|_| budget.take(hostile(length), true, soon()));
            let others = async {
                tokio::task::yield_now().await;
                let ordinary = budget.take(large(64 * KIB), true, soon()).await.map(drop);
                (ordinary, budget.take(large(4 * MIB), true, soon()).await.map(drop))
            };
            let (_, (ordinary, other)) = tokio::join!(futures::future::join_all(hostile), others);
            assert_eq!((ordinary, other), (Ok(()), Ok(())), "{length}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_waited_for_while_nobody_needs_its_room() {
        let budget = Budget::default();
        let slow = stream::iter([Duration::from_secs(1), Duration::from_secs(2)]).then(|pause| async move {
            sleep(pause).await;
            Ok::<_, BoxError>(b"a".to_vec())
        });
        assert_eq!(
            budget.take(announced(2, Body::from_stream(slow)), true, soon()).await.unwrap().bytes,
            "aa"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_midway_is_given_up() {
        let budget = Budget::default();
        for body in [stalled(100), stalled(usize::MAX)] {
            assert_eq!(budget.take(body, true, soon()).await.unwrap_err(), BodyError::Broken);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_take_no_room_of_others_and_have_little() {
        let budget = Budget::default();
        let hostile = (0..40).map(|_| budget.take(stalled(MIB), false, soon()));
        let others = async {
            tokio::task::yield_now().await;
            let ordinary = budget.take(large(ORDINARY), true, Instant::now()).await.map(drop);
            (ordinary, budget.take(large(BODY_LIMIT), true, Instant::now()).await.map(drop))
        };
        let (strangers, (ordinary, other)) = tokio::join!(futures::future::join_all(hostile), others);
        assert_eq!((ordinary, other), (Ok(()), Ok(())));
        assert!(strangers.iter().all(Result::is_err));
        assert!(budget.take(large(ALL_STRANGERS), false, Instant::now()).await.is_ok());
        for too_large in [large(ALL_STRANGERS + 64 * KIB), pieces([b"a".to_vec()])] {
            let started = Instant::now();
            assert_eq!(budget.take(too_large, false, soon()).await.unwrap_err(), BodyError::NoRoom);
            assert_eq!(started.elapsed(), Duration::ZERO, "it is not waited for");
        }
    }
}
