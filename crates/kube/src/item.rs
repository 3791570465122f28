//! One object of a list or a watch, parsed by itself: an object that cannot be read spoils no page and no stream.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::metadata::without_managed_fields;

mod fault;

/// An object of type `T`, or the name of one that cannot be read as such.
///
/// Its JSON is borrowed from the page or the event and parsed at once: nothing but `T` is kept. It is deserialized
/// from text alone, as the client does.
#[derive(Debug, Clone)]
pub enum Item<T> {
    /// The object.
    Read(T),
    /// An object that is stored and cannot be read.
    Unreadable(Box<Unreadable>),
}

/// An object that is stored and cannot be read.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// The object.
    pub identity: Identity,
    /// The fault and its place in the object, without the values that are there.
    pub fault: String,
    /// The metadata that the client needs of every object: its version.
    metadata: ObjectMeta,
}

/// The identity of an object. A part that the object does not have is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// Its namespace; none of objects of the whole cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl<T> Item<T> {
    /// Returns what the function makes of the object.
    ///
    /// # Errors
    /// The object cannot be read, or the function fails.
    pub fn and_then<U>(self, parse: impl FnOnce(T) -> Result<U, Unreadable>) -> Result<U, Unreadable> {
        match self {
            Self::Read(object) => parse(object),
            Self::Unreadable(unreadable) => Err(*unreadable),
        }
    }

    /// The object, if it can be read.
    pub fn read(self) -> Option<T> {
        match self {
            Self::Read(object) => Some(object),
            Self::Unreadable(_) => None,
        }
    }
}

impl<T: Resource> Item<T> {
    /// Returns the identity of the object.
    pub fn identity(&self) -> Identity {
        match self {
            Self::Read(object) => Identity::of(object.meta()),
            Self::Unreadable(unreadable) => unreadable.identity.clone(),
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
        Ok(match serde_json::from_str(text) {
            Ok(object) => Self::Read(object),
            Err(error) => Self::Unreadable(Box::new(Unreadable::new(text, &error))),
        })
    }
}

impl Unreadable {
    /// Returns an object whose metadata can be read and whose field cannot: it has another type than it should have at
    /// this line and column of the field.
    pub(crate) fn of_field(metadata: ObjectMeta, name: &str, json: &str, line: usize, column: usize) -> Self {
        let fault = fault::in_field(name, json, line, column);
        Self { identity: Identity::of(&metadata), fault, metadata }
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
        Self { identity: Identity::of(&metadata), fault: fault::describe(text, error), metadata }
    }
}

/// The name of any object, if it has one.
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

/// Deserializes what may be anything: what is not of the type is the default. It passes over any depth of nesting.
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
        match self {
            Self::Read(object) => object.meta(),
            Self::Unreadable(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Read(object) => object.meta_mut(),
            Self::Unreadable(unreadable) => &mut unreadable.metadata,
        }
    }
}

/// An object of one of Kubernetes' own types, whose metadata is read by ours. It is parsed twice: for single objects,
/// not for lists.
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
