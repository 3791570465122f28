//! Logs: text for people on a terminal, one JSON object a line for machines. It chooses no level of single events.

use std::io::{self, IsTerminal};
use std::panic;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text when standard error is a terminal, else JSON.
    Auto,
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// Why nothing would be logged.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is none.
    #[error("read the log filter")]
    Filter(#[source] ParseError),
    /// The process logs already.
    #[error("start logging")]
    Start(#[source] TryInitError),
}

/// Starts logging to standard error; panics become events too.
///
/// # Errors
/// The filter does not parse (`info`, `tagpin::registry=debug`), or the process logs already.
pub fn start(filter: &str, format: Format) -> Result<(), LoggingError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = EnvFilter::builder().parse(filter).map_err(LoggingError::Filter)?;
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let text = match format {
        Format::Auto => io::stderr().is_terminal(),
        Format::Text => true,
        Format::Json => false,
    };
    if text {
        base.finish().try_init().map_err(LoggingError::Start)?;
    } else {
        base.json()
            .flatten_event(true)
            .with_span_list(false)
            .finish()
            .try_init()
            .map_err(LoggingError::Start)?;
    }
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let cause = panic.payload_as_str().unwrap_or("unknown");
        tracing::event!(Level::ERROR, place, cause, "a task panicked");
    }));
    Ok(())
}
