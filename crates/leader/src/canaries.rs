//! What the leader counts of its canaries.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// The counter of canaries. Clones count together.
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
            "Canaries that the API server answered without reaching tagpin's webhook",
            metrics.failures.clone(),
        );
        metrics
    }

    /// One got lost.
    pub fn lost(&self) {
        self.failures.inc();
    }

    /// How many got lost.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.get()
    }
}
