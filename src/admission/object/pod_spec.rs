//! What is read of a pod's spec: the lists of the slot table, and who pulls.

use crate::admission::json::{Read, Reader, Text, once_or_null, once_text};
use crate::domain::requirement::SLOT_LIMIT;
use crate::domain::slot::{ImageSlot, SlotRole};

/// Pull secrets of one pod that are tried.
const SECRET_LIMIT: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct PodSpec<'a> {
    /// In the order of the slot table.
    lists: [Vec<Slot<'a>>; SlotRole::ALL.len()],
    service_account: Text<'a>,
    pull_secrets: Vec<String>,
}

/// One element of a list that names an image.
#[derive(Debug)]
struct Slot<'a> {
    index: usize,
    name: Text<'a>,
    reference: Text<'a>,
    never_pulled: bool,
}

impl<'a> PodSpec<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let mut lists = SlotRole::ALL.map(|_| None);
        let (mut service_account, mut pull_secrets) = (None, None);
        reader.object(|reader, key| {
            let list = SlotRole::ALL.into_iter().zip(&mut lists).find(|(role, _)| role.list() == key);
            match (list, key) {
                (Some((role, list)), _) => once_or_null(reader, list, |reader| slots(reader, role)),
                (None, "serviceAccountName") => once_or_null(reader, &mut service_account, Reader::text),
                (None, "imagePullSecrets") => once_or_null(reader, &mut pull_secrets, secrets),
                _ => reader.pass(),
            }
        })?;
        Ok(Self {
            lists: lists.map(|list| list.flatten().unwrap_or_default()),
            service_account: service_account.flatten().unwrap_or_default(),
            pull_secrets: pull_secrets.flatten().unwrap_or_default(),
        })
    }

    pub(crate) fn pull_secrets(&self) -> &[String] {
        &self.pull_secrets
    }

    pub(crate) fn service_account(&self) -> &str {
        self.service_account.as_str()
    }

    pub(crate) fn slots(&self) -> Vec<ImageSlot> {
        let all = SlotRole::ALL.into_iter().zip(&self.lists);
        let slots = all.flat_map(|(role, slots)| {
            slots.iter().map(move |slot| {
                let Slot { index, name, reference, never_pulled } = slot;
                ImageSlot::new(role, name.as_str(), *index, reference.as_str(), *never_pulled)
            })
        });
        slots.take(SLOT_LIMIT + 1).collect()
    }
}

/// The elements of one list that name an image.
fn slots<'a>(reader: &mut Reader<'a>, role: SlotRole) -> Read<Vec<Slot<'a>>> {
    let mut slots = Vec::new();
    reader.list(|reader, index| {
        // One more than the limit is kept, so that somebody notices.
        if slots.len() > SLOT_LIMIT {
            return reader.pass();
        }
        let image = match role {
            SlotRole::ImageVolume => volume(reader)?,
            _ => container(reader)?,
        };
        // An image may be left out of a template, for something else to fill in: there is nothing to judge.
        slots.extend(image.filter(|image| !image.reference.as_str().is_empty()).map(|image| {
            let Image { name, reference, policy } = image;
            let never_pulled = policy.is_some_and(|policy| policy.as_str() == "Never");
            Slot { index, name, reference, never_pulled }
        }));
        Ok(())
    })?;
    Ok(slots)
}

/// What names the image of an element.
struct Image<'a> {
    name: Text<'a>,
    reference: Text<'a>,
    policy: Option<Text<'a>>,
}

fn container<'a>(reader: &mut Reader<'a>) -> Read<Option<Image<'a>>> {
    let (mut name, mut image, mut policy) = (None, None, None);
    reader.object(|reader, key| match key {
        "name" => once_text(reader, &mut name),
        "image" => once_or_null(reader, &mut image, Reader::text),
        "imagePullPolicy" => once_or_null(reader, &mut policy, Reader::text),
        _ => reader.pass(),
    })?;
    let name = name.unwrap_or_default();
    Ok(image.flatten().map(|reference| Image { name, reference, policy: policy.flatten() }))
}

fn volume<'a>(reader: &mut Reader<'a>) -> Read<Option<Image<'a>>> {
    let (mut name, mut image) = (None, None);
    reader.object(|reader, key| match key {
        "name" => once_text(reader, &mut name),
        "image" => once_or_null(reader, &mut image, |reader| {
            let (mut reference, mut policy) = (None, None);
            reader.object(|reader, key| match key {
                "reference" => once_or_null(reader, &mut reference, Reader::text),
                "pullPolicy" => once_or_null(reader, &mut policy, Reader::text),
                _ => reader.pass(),
            })?;
            Ok((reference.flatten(), policy.flatten()))
        }),
        _ => reader.pass(),
    })?;
    let Some((Some(reference), policy)) = image.flatten() else { return Ok(None) };
    Ok(Some(Image { name: name.unwrap_or_default(), reference, policy }))
}

/// Names of pull secrets.
fn secrets(reader: &mut Reader<'_>) -> Read<Vec<String>> {
    let mut secrets = Vec::new();
    reader.list(|reader, _| {
        if secrets.len() >= SECRET_LIMIT {
            return reader.pass();
        }
        let mut name = None;
        reader.object(|reader, key| match key {
            "name" => once_text(reader, &mut name),
            _ => reader.pass(),
        })?;
        secrets.extend(name.filter(|name| !name.as_str().is_empty()).map(|name| name.as_str().to_owned()));
        Ok(())
    })?;
    Ok(secrets)
}
