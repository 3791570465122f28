//! One signal for all stores, which is sent after each change that a reader can notice.

use tokio::sync::watch;

/// The sending half; every store holds one.
#[derive(Debug, Clone, Default)]
pub struct Changes(watch::Sender<u64>);

impl Changes {
    /// Wakes all watchers.
    pub(crate) fn announce(&self) {
        self.0.send_modify(|version| *version = version.wrapping_add(1));
    }

    pub(crate) fn watch(&self) -> Watcher {
        Watcher(self.0.subscribe())
    }
}

/// The receiving half.
#[derive(Debug, Clone)]
pub struct Watcher(watch::Receiver<u64>);

impl Watcher {
    /// Waits for a change since the last call; returns at once if there has been one.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The stores were dropped, so that nothing changes any more.
            std::future::pending::<()>().await;
        }
    }
}
