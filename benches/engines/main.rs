//! `make bench`: the engines of tagpin beside the crates that do the same, each built for speed, in one run.
//!
//! An engine earns its place while the best crate costs more than 1.2 of it in time on the hot path or in memory. A goal
//! that is missed is printed as such: then the crate should take the engine's place.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench fails by panicking, and speaks to people"
)]

#[allow(dead_code, reason = "another bench uses more of it")]
#[path = "../admission/figures.rs"]
mod figures;
mod globs;
mod json;
#[allow(dead_code, reason = "another bench uses more of it")]
#[path = "../admission/machine.rs"]
mod machine;
mod race;

fn main() {
    machine::print();
    json::measure();
    globs::measure();
}
