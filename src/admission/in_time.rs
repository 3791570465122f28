//! Waiting until a deadline. Most of what a review waits for is there at once, and then no timer is set.

use std::pin::pin;

use futures::FutureExt as _;
use tokio::time::{Instant, timeout_at};

/// What the future gives, unless the deadline passes before.
pub(crate) async fn in_time<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    match future.as_mut().now_or_never() {
        Some(given) => Some(given),
        None => timeout_at(deadline, future).await.ok(),
    }
}
