//! The webhook in process, from the support of the tests.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/it/support/webhook.rs"]
pub(crate) mod webhook;
