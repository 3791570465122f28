//! What is read of an object's metadata.

use serde::Deserialize;

use crate::admission::json::{Entries, Keep, List, Text};
use crate::cluster::object::ControllerRef;
use crate::domain::original::ANNOTATION;
use crate::domain::policy::Labels;
use crate::k8s::canary;

/// The annotation that the kubelet gives the mirrors of its static pods.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels of one object; more are nobody's.
const LABEL_LIMIT: usize = 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    generate_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    uid: Option<Text<'a>>,
    #[serde(default)]
    labels: Option<Entries<LabelMap>>,
    #[serde(borrow, default)]
    annotations: Option<Entries<Annotations<'a>>>,
    #[serde(borrow, default)]
    deletion_timestamp: Option<Text<'a>>,
    #[serde(default)]
    owner_references: Option<List<Controller>>,
}

impl<'a> Metadata<'a> {
    pub(crate) fn name(&self) -> String {
        let written = |name: &Option<Text<'_>>| {
            name.as_ref().map(Text::as_str).filter(|name| !name.is_empty()).map(str::to_owned)
        };
        written(&self.name)
            .or_else(|| Some(format!("{}*", written(&self.generate_name)?)))
            .unwrap_or_default()
    }

    pub(crate) fn uid(&self) -> &str {
        self.uid.as_ref().map_or("", Text::as_str)
    }

    pub(crate) const fn being_deleted(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    pub(crate) fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref().map(|labels| &labels.0.0)
    }

    pub(crate) fn annotations(&self) -> Option<&Annotations<'a>> {
        self.annotations.as_ref().map(|annotations| &annotations.0)
    }

    pub(crate) fn controller(&self) -> Option<&ControllerRef> {
        self.owner_references.as_ref()?.0.0.as_ref()
    }
}

/// The metadata of a template: its labels count, nothing else.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct OnlyLabels {
    #[serde(default)]
    labels: Option<Entries<LabelMap>>,
}

impl OnlyLabels {
    pub(crate) fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref().map(|labels| &labels.0.0)
    }
}

#[derive(Debug, Default)]
struct LabelMap(Labels);

impl<'de> Keep<'de> for LabelMap {
    type Item = (Text<'de>, Text<'de>);

    fn keep(&mut self, index: usize, (key, value): Self::Item) -> Result<(), &'static str> {
        if index >= LABEL_LIMIT {
            return Err("too many labels");
        }
        match self.0.insert(key.as_str().to_owned(), value.as_str().to_owned()) {
            None => Ok(()),
            Some(_) => Err("a label is there twice"),
        }
    }
}

/// The annotations that mean something to us.
#[derive(Debug, Default)]
pub(crate) struct Annotations<'a> {
    original: Option<Text<'a>>,
    canary: Option<Text<'a>>,
    /// The kubelet's mark of a static pod's mirror.
    pub(crate) mirror: bool,
}

impl Annotations<'_> {
    pub(crate) fn original(&self) -> Option<&str> {
        self.original.as_ref().map(Text::as_str)
    }

    pub(crate) fn canary(&self) -> Option<&str> {
        self.canary.as_ref().map(Text::as_str)
    }
}

impl<'de: 'a, 'a> Keep<'de> for Annotations<'a> {
    type Item = (Text<'de>, Text<'de>);

    fn keep(&mut self, _: usize, (key, value): Self::Item) -> Result<(), &'static str> {
        match key.as_str() {
            ANNOTATION => match self.original.replace(value) {
                None => Ok(()),
                Some(_) => Err("our annotation is there twice"),
            },
            canary::ANNOTATION => {
                self.canary = Some(value);
                Ok(())
            }
            MIRROR => {
                self.mirror = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The owner with `controller: true`.
#[derive(Debug, Default)]
struct Controller(Option<ControllerRef>);

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

impl<'de> Keep<'de> for Controller {
    type Item = OwnerReference<'de>;

    fn keep(&mut self, _: usize, owner: Self::Item) -> Result<(), &'static str> {
        if owner.controller == Some(true) && self.0.is_none() {
            let OwnerReference { api_version, kind, name, uid, .. } = &owner;
            self.0 =
                Some(ControllerRef::new(api_version.as_str(), kind.as_str(), name.as_str(), uid.as_str()));
        }
        Ok(())
    }
}
