//! The operator's configuration of registries, as files say it and as it is meant.

pub(crate) mod current;
pub(crate) mod file;
pub(crate) mod helper;
pub(crate) mod registries;
pub(crate) mod user_config;

mod defaults;
mod entry;
mod mirrors;
mod reader;
mod text;
