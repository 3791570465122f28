//! `make bench`: what the webhook costs, as ratios of what is measured in the same run on the same machine.
//!
//! Warm admission over HTTPS against a webhook that answers a constant and one as it is usually written; how often a
//! registry is asked when many ask for one unknown tag at once; what a registry that hangs costs the others; what one
//! question costs. A goal that is missed is printed as such.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench fails by panicking, and speaks to people"
)]

mod client;
mod cold;
mod figures;
mod hanging;
mod machine;
mod resolve;
mod review;
mod server;
mod tagpin_webhook;
mod usual_webhook;
mod warm;

fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    machine::print();
    warm::measure();
    cold::measure();
    hanging::measure();
    resolve::measure();
}
