//! Tests of everything that the leader writes, call by call.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod arming;
mod baseline;
mod break_glass;
mod certificates;
mod clearing;
mod disarming;
mod door;
mod fight;
mod findings;
mod glass;
mod leader;
mod pin_keys;
mod policy_status;
mod reach;
mod replicas;
mod standings;
mod webhook_config;
mod workload_events;
