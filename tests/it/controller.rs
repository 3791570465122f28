//! What the leader writes, call by call.

mod baseline;
mod certificates;
mod leader;
mod policy_status;
mod replicas;
mod standings;
mod webhook_config;
