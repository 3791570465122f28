//! Waits for a value of a watch channel, with a limit.

use std::fmt::Debug;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Time limit on the paused clock, which passes at once when nothing else happens.
const LIMIT: Duration = Duration::from_hours(2);

/// Waits until the value is as it is wanted, and returns it.
pub(super) async fn reach<T: Clone + Debug>(
    seen: &mut watch::Receiver<T>,
    is_wanted: impl FnMut(&T) -> bool,
) -> T {
    let held = timeout(LIMIT, seen.wait_for(is_wanted)).await.map(|held| held.map(|held| held.clone()));
    match held {
        Ok(Ok(held)) => held,
        _ => panic!("it is {:?}", *seen.borrow()),
    }
}
