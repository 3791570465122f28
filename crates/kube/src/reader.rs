//! Objects that no watch has reported yet. A review waits a moment for them and then reads them by name.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use crate::changes::Watcher;
use crate::discovery::ServedKinds;
use crate::stored::Stored;
use tagpin_domain::kind::Kind;
use tagpin_domain::workload::{Known, Labels};

/// Time that a review waits for a watch that lags behind it.
const GRACE: Duration = Duration::from_millis(250);

/// Reads from the API server what no watch has reported yet.
#[async_trait]
pub trait Reader: Send + Sync {
    /// Returns the object of this kind and name; none if it does not exist or cannot be read before the deadline.
    async fn object(&self, kind: Kind, namespace: &str, name: &str, deadline: Instant) -> Option<Stored>;

    /// Returns the labels of this namespace; none if it does not exist or cannot be read before the deadline.
    async fn namespace_labels(&self, name: &str, deadline: Instant) -> Option<Labels>;

    /// Returns the names of the pull secrets of a service account; none if it does not exist, unknown if it cannot be
    /// read before the deadline.
    async fn pull_secrets(
        &self,
        namespace: &str,
        service_account: &str,
        deadline: Instant,
    ) -> Known<Option<Vec<String>>>;

    /// Returns the kinds of custom resources that the API server serves; none if they cannot be read before the deadline.
    async fn served_kinds(&self, deadline: Instant) -> Option<ServedKinds>;
}

/// Returns what a store holds now or within [`GRACE`], else the result of one read; none if the deadline
/// passes first. A value that a store holds now is returned even after the deadline.
pub(crate) async fn held_or_read<T>(
    changes: &mut Watcher,
    deadline: Instant,
    held: impl Fn() -> Option<T>,
    read: impl Future<Output = Option<T>>,
) -> Option<T> {
    let waited = async {
        loop {
            if let Some(held) = held() {
                return held;
            }
            changes.changed().await;
        }
    };
    match timeout_at(deadline.min(Instant::now() + GRACE), waited).await {
        Ok(held) => Some(held),
        Err(_) if Instant::now() >= deadline => None,
        Err(_) => read.await,
    }
}
