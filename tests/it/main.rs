//! The offline tests that cross crates, in one binary with a module for each area.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod admin;
mod admission;
mod cases;
mod chart;
mod cli;
mod compose;
mod crds;
mod denials;
mod doctor;
mod files;
mod fuzz;
mod metrics;
mod observability;
mod oracle;
mod parts;
mod policies;
mod references;
mod registry;
mod security;

mod serve;
mod slot_table;
mod support;
mod tidy;
mod tls;
