//! `make bench`: the time of commands as whole processes, from start to end, beside those of other tools.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench fails by panicking, and speaks to people"
)]

#[allow(dead_code, reason = "the other bench uses more of it")]
#[path = "../admission/figures.rs"]
mod figures;
#[allow(dead_code, reason = "the other bench uses more of it")]
#[path = "../admission/machine.rs"]
mod machine;
mod program;
#[path = "../admission/published.rs"]
mod published;
mod registry;
mod resolve;

fn main() {
    machine::print();
    resolve::measure();
}
