//! The webhook in process, as the tests have it.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/it/support/webhook.rs"]
pub(crate) mod webhook;
