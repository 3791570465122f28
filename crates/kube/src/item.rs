//! One object of a list or a watch, parsed on its own, so that an object that cannot be read breaks neither
//! the page nor the stream.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::budget::OverBudget;
use crate::metadata::without_managed_fields;

mod fault;

/// An object of type `T`, or the identity and the fault of an object that cannot be parsed as `T`.
///
/// The JSON is borrowed from the page or the event and parsed at once, so only `T` is kept. It can be
/// deserialized from text only, which is what the client does.
#[derive(Debug, Clone)]
pub struct Item<T> {
    /// The object, if it can be read.
    object: Result<T, Box<Unreadable>>,
    /// Length of the object's JSON in bytes.
    bytes: usize,
}

/// An object that is stored but cannot be read.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// The identity of the object.
    pub identity: Identity,
    /// The fault and its place in the object, without the values that are there.
    pub fault: String,
    /// True if the object can be read as soon as other objects leave room for it.
    pub(crate) awaits_room: bool,
    /// The metadata that the client needs of every object, such as its version.
    metadata: ObjectMeta,
}

/// The identity of an object. A part that the object lacks is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The namespace; none for cluster-scoped objects.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// The object's UID.
    pub uid: String,
}

impl<T> Item<T> {
    /// Returns the result of the function for the object.
    ///
    /// # Errors
    /// Fails if the object cannot be read or the function fails.
    pub fn and_then<U>(
        self,
        parse: impl FnOnce(T) -> Result<U, Box<Unreadable>>,
    ) -> Result<U, Box<Unreadable>> {
        self.object.and_then(parse)
    }

    /// Returns the length of the object's JSON in bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the object, if it can be read.
    pub fn read(self) -> Option<T> {
        self.object.ok()
    }
}

impl<T: Resource> Item<T> {
    /// Returns the identity of the object.
    pub fn identity(&self) -> Identity {
        match &self.object {
            Ok(object) => Identity::of(object.meta()),
            Err(unreadable) => unreadable.identity.clone(),
        }
    }
}

impl Identity {
    fn of(metadata: &ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Item<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(from)?.get();
        let object = serde_json::from_str(text).map_err(|error| Box::new(Unreadable::new(text, &error)));
        Ok(Self { object, bytes: text.len() })
    }
}

impl Unreadable {
    /// Returns an object whose metadata can be read and whose field `name` cannot: the field's JSON has a
    /// value of the wrong type at this line and column.
    pub(crate) fn of_field(
        metadata: &ObjectMeta,
        name: &str,
        json: &str,
        line: usize,
        column: usize,
    ) -> Self {
        Self::with_identity(metadata, fault::in_field(name, json, line, column))
    }

    /// Returns an object that can be read, but for which the stores have no room.
    pub(crate) fn without_room(metadata: &ObjectMeta, refused: OverBudget) -> Self {
        let unreadable = Self::with_identity(metadata, refused.to_string());
        Self { awaits_room: refused.may_end(), ..unreadable }
    }

    fn with_identity(metadata: &ObjectMeta, fault: String) -> Self {
        let identity = Identity::of(metadata);
        Self { identity, fault, awaits_room: false, metadata: ObjectMeta::default() }
    }

    fn new(text: &str, error: &serde_json::Error) -> Self {
        let Outline { metadata: named } = serde_json::from_str(text).unwrap_or_default();
        let metadata = ObjectMeta {
            namespace: named.namespace,
            name: named.name,
            uid: named.uid,
            resource_version: named.resource_version,
            ..ObjectMeta::default()
        };
        Self {
            identity: Identity::of(&metadata),
            fault: fault::describe(text, error),
            awaits_room: false,
            metadata,
        }
    }
}

/// The metadata of an object of any shape, as far as it identifies the object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outline {
    #[serde(deserialize_with = "or_nothing")]
    metadata: Named,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Named {
    #[serde(deserialize_with = "or_nothing")]
    namespace: Option<String>,
    #[serde(deserialize_with = "or_nothing")]
    name: Option<String>,
    #[serde(deserialize_with = "or_nothing")]
    uid: Option<String>,
    #[serde(deserialize_with = "or_nothing")]
    resource_version: Option<String>,
}

/// Deserializes a value of any type and any depth of nesting. A value of the wrong type becomes the default.
pub(crate) fn or_nothing<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: Default + DeserializeOwned,
    D: Deserializer<'de>,
{
    let raw = <Box<RawValue>>::deserialize(from)?;
    Ok(serde_json::from_str(raw.get()).unwrap_or_default())
}

impl<T: Resource> Resource for Item<T> {
    type DynamicType = T::DynamicType;
    type Scope = T::Scope;

    fn kind(kind: &T::DynamicType) -> Cow<'_, str> {
        T::kind(kind)
    }

    fn group(kind: &T::DynamicType) -> Cow<'_, str> {
        T::group(kind)
    }

    fn version(kind: &T::DynamicType) -> Cow<'_, str> {
        T::version(kind)
    }

    fn plural(kind: &T::DynamicType) -> Cow<'_, str> {
        T::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.object {
            Ok(object) => object.meta(),
            Err(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.object {
            Ok(object) => object.meta_mut(),
            Err(unreadable) => &mut unreadable.metadata,
        }
    }
}

/// An object of one of Kubernetes' own types, without its managed fields. It is parsed twice, so it is used
/// for single objects and not for lists.
#[derive(Debug, Clone)]
pub struct Whole<K>(pub K);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Whole<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut parts: BTreeMap<String, Box<RawValue>> = Deserialize::deserialize(from)?;
        if let Some(metadata) = parts.get_mut("metadata") {
            let mut text = serde_json::Deserializer::from_str(metadata.get());
            let slim = without_managed_fields(&mut text).map_err(D::Error::custom)?;
            *metadata = to_raw_value(&slim).map_err(D::Error::custom)?;
        }
        let text = serde_json::to_string(&parts).map_err(D::Error::custom)?;
        serde_json::from_str(&text).map(Self).map_err(D::Error::custom)
    }
}

impl<K: Resource> Resource for Whole<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(kind: &K::DynamicType) -> Cow<'_, str> {
        K::kind(kind)
    }

    fn group(kind: &K::DynamicType) -> Cow<'_, str> {
        K::group(kind)
    }

    fn version(kind: &K::DynamicType) -> Cow<'_, str> {
        K::version(kind)
    }

    fn plural(kind: &K::DynamicType) -> Cow<'_, str> {
        K::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

#[cfg(test)]
mod tests;
