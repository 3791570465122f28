//! Waiting until a deadline. Most results that a review waits for are there at once, and then no timer is
//! set.

use std::pin::Pin;

use futures::FutureExt as _;
use tokio::time::{Instant, timeout_at};

/// Returns the output of the future, or none if the deadline passes first. The future stays where it is:
/// moved in here, it would take its room three times over, and every review would be copied that much
/// further.
pub(crate) async fn in_time<F: Future>(deadline: Instant, mut future: Pin<&mut F>) -> Option<F::Output> {
    match future.as_mut().now_or_never() {
        Some(given) => Some(given),
        None => timeout_at(deadline, future).await.ok(),
    }
}
