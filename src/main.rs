//! The `tagpin` binary: installs the TLS provider and calls `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Every TLS connection of this process uses this provider, so it is installed first.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    tagpin::cli::main()
}
