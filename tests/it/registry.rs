//! The registry client against registries: scripted hostile ones (`tests/cases/registry/*.yaml`) and the registry of the
//! distribution project, Debian's release and the last, over http, with TLS and passwords, and with tokens; and the traces
//! of what it is asked.

mod cases;
#[cfg(all(feature = "aws", feature = "gcp", feature = "azure"))]
mod clouds;
mod distribution;
#[cfg(all(feature = "aws", feature = "gcp", feature = "azure"))]
mod ecr;
mod outages;
mod real;
mod rebinding;
mod resolve;
mod scripted;
mod secured;
mod skopeo;
mod suggestions;
mod support;
mod tags;
mod tokens;
mod traces;
