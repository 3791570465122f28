//! What the leader writes, call by call.

mod certificates;
mod leader;
mod webhook_config;
