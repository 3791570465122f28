//! Commands that ask registries, as processes, and the traces of a review whose image is looked up. The client itself
//! is tested in its crate, whose test support is shared here.

#[path = "../../crates/registry/tests/it/distribution.rs"]
#[allow(dead_code, unused_macros, unused_imports, reason = "the tests of the crate use the rest")]
mod distribution;
mod person;
mod remedies;
mod resolve;
#[path = "../../crates/registry/tests/it/scripted.rs"]
#[allow(dead_code, reason = "the tests of the crate use the rest")]
mod scripted;
#[path = "../../crates/registry/tests/it/support.rs"]
#[allow(dead_code, reason = "the tests of the crate use the rest")]
mod support;
mod tags;
mod traces;
