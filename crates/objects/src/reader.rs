//! Reads the part of an object that policies depend on, borrowed from its JSON: the metadata, and the pod
//! template at the place that the table of kinds gives. This module does not depend on policies.
//!
//! An object is unreadable if a field occurs twice or if there are too many slots. The kept part of a hostile
//! object therefore takes little more memory than its bytes.

mod metadata;
mod orphaned;
mod pod_spec;
mod template;

use tagpin_json::{Malformed, Raw, Read, Reader, Text, once_or_null};

use tagpin_domain::mark::Marks;
use tagpin_domain::original::Originals;
use tagpin_domain::patch::{ANNOTATIONS_LIMIT, Present};
use tagpin_domain::pin::REVISION_LABELS;
use tagpin_domain::unreadable::Unreadable;
use tagpin_domain::workload::{ControllerRef, LabelSet, Workload};

use crate::kinds::{Kinds, Row};

pub use metadata::Wanted;
pub use orphaned::only_loses_owners;
pub use template::Template;

use metadata::{Annotations, Metadata, WrittenLabels};
use pod_spec::PodSpec;

/// An object of a kind of the table, reduced to the part that is read.
#[derive(Debug)]
pub struct Document<'a> {
    /// The kind of the object.
    pub row: &'static Row,
    metadata: Option<Metadata<'a>>,
    template: Template<'a>,
}

/// The part of the path to its annotations that an object has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Neither metadata nor annotations.
    Nothing,
    /// Metadata without annotations.
    Metadata,
    /// Annotations.
    Annotations,
}

impl<'a> Document<'a> {
    /// Returns an object of which nothing is read yet.
    #[must_use]
    pub fn new(row: &'static Row) -> Self {
        Self { row, metadata: None, template: Template::default() }
    }

    /// Reads an object.
    ///
    /// # Errors
    /// Fails if a field has the wrong type or occurs twice, or if there are too many slots.
    pub fn parse(row: &'static Row, raw: Raw<'a>) -> Result<Box<Self>, Unreadable> {
        let mut object = Box::new(Self::new(row));
        match Reader::whole(raw.get(), |reader| object.read(reader)) {
            Ok(()) => Ok(object),
            Err(_) if object.template.spec.as_ref().is_some_and(PodSpec::has_too_many) => {
                Err(Unreadable::TooManySlots)
            }
            Err(Malformed { line, column }) => Err(Unreadable::Malformed { line, column }),
        }
    }

    /// Reads the object at the reader's position.
    ///
    /// # Errors
    /// Fails if a field has the wrong type or occurs twice, or if there are too many slots.
    pub fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        let Self { row, metadata, template } = self;
        let mut first = None;
        reader.object(&mut |reader, key| match (key, row.template) {
            ("metadata", _) => once_or_null(reader, metadata, Metadata::read),
            ("spec", []) => once_or_null(reader, &mut template.spec, PodSpec::read),
            (key, [wanted, rest @ ..]) if key == *wanted => {
                once_or_null(reader, &mut first, |(), reader| template.read_at(rest, reader))
            }
            _ => reader.pass(),
        })
    }

    /// Reads the metadata of an object, and leaves the rest out.
    ///
    /// # Errors
    /// Fails if a field of the metadata has the wrong type or occurs twice.
    pub fn parse_metadata(row: &'static Row, raw: Raw<'a>) -> Result<Box<Self>, Malformed> {
        let mut object = Box::new(Self::new(row));
        Reader::whole(raw.get(), |reader| {
            reader.object(&mut |reader, key| match key {
                "metadata" => once_or_null(reader, &mut object.metadata, Metadata::read),
                _ => reader.pass(),
            })
        })?;
        Ok(object)
    }

    /// Returns the owner with `controller: true`.
    #[must_use]
    pub fn controller(&self, kinds: &Kinds) -> Option<ControllerRef> {
        self.metadata.as_ref()?.owners.as_ref()?.controller(kinds)
    }

    /// Returns the name for logs. A name that the API server has still to generate ends in a star.
    #[must_use]
    pub fn name(&self) -> String {
        self.metadata.as_ref().map(Metadata::name).unwrap_or_default()
    }

    /// Returns the UID; empty before the object is stored.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.metadata.as_ref().map_or("", |metadata| Text::of(&metadata.uid))
    }

    fn annotations(&self) -> Option<&Annotations<'a>> {
        self.metadata.as_ref()?.annotations.as_ref().filter(|annotations| annotations.are_there)
    }

    /// Returns true if the object has the annotation of a static pod's mirror, which anybody can write.
    #[must_use]
    pub fn is_marked_mirror(&self) -> bool {
        self.annotations().is_some_and(|annotations| annotations.mirror)
    }

    /// Returns the node that the pod is bound to; empty if there is none yet.
    #[must_use]
    pub fn node_name(&self) -> &str {
        self.template.spec.as_ref().map_or("", PodSpec::node_name)
    }

    /// Returns the place where an annotation can be added. The API server sends no object without metadata.
    #[must_use]
    pub fn way(&self) -> Way {
        let metadata = self.metadata.as_ref().is_some_and(|metadata| metadata.is_there);
        match (self.annotations(), metadata) {
            (Some(_), _) => Way::Annotations,
            (None, true) => Way::Metadata,
            (None, false) => Way::Nothing,
        }
    }

    /// Returns tagpin's annotations as they are written. Only pods carry them.
    #[must_use]
    pub fn present(&self) -> Present<'_> {
        let Some(annotations) = self.annotations().filter(|_| self.row.is_pod()) else {
            return Present::default();
        };
        let [original, mark] =
            [&annotations.original, &annotations.mark].map(|value| value.as_ref().map(Text::as_str));
        Present { original, mark, others: annotations.others }
    }

    /// Returns the nonce of a canary.
    #[must_use]
    pub fn canary(&self) -> Option<&str> {
        self.annotations()?.canary.as_ref().map(Text::as_str)
    }

    /// Returns the content of tagpin's annotations: the slots that tagpin pinned, and the marks of these
    /// pins. An annotation that is larger than the API server accepts counts as empty.
    fn ours(&self) -> (Originals, Marks) {
        let Present { original, mark, .. } = self.present();
        let [original, mark] =
            [original, mark].map(|written| written.filter(|written| written.len() <= ANNOTATIONS_LIMIT));
        (original.map(Originals::parse).unwrap_or_default(), mark.map(Marks::parse).unwrap_or_default())
    }

    /// Returns true if both objects have the same template, byte by byte. The API server encodes both in the
    /// same way.
    #[must_use]
    pub fn has_template_of(&self, other: &Self) -> bool {
        match (self.template.raw, other.template.raw) {
            (Some(mine), Some(theirs)) => mine.get() == theirs.get(),
            _ => false,
        }
    }

    /// Returns the object as a workload of this namespace, with the wanted labels.
    #[must_use]
    pub fn workload(&self, kinds: &Kinds, namespace: &str, wanted: Wanted<'_>) -> Workload {
        let (originals, marks) = self.ours();
        let controller = self.controller(kinds);
        let revision_hash = match &controller {
            Some(_) if self.row.is_pod() => REVISION_LABELS.into_iter().find_map(|label| self.label(label)),
            _ => None,
        };
        Workload {
            uid: self.uid().to_owned(),
            labels: LabelSet::whole(
                self.written_labels().map(|written| written.of(wanted)).unwrap_or_default(),
            ),
            controller,
            revision_hash: Text::of(&revision_hash).to_owned(),
            service_account: self.template.service_account().to_owned(),
            pull_secrets: self.template.pull_secrets().to_vec(),
            slots: self.template.slots(self.row),
            originals,
            marks,
            ..Workload::new(self.row.kind, self.row.is_pod(), namespace, &self.name())
        }
    }

    /// Returns the value of one label of the pods.
    fn label(&self, key: &str) -> Option<Text<'a>> {
        self.written_labels()?.get(key)
    }

    fn written_labels(&self) -> Option<&WrittenLabels<'a>> {
        match self.row.is_pod() {
            true => self.metadata.as_ref()?.labels.as_ref(),
            false => self.template.metadata.as_ref()?.labels.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests;
