//! Logging: text for people on a terminal, one JSON object per line for machines. Callers choose the levels of events.

use std::io::{self, IsTerminal};
use std::panic;

use tracing::Level;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::telemetry::traces::Traces;

/// The module of the client library that logs whole answers of the API server when it cannot parse them. The answers
/// contain objects of users, so no filter brings these events into the log.
const NEVER: &str = "kube_client::client";

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text if standard error is a terminal, otherwise JSON.
    Auto,
    /// One line of text per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// The reason why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter does not parse.
    #[error("read the log filter")]
    Filter(#[source] ParseError),
    /// The process already logs.
    #[error("start logging")]
    Start(#[source] TryInitError),
}

/// Starts logging to standard error, and collecting spans if `traces` is given. Panics become events too.
///
/// # Errors
/// Fails if the filter does not parse (`info` and `tagpin_registry=debug` do), or if the process already logs.
pub fn start(filter: &str, format: Format, traces: Option<&Traces>) -> Result<(), LoggingError> {
    use tracing_subscriber::util::SubscriberInitExt;

    // An absent layer must not be in the list: as `None` it would have spans made that no layer reads.
    let mut layers = vec![lines(filter, format).map_err(LoggingError::Filter)?];
    layers.extend(traces.map(|traces| traces.layer().boxed()));
    tracing_subscriber::registry().with(layers).try_init().map_err(LoggingError::Start)?;
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let cause = panic.payload_as_str().unwrap_or("unknown");
        tracing::event!(Level::ERROR, place, cause, "a task panicked");
    }));
    Ok(())
}

/// Returns the layer that writes the log.
fn lines(filter: &str, format: Format) -> Result<Box<dyn Layer<Registry> + Send + Sync>, ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    // Without this hint the level of the other filter would not be known, and each event below it would cost more than
    // one comparison.
    let some = filter_fn(|event| event.target() != NEVER).with_max_level_hint(LevelFilter::TRACE);
    let filter = filter.and(some);
    let lines = fmt::layer().with_writer(io::stderr);
    let text = match format {
        Format::Auto => io::stderr().is_terminal(),
        Format::Text => true,
        Format::Json => false,
    };
    Ok(if text {
        lines.with_filter(filter).boxed()
    } else {
        lines.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_of_the_filter_is_known_so_that_nothing_below_it_is_made() {
        for (filter, level) in [("info", LevelFilter::INFO), ("warn,tagpin=debug", LevelFilter::DEBUG)] {
            let lines = lines(filter, Format::Json).unwrap();
            assert_eq!(lines.max_level_hint(), Some(level), "{filter}");
        }
    }
}
