//! Metrics of the watches that fill the stores.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counters of failed watches. Clones share them.
#[derive(Debug, Clone)]
pub struct Watches {
    restarts: Family<Kind, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

impl Watches {
    /// Returns counters at 0 for the watches of these kinds.
    #[must_use]
    pub fn new(kinds: impl Iterator<Item = &'static str>) -> Self {
        let restarts = Family::default();
        kinds.for_each(|kind| drop(restarts.get_or_create(&Kind { kind })));
        Self { restarts }
    }

    /// Registers the counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "watch_restarts",
            "Number of watches that failed and were opened again; the objects known before stay in use",
            self.restarts.clone(),
        );
    }

    /// Counts a failure of the watch of this kind.
    pub fn restarted(&self, kind: &'static str) {
        self.restarts.get_or_create(&Kind { kind }).inc();
    }
}
