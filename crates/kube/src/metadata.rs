//! The metadata of stored objects, as far as tagpin reads it. `managedFields` is left out: anybody who may
//! patch an object can put a time there that no parser can read. The API server limits neither the number of labels
//! nor that of owner references, so the stores keep only a small part of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use tagpin_domain::pin::REVISION_LABELS;
use tagpin_domain::workload::{LabelSet, Labels};
use tagpin_domain::{mark, original};

/// Maximum number of bytes of the labels of one object that are kept, keys and values.
pub(crate) const LABELS: usize = 8 * 1024;
/// Maximum number of bytes of all annotations of an object, which is the API server's own limit.
const ANNOTATIONS: usize = 256 * 1024;

/// The part of an object's metadata that the stores use: the identity, the version, the labels up to a limit, the
/// annotations of tagpin's pins and the controller.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    metadata: ObjectMeta,
    labels_cut: bool,
}

impl Kept {
    /// Returns the labels that are kept.
    pub(crate) fn label_set(&self) -> LabelSet {
        LabelSet { known: self.metadata.labels.clone().unwrap_or_default(), whole: !self.labels_cut }
    }

    /// Returns the metadata without what the stores do not use.
    #[must_use]
    pub fn into_metadata(self) -> ObjectMeta {
        self.metadata
    }
}

impl Deref for Kept {
    type Target = ObjectMeta;

    fn deref(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl DerefMut for Kept {
    fn deref_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Labels of one object, up to a number of bytes.
#[derive(Debug, Default)]
pub(crate) struct KeptLabels {
    pub(crate) labels: Labels,
    /// True if labels were left out.
    pub(crate) cut: bool,
    bytes: usize,
}

impl KeptLabels {
    /// Adds a label if there is room for it. The labels that tell revisions apart always have room, because the pods of
    /// two revisions must never count as those of one.
    pub(crate) fn add(&mut self, key: &str, value: &str, limit: usize) {
        let bytes = self.bytes.saturating_add(key.len()).saturating_add(value.len());
        if bytes <= limit || (REVISION_LABELS.contains(&key) && value.len() <= limit) {
            self.bytes = bytes;
            self.labels.insert(key.to_owned(), value.to_owned());
        } else {
            self.cut = true;
        }
    }
}

/// Deserializes metadata and keeps at most `LIMIT` bytes of labels, for `#[serde(deserialize_with = "…")]`.
pub(crate) fn kept<'de, D: Deserializer<'de>, const LIMIT: usize>(from: D) -> Result<Kept, D::Error> {
    let read = Option::<Part<Limited<LIMIT>>>::deserialize(from)?.unwrap_or_default();
    let KeptLabels { labels, cut: labels_cut, .. } = read.labels.unwrap_or_default().0;
    let metadata = ObjectMeta {
        name: read.name,
        namespace: read.namespace,
        uid: read.uid,
        resource_version: read.resource_version,
        generation: read.generation,
        labels: Some(labels).filter(|labels| !labels.is_empty()),
        annotations: read.annotations.map(|Ours(annotations)| annotations),
        owner_references: read.owner_references.and_then(|Controller(owner)| Some(vec![owner?])),
        creation_timestamp: read.creation_timestamp,
        deletion_timestamp: read.deletion_timestamp.map(|time| Time(far(&time))),
        ..ObjectMeta::default()
    };
    Ok(Kept { metadata, labels_cut })
}

/// The part of an object's metadata that the stores use.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Part<L> {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    labels: Option<L>,
    annotations: Option<Ours>,
    owner_references: Option<Controller>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<String>,
}

/// Labels of which at most `LIMIT` bytes are kept.
#[derive(Debug, Default)]
struct Limited<const LIMIT: usize>(KeptLabels);

/// The annotations of tagpin's pins.
#[derive(Debug, Default)]
struct Ours(BTreeMap<String, String>);

/// The first owner with `controller: true`.
#[derive(Debug, Default)]
struct Controller(Option<OwnerReference>);

impl<'de, const LIMIT: usize> Deserialize<'de> for Limited<LIMIT> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Self::default())
    }
}

impl<'de, const LIMIT: usize> Visitor<'de> for Limited<LIMIT> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((key, value)) = map.next_entry::<Cow<'_, str>, Cow<'_, str>>()? {
            self.0.add(&key, &value, LIMIT);
        }
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Ours {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for Ours {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if [original::ANNOTATION, mark::ANNOTATION].contains(&&*key) {
                let value = map.next_value::<String>()?;
                // The API server stores no larger one.
                if value.len() <= ANNOTATIONS {
                    self.0.insert(key.into_owned(), value);
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Controller {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Self::default())
    }
}

impl<'de> Visitor<'de> for Controller {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut owners: A) -> Result<Self, A::Error> {
        while let Some(owner) = owners.next_element::<OwnerReference>()? {
            if self.0.is_none() && owner.controller == Some(true) {
                self.0 = Some(owner);
            }
        }
        Ok(self)
    }
}

/// The part of a single object's metadata that is parsed.
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

/// Deserializes the metadata of a single object without `managedFields`, for `#[serde(deserialize_with = "…")]`.
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

    fn reduced<const LIMIT: usize>(metadata: &Value) -> Kept {
        kept::<_, LIMIT>(&mut serde_json::Deserializer::from_str(&metadata.to_string())).unwrap()
    }

    #[test]
    fn of_many_labels_the_first_are_kept_and_those_of_revisions() {
        let labels: BTreeMap<_, _> = (0..127_000).map(|number| (format!("k{number:06}"), "v")).collect();
        let mut metadata = json!({ "name": "a", "labels": labels });
        let reduced_to = |metadata: &Value| reduced::<LABELS>(metadata);
        let read = reduced_to(&metadata);
        let kept = read.labels.clone().unwrap();
        assert!(!read.label_set().whole && kept.len() == LABELS / "k000000v".len(), "{}", kept.len());
        assert!(kept.contains_key("k000000"));
        for label in REVISION_LABELS {
            metadata["labels"][label] = json!("5d4f");
        }
        let read = reduced_to(&metadata);
        for label in REVISION_LABELS {
            assert_eq!(read.labels.as_ref().unwrap()[label], "5d4f");
        }
        // A hostile value of such a label has no room of its own.
        metadata["labels"][REVISION_LABELS[0]] = json!("5".repeat(LABELS + 1));
        assert!(!reduced_to(&metadata).labels.as_ref().unwrap().contains_key(REVISION_LABELS[0]));

        let few = reduced_to(&json!({ "labels": { "app": "web" } }));
        assert!(few.label_set().whole && few.labels.as_ref().unwrap()["app"] == "web");
        assert!(reduced_to(&json!({ "labels": null })).label_set().whole);
    }

    #[test]
    fn only_the_controller_and_our_annotations_are_kept() {
        let owner = |name: &str, controller: Value| json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": name, "controller": controller });
        let owners: Vec<_> = (0..1000).map(|number| owner(&number.to_string(), Value::Null)).collect();
        let owners = [owners, vec![owner("it", json!(true)), owner("second", json!(true))]].concat();
        let annotations =
            json!({ original::ANNOTATION: "{}", mark::ANNOTATION: "m", "big": "x".repeat(ANNOTATIONS) });
        let read = reduced::<LABELS>(
            &json!({ "ownerReferences": owners, "annotations": annotations, "finalizers": ["f"] }),
        );
        let names: Vec<_> = read.owner_references.iter().flatten().map(|owner| &*owner.name).collect();
        assert_eq!(names, ["it"]);
        let keys: Vec<_> = read.annotations.iter().flatten().map(|(key, _)| &**key).collect();
        assert_eq!(keys, [mark::ANNOTATION, original::ANNOTATION]);
        assert_eq!(read.finalizers, None);
        let large = json!({ "annotations": { original::ANNOTATION: "x".repeat(ANNOTATIONS + 1) } });
        assert!(reduced::<LABELS>(&large).annotations.clone().unwrap().is_empty());
    }

    #[test]
    fn metadata_of_another_shape_is_not_read() {
        for (metadata, place) in [
            (json!({ "labels": { "a": 5 } }), "expected a string"),
            (json!({ "labels": [] }), "expected a map"),
            (json!({ "annotations": "a" }), "expected a map"),
            (json!({ "ownerReferences": {} }), "expected a sequence"),
            (json!({ "ownerReferences": [5] }), "expected"),
            (json!({ "generation": "x" }), "expected i64"),
        ] {
            let text = metadata.to_string();
            let error = kept::<_, LABELS>(&mut serde_json::Deserializer::from_str(&text)).unwrap_err();
            assert!(error.to_string().contains(place), "{text}: {error}");
        }
    }
}
