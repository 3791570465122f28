//! The metric of the leader's canaries.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// The counter of lost canaries. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    failures: Counter,
}

impl Metrics {
    /// Registers the counter.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "webhook_canary_failures",
            "Number of canaries that the API server answered without reaching the webhook of tagpin",
            metrics.failures.clone(),
        );
        metrics
    }

    /// Counts a lost canary.
    pub fn lost(&self) {
        self.failures.inc();
    }

    /// Returns the number of lost canaries.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.get()
    }
}
