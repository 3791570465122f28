//! The registry client against registries: scripted hostile ones (`tests/cases/registry/*.yaml`) and Debian's
//! `docker-registry` over http, with TLS and passwords, and with tokens; and the traces of what it is asked.

mod cases;
#[cfg(all(feature = "aws", feature = "gcp", feature = "azure"))]
mod clouds;
mod distribution;
mod outages;
mod real;
mod resolve;
mod scripted;
mod secured;
mod suggestions;
mod support;
mod tags;
mod tokens;
mod traces;
