//! The `tagpin` binary: it installs the TLS provider and hands over to `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: everything that speaks TLS in this process uses this one provider.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    tagpin::cli::main()
}
