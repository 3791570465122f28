//! `make bench`: the cost of the webhook, as ratios to references that are measured in the same run on the same
//! machine.
//!
//! `warm` drives processes over HTTPS: the published binary, a webhook that answers a constant, and the usual webhook.
//! The other parts compose tagpin in this process. They measure how often a registry is asked when many reviews ask for
//! one unknown tag at the same time, what a registry that hangs costs the others, what a namespace with expensive policies
//! costs the others, and what one look-up costs. A missed
//! goal is printed as such.
//!
//! `TAGPIN_BENCH_BINARY` is the path of another tagpin, which `warm` measures in the same rounds. This can be the
//! binary from before a change, for example.
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
mod policies;
mod published;
mod reference;
mod replica;
mod resolve;
mod review;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/it/support/serving.rs"]
mod serving;
mod tagpin_webhook;
mod warm;

/// The parts by name: `cargo bench --bench admission -- four flood` measures these two alone.
const ALL: [(&str, fn()); 7] = [
    ("warm", warm::measure),
    ("cold", cold::measure),
    ("hanging", hanging::measure),
    ("policies", policies::measure),
    ("four", four::measure),
    ("flood", flood::measure),
    ("resolve", resolve::measure),
];

fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words == [reference::WORD] {
        return reference::run();
    }
    machine::print();
    for (name, measure) in ALL {
        if words.is_empty() || words.iter().any(|word| word == name) {
            measure();
        }
    }
}
