//! The small words that the schemas of our kinds are made of.

use schemars::{Schema, json_schema};
use serde_json::{Value, json};

/// One CEL validation: what must hold, and what to type when it does not.
pub(crate) fn rule(rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message })
}

/// An object whose fields nobody checks.
pub(crate) fn free_form(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-map-type": "atomic",
    })
}
