//! The distribution protocol: who asks, what is asked, and what the answers mean.

pub(crate) mod challenge;
pub(crate) mod classify;
pub(crate) mod client;
mod codes;
mod combine;
pub(crate) mod manifest;
pub(crate) mod reply;
pub(crate) mod session;
pub(crate) mod tag_list;
pub(crate) mod tags;
pub(crate) mod version;

mod askers;
mod confirm;
mod hedge;
mod missing;
mod proof;
mod realms;
mod reference;
mod token;
