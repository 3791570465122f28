//! Telemetry of the process: logs, metrics, traces, readiness, and the port that serves them.
//! It decides nothing and knows no policy. Each component registers its metrics here, as a struct of its own.

use prometheus_client::metrics::info::Info;

pub use prometheus_client::registry::Registry as Metrics;

pub mod admin;
pub mod logging;
pub mod readiness;
pub mod state;
pub mod traces;

/// Returns a registry for metrics named `tagpin_…`, with `tagpin_build_info` in it.
#[must_use]
pub fn metrics() -> Metrics {
    let mut registry = Metrics::with_prefix("tagpin");
    registry.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    registry
}
