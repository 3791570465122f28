//! What is known of a registry before it is asked: its endpoints and how connections to them are secured.

pub(crate) mod endpoint;
pub(crate) mod host;
pub(crate) mod tls;
