//! What the leader writes, call by call.

mod certificates;
mod leader;
mod policy_status;
mod standings;
mod webhook_config;
