//! What a user would notice, against a real cluster and real registries.
//!
//! `make test` runs this inside the rig with tagpin installed by its chart. With `KUBECONFIG` set to another cluster
//! (and tagpin installed there the same way) the same tests run on that one; those that must break the machine or
//! need the rig's registries skip themselves there and say so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say what they skip"
)]

mod support;

mod api_server;
mod arrival;
mod asked_about;
mod change_under_load;
mod definitions;
mod doctor;
mod ephemeral;
mod fail_closed;
mod forged;
mod leaders;
mod limits;
mod mirrors;
mod modes;
mod observability;
mod operations;
mod outage;
mod overload;
mod owners;
mod pins;
mod policies;
mod private;
mod quiet;
mod readme;
mod refusals;
mod reinvocation;
mod sticky;
mod stored;
mod traces;
mod unchanged;
mod uninstall;
mod upgrade;
mod values;
mod zero_replicas;
