//! The part of an object that policies look at, borrowed from its raw slice: metadata, and the pod template where the
//! slot table says it is. It knows no policy.
//!
//! A field that is there twice makes an object unreadable, and so do more slots than anybody looks at: what is kept of a
//! hostile object takes little more memory than its bytes.

mod metadata;
mod path;
mod pod_spec;

use std::collections::BTreeSet;

use tagpin_json::{Malformed, Raw, Read, Reader, Text, once_or_null};

use tagpin_domain::mark::Marks;
use tagpin_domain::original::Originals;
use tagpin_domain::patch::{ANNOTATIONS_LIMIT, Present};
use tagpin_domain::policy::Labels;
use tagpin_domain::slot::{ImageSlot, Kind};
use tagpin_domain::unreadable::Unreadable;
use tagpin_kube::object::ControllerRef;

use metadata::{Annotations, Metadata, OnlyLabels, WrittenLabels};
use pod_spec::PodSpec;

/// What is read of an object.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    pub(crate) kind: Kind,
    metadata: Option<Metadata<'a>>,
    template: Template<'a>,
}

/// What an object has of the way to its annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Not even metadata.
    Nothing,
    /// Metadata without annotations.
    Metadata,
    /// Annotations.
    Annotations,
}

/// A pod template. Of a pod, which is its own, only the spec is here.
#[derive(Debug, Default)]
struct Template<'a> {
    /// As it is written.
    raw: Option<Raw<'a>>,
    metadata: Option<OnlyLabels<'a>>,
    spec: Option<PodSpec<'a>>,
}

impl<'a> Template<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        let raw = reader.kept(|reader| {
            reader.object(&mut |reader, key| match key {
                "metadata" => once_or_null(reader, &mut self.metadata, OnlyLabels::read),
                "spec" => once_or_null(reader, &mut self.spec, PodSpec::read),
                _ => reader.pass(),
            })
        })?;
        self.raw = Some(raw);
        Ok(())
    }
}

impl<'a> Object<'a> {
    /// An object of a kind of the slot table, of which nothing is read yet.
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, metadata: None, template: Template::default() }
    }

    /// Reads an object of a kind of the slot table.
    pub(crate) fn parse(kind: Kind, raw: Raw<'a>) -> Result<Box<Self>, Unreadable> {
        let mut object = Box::new(Self::new(kind));
        match Reader::whole(raw.get(), |reader| object.read(reader)) {
            Ok(()) => Ok(object),
            Err(_) if object.template.spec.as_ref().is_some_and(PodSpec::has_too_many) => {
                Err(Unreadable::TooManySlots)
            }
            Err(Malformed { line, column }) => Err(Unreadable::Malformed { line, column }),
        }
    }

    /// Reads it where it stands.
    pub(crate) fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        let Self { kind, metadata, template } = self;
        let mut first = None;
        reader.object(&mut |reader, key| match (key, kind.template_path()) {
            ("metadata", _) => once_or_null(reader, metadata, Metadata::read),
            ("spec", []) => once_or_null(reader, &mut template.spec, PodSpec::read),
            (key, [wanted, rest @ ..]) if key == *wanted => {
                once_or_null(reader, &mut first, |(), reader| path::read(template, rest, reader))
            }
            _ => reader.pass(),
        })
    }

    /// For logs: a name that the API server has still to make ends in a star.
    pub(crate) fn name(&self) -> String {
        self.metadata.as_ref().map(Metadata::name).unwrap_or_default()
    }

    pub(crate) fn uid(&self) -> &str {
        self.metadata.as_ref().map_or("", |metadata| Text::of(&metadata.uid))
    }

    pub(crate) fn being_deleted(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| !Text::of(&metadata.deleted).is_empty())
    }

    fn annotations(&self) -> Option<&Annotations<'a>> {
        self.metadata.as_ref()?.annotations.as_ref().filter(|annotations| annotations.are_there)
    }

    /// The kubelet's mark of a static pod's mirror; anybody can write it.
    pub(crate) fn is_marked_mirror(&self) -> bool {
        self.annotations().is_some_and(|annotations| annotations.mirror)
    }

    /// Where an annotation can be added. The API server sends no object without metadata.
    pub(crate) fn way(&self) -> Way {
        let metadata = self.metadata.as_ref().is_some_and(|metadata| metadata.is_there);
        match (self.annotations(), metadata) {
            (Some(_), _) => Way::Annotations,
            (None, true) => Way::Metadata,
            (None, false) => Way::Nothing,
        }
    }

    /// Our annotations as they stand there; only pods carry them.
    pub(crate) fn present(&self) -> Present<'_> {
        let Some(annotations) = self.annotations().filter(|_| self.kind == Kind::Pod) else {
            return Present::default();
        };
        let [original, mark] =
            [&annotations.original, &annotations.mark].map(|value| value.as_ref().map(Text::as_str));
        Present { original, mark, others: annotations.others }
    }

    /// The nonce of a canary.
    pub(crate) fn canary(&self) -> Option<&str> {
        self.annotations()?.canary.as_ref().map(Text::as_str)
    }

    /// Returns what our annotations say: the slots that we pinned, and the marks of these pins. An annotation that is larger than
    /// the API server accepts says nothing.
    pub(crate) fn ours(&self) -> (Originals, Marks) {
        let Present { original, mark, .. } = self.present();
        let [original, mark] =
            [original, mark].map(|written| written.filter(|written| written.len() <= ANNOTATIONS_LIMIT));
        (original.map(Originals::parse).unwrap_or_default(), mark.map(Marks::parse).unwrap_or_default())
    }

    /// Whether both have the same template, byte by byte: the API server encodes both in the same way.
    pub(crate) fn has_template_of(&self, other: &Self) -> bool {
        match (self.template.raw, other.template.raw) {
            (Some(mine), Some(theirs)) => mine.get() == theirs.get(),
            _ => false,
        }
    }

    /// The owner with `controller: true`.
    pub(crate) fn controller(&self) -> Option<&ControllerRef> {
        self.metadata.as_ref()?.owners.as_ref()?.controller.as_ref()
    }

    /// Labels of the pod template, or of the pod, as far as they have these keys.
    pub(crate) fn labels(&self, keys: &BTreeSet<&str>) -> Labels {
        self.written_labels().map(|written| written.of(keys)).unwrap_or_default()
    }

    /// The value of one of these labels.
    pub(crate) fn label(&self, key: &str) -> Option<Text<'a>> {
        self.written_labels()?.get(key)
    }

    fn written_labels(&self) -> Option<&WrittenLabels<'a>> {
        match self.kind {
            Kind::Pod => self.metadata.as_ref()?.labels.as_ref(),
            _ => self.template.metadata.as_ref()?.labels.as_ref(),
        }
    }

    /// The pull secrets that the pod or template names, in its order.
    pub(crate) fn pull_secrets(&self) -> &[String] {
        self.template.spec.as_ref().map_or(&[], PodSpec::pull_secrets)
    }

    /// The service account of the pods; empty means `default`.
    pub(crate) fn service_account(&self) -> &str {
        self.template.spec.as_ref().map_or("", PodSpec::service_account)
    }

    /// Every slot that names an image, in the order of the slot table.
    pub(crate) fn slots(&self) -> Vec<ImageSlot> {
        self.template.spec.as_ref().map(PodSpec::slots).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
