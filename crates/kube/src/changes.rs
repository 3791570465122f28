//! One signal for all stores: something that a reader could notice has changed.

use tokio::sync::watch;

/// The sending half: every store holds one and gives the signal after each change.
#[derive(Debug, Clone, Default)]
pub struct Changes(watch::Sender<u64>);

impl Changes {
    /// Tells those who wait.
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
    /// Returns after the next change since the last call, at once when there has been one already.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The stores are gone: nothing will change any more.
            std::future::pending::<()>().await;
        }
    }
}
