//! The generations of a policy that compile, those that do not, and the last good one in a status.

use std::sync::Arc;

use serde_json::{Map, Value};

use tagpin_domain::policy::{Policy, PolicyId};
use tagpin_objects::image_policy::{LastGood, PolicyError, PolicySpec, PolicyStatus};

/// Number of bytes for each byte of a spec's text: the text, and the compiled policy.
const SPEC: usize = 4;

/// The reason why a generation does not compile.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InvalidPolicy {
    /// The spec is not a JSON object.
    #[error("spec: is not an object")]
    NotAnObject,
    /// The spec cannot be read: a field has a value of another type.
    #[error("spec: {0}")]
    Unreadable(#[source] Arc<serde_json::Error>),
    /// A field has a value that does not compile.
    #[error(transparent)]
    Field(#[from] PolicyError),
    /// The stores have no room for the policy.
    #[error("{0}")]
    NoRoom(String),
}

/// A generation that compiles.
#[derive(Debug, Clone)]
pub struct Good {
    /// The generation.
    pub generation: i64,
    /// The compiled policy.
    pub policy: Arc<Policy>,
    /// The spec as written, as JSON.
    spec: Arc<str>,
}

impl Good {
    /// Compiles a spec, unless one of these generations of the same policy has it.
    pub(super) fn compile<S: PolicySpec>(
        id: &PolicyId,
        generation: i64,
        spec: Map<String, Value>,
        known: &[Option<&Self>],
    ) -> Result<Self, InvalidPolicy> {
        let spec = Value::Object(spec);
        let text = spec.to_string();
        if let Some(same) = known.iter().flatten().find(|known| *known.spec == *text) {
            return Ok(Self { generation, ..(*same).clone() });
        }
        let typed =
            serde_json::from_value::<S>(spec).map_err(|cause| InvalidPolicy::Unreadable(Arc::new(cause)))?;
        let policy = typed.compile(id.clone())?;
        Ok(Self { generation, policy: Arc::new(policy), spec: text.into() })
    }

    /// Returns about the number of bytes that the generation takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Policy>() + self.spec.len() * SPEC
    }

    /// Returns the spec as written.
    #[must_use]
    pub fn spec(&self) -> Map<String, Value> {
        // The text was written from such a map.
        serde_json::from_str(&self.spec).unwrap_or_default()
    }
}

/// Reads a status. Another version may have written it, and a field that this version cannot read must not hide the last
/// good generation: an invalid policy would be out of force.
pub(super) fn read_status(mut status: Value) -> PolicyStatus {
    let last_good = status.get_mut("lastGood").map(Value::take).and_then(read_last_good);
    let others = serde_json::from_value(status).unwrap_or_default();
    PolicyStatus { last_good, ..others }
}

/// Reads the last good generation, of which only the spec matters to what is in force.
fn read_last_good(mut written: Value) -> Option<LastGood> {
    let generation = written.get("generation").and_then(Value::as_i64).unwrap_or_default();
    match written.get_mut("spec").map(Value::take) {
        Some(Value::Object(spec)) => Some(LastGood { generation, spec }),
        _ => None,
    }
}
