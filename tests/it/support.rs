//! Shared parts of the tests: servers, processes, and a webhook in process with a registry that answers from a table.

pub(crate) mod api_server;
pub(crate) mod serving;
pub(crate) mod webhook;
