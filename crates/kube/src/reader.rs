//! What no watch has reported: it is waited for, and then read by its name.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use crate::changes::Watcher;
use crate::stored::Stored;
use tagpin_domain::kind::Kind;
use tagpin_domain::policy::Labels;

/// How long a watch may lag behind an admission.
const GRACE: Duration = Duration::from_millis(250);

/// Asks the API server for what a watch should have reported by now.
#[async_trait]
pub trait Reader: Send + Sync {
    /// The object of this kind and name, or nothing when it is not there or can not be read before the deadline.
    async fn object(&self, kind: Kind, namespace: &str, name: &str, deadline: Instant) -> Option<Stored>;

    /// The labels of this namespace, or nothing when it is not there or can not be read before the deadline.
    async fn namespace_labels(&self, name: &str, deadline: Instant) -> Option<Labels>;
}

/// What a store holds, now or a moment later, or else what one read gives; nothing when the deadline passes before. What
/// is in memory is answered even when it has passed.
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
