//! The registry client against registries: scripted hostile ones (`tests/cases/registry/*.yaml`), and the registry of the
//! distribution project, Debian's release and the last one, over http, with TLS and passwords, and with tokens.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod cache;
mod cases;
#[cfg(all(feature = "aws", feature = "gcp", feature = "azure"))]
mod clouds;
mod config;
mod distribution;
#[cfg(all(feature = "aws", feature = "gcp", feature = "azure"))]
mod ecr;
mod files;
mod health;
mod outages;
#[path = "../../../../tests/it/parts.rs"]
mod parts;
mod proxy;
mod pull_secrets;
mod real;
mod rebinding;
mod scripted;
mod secured;
mod skopeo;
mod suggestions;
mod support;
mod tag_list;
mod tokens;
