//! tagpin pins image tags to digests, refuses what a policy forbids, and remembers what ran.
//!
//! Data flows through the modules in one direction:
//! **reference → policy decision → registry fact → verdict and patch → response and report.**
//!
//! `ARCHITECTURE.md` has the map of the modules and the table of their layers, and `tests/it/tidy.rs` checks both.

pub mod settings;
pub mod telemetry;

pub mod serve;
mod surroundings;

pub mod cli;
