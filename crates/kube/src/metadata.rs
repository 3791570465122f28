//! The metadata of stored objects, as far as tagpin reads it. `managedFields` is left out: anybody who may
//! patch an object can put a time there that no parser can read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::{Deserialize, Deserializer};

/// The part of an object's metadata that is parsed.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<String>,
}

/// Deserializes metadata without `managedFields`, for `#[serde(deserialize_with = "…")]`.
pub(crate) fn without_managed_fields<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let read: Option<Metadata> = Deserialize::deserialize(from)?;
    let read = read.unwrap_or_default();
    Ok(ObjectMeta {
        name: read.name,
        namespace: read.namespace,
        uid: read.uid,
        resource_version: read.resource_version,
        generation: read.generation,
        labels: read.labels,
        annotations: read.annotations,
        owner_references: read.owner_references,
        finalizers: read.finalizers,
        creation_timestamp: read.creation_timestamp,
        deletion_timestamp: read.deletion_timestamp.map(|time| Time(far(&time))),
        ..ObjectMeta::default()
    })
}

/// Returns the time of a deletion. A time that cannot be parsed, such as one beyond the supported years,
/// becomes the latest supported time, because only the fact of the deletion counts.
fn far(time: &str) -> Timestamp {
    time.parse().unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(metadata: Value) -> ObjectMeta {
        without_managed_fields(metadata).unwrap()
    }

    #[test]
    fn managed_fields_are_never_looked_at() {
        let hostile = json!({ "name": "a", "managedFields": [{ "time": "9999-12-31T23:59:59Z" }, 5, null] });
        let read = read(hostile);
        assert_eq!((read.name.as_deref(), read.managed_fields), (Some("a"), None));
    }

    #[test]
    fn a_deletion_in_a_year_that_nobody_counts_is_a_deletion() {
        for time in ["11532-01-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
            assert_eq!(
                read(json!({ "deletionTimestamp": time })).deletion_timestamp.unwrap().0,
                Timestamp::MAX
            );
        }
        let near = read(json!({ "deletionTimestamp": "2026-11-25T12:00:00Z" })).deletion_timestamp.unwrap();
        assert_eq!(near.0.to_string(), "2026-11-25T12:00:00Z");
        assert_eq!(read(json!({ "deletionTimestamp": null })).deletion_timestamp, None);
    }

    #[test]
    fn no_metadata_is_empty_metadata() {
        assert_eq!(read(Value::Null), ObjectMeta::default());
    }
}
