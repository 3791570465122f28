//! What is read of a pod's spec: the lists of the slot table, and who pulls.

use std::marker::PhantomData;

use serde::Deserialize;

use crate::admission::json::{Keep, List, Text};
use crate::domain::requirement::SLOT_LIMIT;
use crate::domain::slot::{ImageSlot, SlotRole};

/// Pull secrets of one pod that are tried.
const SECRET_LIMIT: usize = 64;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodSpec<'a> {
    #[serde(borrow, default)]
    containers: Option<List<Slots<'a, Container<'a>>>>,
    #[serde(borrow, default)]
    init_containers: Option<List<Slots<'a, Container<'a>>>>,
    #[serde(borrow, default)]
    ephemeral_containers: Option<List<Slots<'a, Container<'a>>>>,
    #[serde(borrow, default)]
    volumes: Option<List<Slots<'a, Volume<'a>>>>,
    #[serde(borrow, default)]
    service_account_name: Option<Text<'a>>,
    #[serde(default)]
    image_pull_secrets: Option<List<Secrets>>,
}

impl PodSpec<'_> {
    pub(crate) fn pull_secrets(&self) -> &[String] {
        self.image_pull_secrets.as_ref().map_or(&[], |secrets| &secrets.0.0)
    }

    pub(crate) fn service_account(&self) -> &str {
        self.service_account_name.as_ref().map_or("", Text::as_str)
    }

    pub(crate) fn slots(&self) -> Vec<ImageSlot> {
        let of = |role| match role {
            SlotRole::Container => self.containers.as_ref().map(|list| &list.0.slots),
            SlotRole::InitContainer => self.init_containers.as_ref().map(|list| &list.0.slots),
            SlotRole::EphemeralContainer => self.ephemeral_containers.as_ref().map(|list| &list.0.slots),
            SlotRole::ImageVolume => self.volumes.as_ref().map(|list| &list.0.slots),
        };
        let slots = SlotRole::ALL.into_iter().flat_map(|role| {
            of(role).into_iter().flatten().map(move |slot| {
                let Slot { index, name, reference, never_pulled } = slot;
                ImageSlot::new(role, name.as_str(), *index, reference.as_str(), *never_pulled)
            })
        });
        slots.take(SLOT_LIMIT + 1).collect()
    }
}

/// The elements of one list that name an image.
#[derive(Debug)]
struct Slots<'a, E> {
    slots: Vec<Slot<'a>>,
    element: PhantomData<E>,
}

/// One element that names an image.
#[derive(Debug)]
struct Slot<'a> {
    index: usize,
    name: Text<'a>,
    reference: Text<'a>,
    never_pulled: bool,
}

/// An element of a list of the slot table.
trait Element<'a> {
    /// What names its image, if anything does.
    fn image(self) -> Option<Image<'a>>;
}

struct Image<'a> {
    name: Text<'a>,
    reference: Text<'a>,
    policy: Option<Text<'a>>,
}

impl<E> Default for Slots<'_, E> {
    fn default() -> Self {
        Self { slots: Vec::new(), element: PhantomData }
    }
}

impl<'de: 'a, 'a, E: Element<'a>> Keep<'de> for Slots<'a, E> {
    type Item = E;

    fn keep(&mut self, index: usize, element: E) -> Result<(), &'static str> {
        // An image may be left out of a template, for something else to fill in: there is nothing to judge.
        let image = element.image().filter(|image| !image.reference.as_str().is_empty());
        if let Some(Image { name, reference, policy }) = image {
            let never_pulled = policy.is_some_and(|policy| policy.as_str() == "Never");
            self.slots.push(Slot { index, name, reference, never_pulled });
        }
        Ok(())
    }

    /// One more than the limit is kept, so that somebody notices.
    fn is_full(&self) -> bool {
        self.slots.len() > SLOT_LIMIT
    }
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

impl<'a> Element<'a> for Container<'a> {
    fn image(self) -> Option<Image<'a>> {
        Some(Image { name: self.name, reference: self.image?, policy: self.image_pull_policy })
    }
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

impl<'a> Element<'a> for Volume<'a> {
    fn image(self) -> Option<Image<'a>> {
        let image = self.image?;
        Some(Image { name: self.name, reference: image.reference?, policy: image.pull_policy })
    }
}

/// Names of pull secrets.
#[derive(Debug, Default)]
struct Secrets(Vec<String>);

#[derive(Debug, Deserialize)]
struct LocalReference<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
}

impl<'de> Keep<'de> for Secrets {
    type Item = LocalReference<'de>;

    fn keep(&mut self, _: usize, secret: Self::Item) -> Result<(), &'static str> {
        if !secret.name.as_str().is_empty() {
            self.0.push(secret.name.as_str().to_owned());
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.0.len() >= SECRET_LIMIT
    }
}
