//! Tests of behaviour that users notice, on a real cluster with real registries.
//!
//! `make test` runs these tests inside the rig, with tagpin installed by its chart. With `KUBECONFIG` set to another
//! cluster, on which tagpin is installed in the same way, they run on that cluster. Tests that break the machine or
//! need the rig's registries are then skipped, with a printed reason.
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
mod door;
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
