//! What only the leader writes: the status of policies, the baseline, the certificate, the lists of webhooks.
//!
//! It decides nothing about requests and is not needed to answer one: every replica does that from its own memory.

pub mod leader;

pub mod certificates;
pub mod webhook_config;

mod call;
