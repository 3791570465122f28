//! Finding the pod template in an object of any kind of the slot table, in one pass and without reading the rest.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::admission::json::Text;
use crate::admission::object::metadata::Metadata;

/// What was found of an object.
pub(crate) struct Found<'a> {
    pub(crate) metadata: Metadata<'a>,
    pub(crate) template: Option<&'a RawValue>,
}

/// Reads metadata, and finds the slice at a path that begins with `first`.
pub(crate) fn find<'a>(
    raw: &'a RawValue,
    first: &'static str,
    rest: &'static [&'static str],
) -> serde_json::Result<Found<'a>> {
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    deserializer.deserialize_map(Top { first, rest })
}

struct Top {
    first: &'static str,
    rest: &'static [&'static str],
}

impl<'de> Visitor<'de> for Top {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut metadata, mut template) = (None, None);
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match key.as_str() {
                "metadata" => once(&mut metadata, map.next_value::<Option<Metadata<'de>>>()?)?,
                key if key == self.first => {
                    once(&mut template, map.next_value_seed(At { path: self.rest })?)?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Found { metadata: metadata.flatten().unwrap_or_default(), template: template.flatten() })
    }
}

/// Finds what is at a path, if it is there and not null.
struct At {
    path: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for At {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.path {
            [] => Option::<&'de RawValue>::deserialize(deserializer),
            _ => deserializer.deserialize_option(self),
        }
    }
}

impl<'de> Visitor<'de> for At {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match self.path {
                [first, rest @ ..] if key.as_str() == *first => {
                    once(&mut found, map.next_value_seed(At { path: rest })?)?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found.flatten())
    }
}

/// A field that is there twice means two things; derived readers refuse it too.
fn once<T, E: Error>(field: &mut Option<T>, value: T) -> Result<(), E> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom("a field is there twice")),
    }
}
