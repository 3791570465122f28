//! Logging: text for people on a terminal, one JSON object per line for machines. Callers choose the levels of events.

use std::io::{self, IsTerminal};
use std::panic;

use tracing::Level;
use tracing_subscriber::filter::{FilterExt as _, ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

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

    let filter = EnvFilter::builder().parse(filter).map_err(LoggingError::Filter)?;
    let filter = filter.and(filter_fn(|event| event.target() != NEVER));
    let lines = fmt::layer().with_writer(io::stderr);
    let text = match format {
        Format::Auto => io::stderr().is_terminal(),
        Format::Text => true,
        Format::Json => false,
    };
    let lines = if text {
        lines.with_filter(filter).boxed()
    } else {
        lines.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed()
    };
    let spans = traces.map(Traces::layer);
    tracing_subscriber::registry().with(spans).with(lines).try_init().map_err(LoggingError::Start)?;
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let cause = panic.payload_as_str().unwrap_or("unknown");
        tracing::event!(Level::ERROR, place, cause, "a task panicked");
    }));
    Ok(())
}
