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
mod flood;
mod four;
mod hanging;
mod machine;
mod resolve;
mod review;
mod server;
mod tagpin_webhook;
mod usual_webhook;
mod warm;

/// By name: `cargo bench --bench admission -- four flood` measures these alone.
const ALL: [(&str, fn()); 6] = [
    ("warm", warm::measure),
    ("cold", cold::measure),
    ("hanging", hanging::measure),
    ("four", four::measure),
    ("flood", flood::measure),
    ("resolve", resolve::measure),
];

fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    machine::print();
    for (name, measure) in ALL {
        if words.is_empty() || words.iter().any(|word| word == name) {
            measure();
        }
    }
}
