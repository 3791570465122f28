//! tagpin pins image tags to digests, refuses what a policy forbids, and remembers what ran.
//!
//! The tree is the architecture; data flows down the list, never back:
//! **reference → policy decision → registry fact → verdict and patch → response and report.**
//!
//! `ARCHITECTURE.md` has the map and the layer table, and `tests/it/tidy.rs` holds both.

pub mod settings;
pub mod telemetry;

pub mod serve;
mod surroundings;

pub mod cli;
