//! The properties of a registry that are known before it is asked: its endpoints and their TLS settings.

pub(crate) mod cloud_host;
pub(crate) mod endpoint;
pub(crate) mod host;
pub(crate) mod network;
pub(crate) mod not_found;
pub(crate) mod proxy;
pub(crate) mod tls;
