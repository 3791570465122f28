//! Requests and answers over HTTP: connections, the addresses that may be reached, redirects and retries.

pub(crate) mod guard;
pub(crate) mod health;
pub(crate) mod message;
pub(crate) mod redirect;
pub(crate) mod retry;
pub(crate) mod transport;
