//! What is read of an object's metadata.

use crate::admission::json::{Read, Reader, Stopped, Text, once, once_or_null, once_text};
use crate::cluster::object::ControllerRef;
use crate::domain::original::ANNOTATION;
use crate::domain::policy::Labels;
use crate::k8s::canary;

/// The annotation that the kubelet gives the mirrors of its static pods.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels of one object; more are nobody's.
const LABEL_LIMIT: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Metadata<'a> {
    /// The object has metadata.
    pub(crate) is_there: bool,
    name: Option<Text<'a>>,
    generate_name: Option<Text<'a>>,
    uid: Option<Text<'a>>,
    labels: Option<WrittenLabels<'a>>,
    annotations: Option<Annotations<'a>>,
    being_deleted: bool,
    controller: Option<ControllerRef>,
}

impl<'a> Metadata<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let (mut name, mut generate_name, mut uid, mut labels) = (None, None, None, None);
        let (mut annotations, mut deleted, mut owners) = (None, None, None);
        reader.object(|reader, key| match key {
            "name" => once_or_null(reader, &mut name, Reader::text),
            "generateName" => once_or_null(reader, &mut generate_name, Reader::text),
            "uid" => once_or_null(reader, &mut uid, Reader::text),
            "labels" => once_or_null(reader, &mut labels, WrittenLabels::read),
            "annotations" => once_or_null(reader, &mut annotations, Annotations::read),
            "deletionTimestamp" => once_or_null(reader, &mut deleted, Reader::text),
            "ownerReferences" => once_or_null(reader, &mut owners, read_controller),
            _ => reader.pass(),
        })?;
        Ok(Self {
            is_there: true,
            name: name.flatten(),
            generate_name: generate_name.flatten(),
            uid: uid.flatten(),
            labels: labels.flatten(),
            annotations: annotations.flatten(),
            being_deleted: deleted.flatten().is_some(),
            controller: owners.flatten().flatten(),
        })
    }

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
        self.being_deleted
    }

    pub(crate) const fn labels(&self) -> Option<&WrittenLabels<'a>> {
        self.labels.as_ref()
    }

    pub(crate) const fn annotations(&self) -> Option<&Annotations<'a>> {
        self.annotations.as_ref()
    }

    pub(crate) const fn controller(&self) -> Option<&ControllerRef> {
        self.controller.as_ref()
    }
}

/// The labels of a template's metadata: nothing else counts there.
pub(crate) fn only_labels<'a>(reader: &mut Reader<'a>) -> Read<Option<WrittenLabels<'a>>> {
    let mut labels = None;
    reader.object(|reader, key| match key {
        "labels" => once_or_null(reader, &mut labels, WrittenLabels::read),
        _ => reader.pass(),
    })?;
    Ok(labels.flatten())
}

/// Labels as they are written, sorted: the API server sends them so, and most policies do not ask for them.
#[derive(Debug, Default)]
pub(crate) struct WrittenLabels<'a>(Vec<(Text<'a>, Text<'a>)>);

impl<'a> WrittenLabels<'a> {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let mut read = Self::default();
        reader.texts(|key, value| match read.find(key.as_str()) {
            Err(at) if read.0.len() < LABEL_LIMIT => {
                read.0.insert(at, (key, value));
                Ok(())
            }
            _ => Err(Stopped),
        })?;
        Ok(read)
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(held, _)| held.as_str().cmp(key))
    }

    /// The value of a label.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.get(self.find(key).ok()?)?;
        Some(value.as_str())
    }

    /// As policies look at them.
    pub(crate) fn to_labels(&self) -> Labels {
        self.0.iter().map(|(key, value)| (key.as_str().to_owned(), value.as_str().to_owned())).collect()
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

impl<'a> Annotations<'a> {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let mut read = Self::default();
        reader.object(|reader, key| {
            let value = reader.text()?;
            match key {
                ANNOTATION => return once(&mut read.original, value),
                canary::ANNOTATION => read.canary = Some(value),
                MIRROR => read.mirror = true,
                _ => {}
            }
            Ok(())
        })?;
        Ok(read)
    }

    pub(crate) fn original(&self) -> Option<&str> {
        self.original.as_ref().map(Text::as_str)
    }

    pub(crate) fn canary(&self) -> Option<&str> {
        self.canary.as_ref().map(Text::as_str)
    }
}

/// The owner with `controller: true`.
fn read_controller(reader: &mut Reader<'_>) -> Read<Option<ControllerRef>> {
    let mut found = None;
    reader.list(|reader, _| {
        let (mut api_version, mut kind, mut name, mut uid, mut controller) = (None, None, None, None, None);
        reader.object(|reader, key| match key {
            "apiVersion" => once_text(reader, &mut api_version),
            "kind" => once_text(reader, &mut kind),
            "name" => once_text(reader, &mut name),
            "uid" => once_text(reader, &mut uid),
            "controller" => once_or_null(reader, &mut controller, Reader::boolean),
            _ => reader.pass(),
        })?;
        if controller.flatten() == Some(true) && found.is_none() {
            let [api_version, kind, name, uid] =
                [api_version, kind, name, uid].map(Option::unwrap_or_default);
            let owner = ControllerRef::new(api_version.as_str(), kind.as_str(), name.as_str(), uid.as_str());
            found = Some(owner);
        }
        Ok(())
    })?;
    Ok(found)
}
