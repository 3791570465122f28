//! What the leader writes, call by call.

mod arming;
mod baseline;
mod break_glass;
mod certificates;
mod disarming;
mod leader;
mod pin_keys;
mod policy_status;
mod replicas;
mod standings;
mod webhook_config;
