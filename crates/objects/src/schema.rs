//! The parts that the schemas of tagpin's kinds share.

use schemars::{Schema, json_schema};
use serde_json::{Value, json};

/// Returns a CEL validation: the rule that must hold, and the message that says what to type otherwise.
pub(crate) fn rule(rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message })
}

/// Returns the schema of an object whose fields are not checked.
pub(crate) fn free_form(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-map-type": "atomic",
    })
}
