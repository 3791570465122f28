//! Metrics of the leader's writers: the duration of their passes, and their failed writes.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

/// Upper bounds of the histogram buckets in seconds, from a pass over memory to calls that reach their time
/// limits.
const SECONDS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

/// The metrics of all writers. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    duration: Family<Labels, Histogram, fn() -> Histogram>,
    errors: Family<Labels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    writer: &'static str,
}

/// The metrics of one writer. Clones share them.
#[derive(Debug, Clone)]
pub struct Reconcile {
    duration: Histogram,
    errors: Counter,
}

/// One pass, which is measured until it is dropped.
#[derive(Debug)]
#[must_use = "it measures while it lives"]
pub struct Pass<'a> {
    of: &'a Reconcile,
    since: Instant,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { duration: Family::new_with_constructor(histogram), errors: Family::default() };
        registry.register(
            "reconcile_duration_seconds",
            "Duration of a pass of a leader's writer, which compares the present with the wanted state and writes the difference",
            metrics.duration.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Number of failed writes of the leader; each is retried",
            metrics.errors.clone(),
        );
        metrics
    }

    /// Returns the metrics of the writer with this name, at 0 before its first pass.
    #[must_use]
    pub fn of(&self, writer: &'static str) -> Reconcile {
        let labels = Labels { writer };
        Reconcile {
            duration: self.duration.get_or_create_owned(&labels),
            errors: self.errors.get_or_create_owned(&labels),
        }
    }
}

/// Returns metrics that are not registered.
impl Default for Reconcile {
    fn default() -> Self {
        Self { duration: histogram(), errors: Counter::default() }
    }
}

impl Reconcile {
    /// Begins a pass.
    pub fn pass(&self) -> Pass<'_> {
        Pass { of: self, since: Instant::now() }
    }

    /// Counts a failed write.
    pub fn failed(&self) {
        self.errors.inc();
    }

    /// Returns the number of failed writes.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.errors.get()
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let took: Duration = self.since.elapsed();
        self.of.duration.observe(took.as_secs_f64());
    }
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}
