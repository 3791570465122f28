//! Reads a pod's spec: the lists that name images, the service account and the pull secrets.

use tagpin_json::{Read, Reader, Stopped, Text, once_or_null, once_text, once_text_or_null};

use tagpin_domain::requirement::SLOT_LIMIT;
use tagpin_domain::slot::{PullPolicy, Role, Slot};

use crate::kinds::Row;

/// Maximum number of pull secrets of one pod that are used.
const SECRET_LIMIT: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct PodSpec<'a> {
    /// The lists, in the order of the roles.
    lists: [Option<Vec<Named<'a>>>; Role::ALL.len()],
    service_account: Option<Text<'a>>,
    pull_secrets: Option<Vec<String>>,
    runtime_class: Option<Text<'a>>,
    node_name: Option<Text<'a>>,
}

/// One element of a list that names an image.
#[derive(Debug)]
struct Named<'a> {
    index: usize,
    name: Text<'a>,
    reference: Text<'a>,
    pull: PullPolicy,
}

impl<'a> PodSpec<'a> {
    pub(crate) fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        reader.object(&mut |reader, key| match key {
            "serviceAccountName" => once_text_or_null(reader, &mut self.service_account),
            "nodeName" => once_text_or_null(reader, &mut self.node_name),
            "runtimeClassName" => once_text_or_null(reader, &mut self.runtime_class),
            "imagePullSecrets" => once_or_null(reader, &mut self.pull_secrets, secrets),
            _ => match Role::ALL.into_iter().zip(&mut self.lists).find(|(role, _)| role.list() == key) {
                Some((role, list)) => once_or_null(reader, list, |list, reader| slots(list, role, reader)),
                None => reader.pass(),
            },
        })?;
        if self.has_too_many() { Err(Stopped) } else { Ok(()) }
    }

    /// Returns true if there are more slots than the limit. Reading has stopped there.
    pub(crate) fn has_too_many(&self) -> bool {
        self.lists.iter().flatten().map(Vec::len).sum::<usize>() > SLOT_LIMIT
    }

    pub(crate) fn pull_secrets(&self) -> &[String] {
        self.pull_secrets.as_deref().unwrap_or_default()
    }

    pub(crate) fn service_account(&self) -> &str {
        Text::of(&self.service_account)
    }

    pub(crate) fn node_name(&self) -> &str {
        Text::of(&self.node_name)
    }

    pub(crate) fn slots(&self, row: &Row) -> Vec<Slot> {
        let all = Role::ALL.into_iter().zip(&self.lists);
        let runtime_class = !Text::of(&self.runtime_class).is_empty();
        let slots = all.flat_map(|(role, slots)| {
            slots.iter().flatten().map(move |slot| {
                let Named { index, name, reference, pull } = slot;
                Slot {
                    runtime_class: runtime_class && role != Role::ImageVolume,
                    ..Slot::new(row.place(role, name.as_str(), *index), reference.as_str(), *pull)
                }
            })
        });
        slots.collect()
    }
}

/// Reads the elements of one list that name an image.
fn slots<'a>(slots: &mut Vec<Named<'a>>, role: Role, reader: &mut Reader<'a>) -> Read<()> {
    reader.list(&mut |reader, index| {
        // One slot more than the limit is kept, which shows why reading stopped.
        if slots.len() > SLOT_LIMIT {
            return Err(Stopped);
        }
        let mut element = Element::default();
        match role {
            Role::ImageVolume => element.read_volume(reader)?,
            _ => element.read_container(reader)?,
        }
        let Image { reference, policy } = element.image;
        let (name, reference) = (element.name.unwrap_or_default(), reference.unwrap_or_default());
        // A template may leave an image out, for something else to fill in. Then there is nothing to judge.
        if !reference.as_str().is_empty() {
            slots.push(Named { index, name, reference, pull: PullPolicy::of(Text::of(&policy)) });
        }
        Ok(())
    })
}

/// The part of a container or volume that is read.
#[derive(Default)]
struct Element<'a> {
    name: Option<Text<'a>>,
    image: Image<'a>,
}

/// The image of a container or volume.
#[derive(Default)]
struct Image<'a> {
    reference: Option<Text<'a>>,
    policy: Option<Text<'a>>,
}

impl<'a> Element<'a> {
    fn read_container(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        reader.object(&mut |reader, key| match key {
            "name" => once_text(reader, &mut self.name),
            "image" => once_text_or_null(reader, &mut self.image.reference),
            "imagePullPolicy" => once_text_or_null(reader, &mut self.image.policy),
            _ => reader.pass(),
        })
    }

    fn read_volume(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        let mut image = None;
        reader.object(&mut |reader, key| match key {
            "name" => once_text(reader, &mut self.name),
            "image" => once_or_null(reader, &mut image, Image::read),
            _ => reader.pass(),
        })?;
        self.image = image.unwrap_or_default();
        Ok(())
    }
}

impl<'a> Image<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        reader.object(&mut |reader, key| match key {
            "reference" => once_text_or_null(reader, &mut self.reference),
            "pullPolicy" => once_text_or_null(reader, &mut self.policy),
            _ => reader.pass(),
        })
    }
}

/// Reads the names of pull secrets.
fn secrets(secrets: &mut Vec<String>, reader: &mut Reader<'_>) -> Read<()> {
    reader.list(&mut |reader, _| {
        if secrets.len() >= SECRET_LIMIT {
            return reader.pass();
        }
        let mut name = None;
        reader.object(&mut |reader, key| match key {
            "name" => once_text(reader, &mut name),
            _ => reader.pass(),
        })?;
        secrets.extend(name.filter(|name| !name.as_str().is_empty()).map(|name| name.as_str().to_owned()));
        Ok(())
    })
}
