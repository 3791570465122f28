//! `make bench`: compares the engines of tagpin with crates that do the same. All are built for speed, and run
//! together.
//!
//! An engine is worth keeping while the best crate costs more than 1.2 times as much, in time on the hot path or in
//! memory. A missed goal is printed as such: then the crate should replace the engine.
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
