//! Writes to the standard streams; nothing else of the command line does. It formats no verdicts.

use std::io::{self, Write};

/// Prints the error of a command that ended early on standard error, causes included.
pub(crate) fn error(cause: &anyhow::Error) {
    // If standard error is closed, nobody can be told.
    let _ = writeln!(io::stderr().lock(), "error: {cause:#}");
}

/// Prints a note on standard error: text that belongs beside a result, and not into it.
pub(crate) fn note(text: &str) {
    // If standard error is closed, nobody can be told.
    let _ = writeln!(io::stderr().lock(), "note: {text}");
}

/// Prints a text unchanged.
pub(crate) fn print(text: &str) -> io::Result<()> {
    print_bytes(text.as_bytes())
}

/// Prints the content of a file unchanged.
pub(crate) fn print_bytes(content: &[u8]) -> io::Result<()> {
    io::stdout().lock().write_all(content)
}
