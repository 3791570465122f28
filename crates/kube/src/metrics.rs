//! Metrics of the watches that fill the stores.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How often watches failed. Clones count together.
#[derive(Debug, Clone)]
pub struct Watches {
    restarts: Family<Kind, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

impl Watches {
    /// Counters at 0 for the watches of these kinds.
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
            "Watches that failed and were opened again; what was held stays in use",
            self.restarts.clone(),
        );
    }

    /// The watch of this kind failed.
    pub fn restarted(&self, kind: &'static str) {
        self.restarts.get_or_create(&Kind { kind }).inc();
    }
}
