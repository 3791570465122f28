//! Tests of a replica's stores, with events as watches report them: complete, doubled, late and out of order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod accounts;
mod by_name;
mod discovery;
mod interrupted;
mod limits;
mod lists;
mod marks;
mod node_images;
mod owners;
mod pods;
mod policies;
mod replica;
mod sightings;
mod unreadable;
mod watch;
