//! The part of an object that policies look at, borrowed from its raw slice: metadata, and the pod template where the
//! slot table says it is. It knows no policy.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::admission::review::Text;
use crate::cluster::object::ControllerRef;
use crate::domain::policy::Labels;
use crate::domain::slot::{ImageSlot, Kind, SlotRole};

/// What is read of an object.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    pub(crate) kind: Kind,
    metadata: Metadata<'a>,
    template: Template<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow, default)]
    uid: Option<Text<'a>>,
    #[serde(borrow, default)]
    labels: Option<BTreeMap<Text<'a>, Option<Text<'a>>>>,
    #[serde(borrow, default)]
    annotations: Option<HashMap<Text<'a>, Option<Text<'a>>>>,
    #[serde(borrow, default)]
    deletion_timestamp: Option<Text<'a>>,
    #[serde(borrow, default)]
    owner_references: Option<Vec<OwnerReference<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnerReference<'a> {
    #[serde(borrow, default)]
    api_version: Text<'a>,
    #[serde(borrow, default)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    uid: Text<'a>,
    #[serde(default)]
    controller: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
struct Template<'a> {
    #[serde(borrow, default)]
    metadata: Option<Metadata<'a>>,
    #[serde(borrow, default)]
    spec: Option<PodSpec<'a>>,
}

/// The lists of the slot table, and who pulls.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec<'a> {
    #[serde(borrow, default)]
    containers: Option<Vec<Container<'a>>>,
    #[serde(borrow, default)]
    init_containers: Option<Vec<Container<'a>>>,
    #[serde(borrow, default)]
    ephemeral_containers: Option<Vec<Container<'a>>>,
    #[serde(borrow, default)]
    volumes: Option<Vec<Volume<'a>>>,
    #[serde(borrow, default)]
    service_account_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    image_pull_secrets: Option<Vec<LocalReference<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    image: Option<Text<'a>>,
    #[serde(borrow, default)]
    image_pull_policy: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct Volume<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    image: Option<ImageVolume<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageVolume<'a> {
    #[serde(borrow, default)]
    reference: Option<Text<'a>>,
    #[serde(borrow, default)]
    pull_policy: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct LocalReference<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
}

impl<'a> Object<'a> {
    /// Reads an object of a kind of the slot table.
    pub(crate) fn parse(kind: Kind, raw: &'a RawValue) -> serde_json::Result<Self> {
        let Some((first, rest)) = kind.template_path().split_first() else {
            let Template { metadata, spec } = serde_json::from_str(raw.get())?;
            let metadata = metadata.unwrap_or_default();
            return Ok(Self { kind, metadata, template: Template { metadata: None, spec } });
        };
        let mut deserializer = serde_json::Deserializer::from_str(raw.get());
        let (metadata, template) = Top { first, rest }.deserialize(&mut deserializer)?;
        Ok(Self { kind, metadata, template: template.unwrap_or_default() })
    }

    pub(crate) fn uid(&self) -> &str {
        self.metadata.uid.as_ref().map_or("", Text::as_str)
    }

    pub(crate) fn being_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// An annotation of the object itself.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key)?.as_ref().map(Text::as_str)
    }

    pub(crate) fn has_annotations(&self) -> bool {
        self.metadata.annotations.is_some()
    }

    /// The owner with `controller: true`.
    pub(crate) fn controller(&self) -> Option<ControllerRef> {
        let owners = self.metadata.owner_references.as_ref()?;
        let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
        Some(ControllerRef::new(
            owner.api_version.as_str(),
            owner.kind.as_str(),
            owner.name.as_str(),
            owner.uid.as_str(),
        ))
    }

    /// Labels of the pod template, or of the pod.
    pub(crate) fn labels(&self) -> Labels {
        let metadata = match self.kind.template_path() {
            [] => Some(&self.metadata),
            _ => self.template.metadata.as_ref(),
        };
        let labels = metadata.and_then(|metadata| metadata.labels.as_ref());
        labels
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str().to_owned(), value.as_ref().map_or("", Text::as_str).to_owned()))
            .collect()
    }

    /// The pull secrets that the pod or template names, in its order.
    pub(crate) fn pull_secrets(&self) -> Vec<String> {
        let named = self.template.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
        named.map(|secret| secret.name.as_str().to_owned()).filter(|name| !name.is_empty()).collect()
    }

    /// The service account of the pods; none means `default`.
    pub(crate) fn service_account(&self) -> &str {
        let name = self.template.spec.as_ref().and_then(|spec| spec.service_account_name.as_ref());
        name.map(Text::as_str).filter(|name| !name.is_empty()).unwrap_or("default")
    }

    /// Every slot that names an image, in the order of the slot table.
    pub(crate) fn slots(&self) -> Vec<ImageSlot> {
        let mut slots = Vec::new();
        let Some(spec) = &self.template.spec else { return slots };
        for role in SlotRole::ALL {
            let containers = match role {
                SlotRole::Container => &spec.containers,
                SlotRole::InitContainer => &spec.init_containers,
                SlotRole::EphemeralContainer => &spec.ephemeral_containers,
                SlotRole::ImageVolume => {
                    slots.extend(volumes(spec));
                    continue;
                }
            };
            for (index, container) in containers.iter().flatten().enumerate() {
                // An image may be left out of a template, for something else to fill in: there is nothing to judge.
                let Some(image) =
                    container.image.as_ref().map(Text::as_str).filter(|image| !image.is_empty())
                else {
                    continue;
                };
                let never = is_never(container.image_pull_policy.as_ref());
                slots.push(ImageSlot::new(role, container.name.as_str(), index, image, never));
            }
        }
        slots
    }
}

fn volumes(spec: &PodSpec<'_>) -> impl Iterator<Item = ImageSlot> {
    spec.volumes.iter().flatten().enumerate().filter_map(|(index, volume)| {
        let image = volume.image.as_ref()?;
        let reference = image.reference.as_ref().map(Text::as_str).filter(|text| !text.is_empty())?;
        let never = is_never(image.pull_policy.as_ref());
        Some(ImageSlot::new(SlotRole::ImageVolume, volume.name.as_str(), index, reference, never))
    })
}

fn is_never(policy: Option<&Text<'_>>) -> bool {
    policy.is_some_and(|policy| policy.as_str() == "Never")
}

/// Reads metadata and the template at a path, in one pass over the object.
struct Top {
    first: &'static str,
    rest: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for Top {
    type Value = (Metadata<'de>, Option<Template<'de>>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top {
    type Value = (Metadata<'de>, Option<Template<'de>>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut metadata, mut template): (Option<Metadata<'de>>, _) = (None, None);
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match key.as_str() {
                "metadata" => metadata = map.next_value()?,
                key if key == self.first => template = map.next_value_seed(At { path: self.rest })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok((metadata.unwrap_or_default(), template))
    }
}

/// Reads what is at a path, if it is there and not null.
struct At {
    path: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for At {
    type Value = Option<Template<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for At {
    type Value = Option<Template<'de>>;

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
        match self.path {
            [] => Ok(Some(Template::deserialize(deserializer)?)),
            _ => deserializer.deserialize_map(self),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match self.path {
                [first, rest @ ..] if key.as_str() == *first => {
                    found = map.next_value_seed(At { path: rest })?
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}
