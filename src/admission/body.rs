//! Taking in the body of a request: as much as one may have, and no more at the same time than all may have.

use std::pin::pin;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::admission::in_time::in_time;

/// An update carries the object twice, and the API server takes objects of up to 3 MiB.
pub const BODY_LIMIT: usize = 7 * 1024 * 1024;
/// Bytes of all bodies that are here at the same time: a quarter of the memory that the chart gives a replica.
const ALL_BODIES: usize = 64 * 1024 * 1024;
/// What the budget is counted in.
const KIB: usize = 1024;

/// What all bodies may take together.
#[derive(Debug)]
pub(crate) struct Budget(Semaphore);

/// A body, and its part of the budget.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    pub(crate) bytes: Bytes,
    _part: Option<SemaphorePermit<'a>>,
}

/// Why a body was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is larger than [`BODY_LIMIT`].
    TooLarge,
    /// The others need the memory.
    NoRoom,
    /// It did not arrive in time, or its connection broke.
    Broken,
}

impl Default for Budget {
    fn default() -> Self {
        Self(Semaphore::new(ALL_BODIES / KIB))
    }
}

impl Budget {
    /// Takes a body in. The budget is asked for as the bytes arrive, so that a slow caller holds only what it sent.
    pub(crate) async fn take(&self, mut body: Body, deadline: Instant) -> Result<Taken<'_>, BodyError> {
        let mut part: Option<SemaphorePermit<'_>> = None;
        let mut first = Bytes::new();
        let mut all: Vec<u8> = Vec::new();
        let mut length = 0;
        loop {
            let frame = in_time(deadline, pin!(body.frame())).await.ok_or(BodyError::Broken)?;
            let Some(frame) = frame else { break };
            let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
            length += data.len();
            if length > BODY_LIMIT {
                return Err(BodyError::TooLarge);
            }
            let held = part.as_ref().map_or(0, SemaphorePermit::num_permits);
            let more = u32::try_from(length.div_ceil(KIB) - held).map_err(|_| BodyError::TooLarge)?;
            match in_time(deadline, pin!(self.0.acquire_many(more))).await {
                Some(Ok(more)) => match &mut part {
                    Some(part) => part.merge(more),
                    None => part = Some(more),
                },
                Some(Err(_)) | None => return Err(BodyError::NoRoom),
            }
            // Most bodies come in one piece, which need not be copied.
            if first.is_empty() && all.is_empty() {
                first = data;
            } else {
                if all.is_empty() {
                    all.extend_from_slice(&std::mem::take(&mut first));
                }
                all.extend_from_slice(&data);
            }
        }
        let bytes = if all.is_empty() { first } else { all.into() };
        Ok(Taken { bytes, _part: part })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::time::Duration;

    use axum::BoxError;
    use futures::stream;

    use super::*;

    /// Pieces that are made as they are asked for.
    fn pieces(pieces: impl IntoIterator<Item = Vec<u8>, IntoIter: Send + 'static>) -> Body {
        Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, BoxError>)))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_become_one_body() {
        let budget = Budget::default();
        let body = pieces([b"a".to_vec(), Vec::new(), b"bc".to_vec(), b"d".to_vec()]);
        assert_eq!(budget.take(body, soon()).await.unwrap().bytes, "abcd");
        assert_eq!(budget.take(Body::empty(), soon()).await.unwrap().bytes, "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_over_the_limit_is_not_read_to_its_end() {
        let budget = Budget::default();
        let body = pieces((0..).map(|_| vec![b' '; 64 * KIB]));
        assert_eq!(budget.take(body, soon()).await.unwrap_err(), BodyError::TooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_wait_for_one_anothers_memory_until_their_deadline() {
        let budget = Budget::default();
        let large = || pieces((0..7).map(|_| vec![b' '; 1024 * KIB]));
        let mut taken = Vec::new();
        for _ in 0..9 {
            taken.push(budget.take(large(), soon()).await.unwrap());
        }
        assert_eq!(budget.take(large(), soon()).await.unwrap_err(), BodyError::NoRoom);
        let next = budget.take(large(), soon());
        taken.pop();
        assert!(next.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_midway_is_given_up() {
        let budget = Budget::default();
        let body = Body::from_stream(stream::pending::<Result<Vec<u8>, BoxError>>());
        assert_eq!(budget.take(body, soon()).await.unwrap_err(), BodyError::Broken);
    }
}
