//! Words on the standard streams, and the only place that writes to them. It formats no verdicts.

use std::io::{self, Write};

/// Says on standard error why a command ended early, causes included.
pub(crate) fn error(cause: &anyhow::Error) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "error: {cause:#}");
}

/// Says on standard error what belongs beside a result, not into it.
pub(crate) fn note(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "note: {text}");
}

/// Prints a text as it is.
pub(crate) fn print(text: &str) -> io::Result<()> {
    print_bytes(text.as_bytes())
}

/// Prints a file's content as it is.
pub(crate) fn print_bytes(content: &[u8]) -> io::Result<()> {
    io::stdout().lock().write_all(content)
}
