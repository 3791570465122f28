//! The part of an object that policies look at, borrowed from its raw slice: metadata, and the pod template where the
//! slot table says it is. It knows no policy.
//!
//! A field that is there twice is refused; lists and maps are read to a limit, so that a hostile object takes little
//! more memory than its bytes.

mod metadata;
mod path;
mod pod_spec;

use crate::admission::json::{Malformed, Raw, Read, Reader, once_or_null};
use crate::cluster::object::ControllerRef;
use crate::domain::original::Originals;
use crate::domain::policy::Labels;
use crate::domain::slot::{ImageSlot, Kind};

use metadata::{Metadata, WrittenLabels};
use path::Found;
use pod_spec::PodSpec;

/// What is read of an object.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    pub(crate) kind: Kind,
    metadata: Metadata<'a>,
    /// The template's slice; none for pods, which are their own.
    raw_template: Option<Raw<'a>>,
    template: Template<'a>,
}

/// What an object has of the way to its annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Annotated {
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
    labels: Option<WrittenLabels<'a>>,
    spec: PodSpec<'a>,
}

impl<'a> Template<'a> {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let (mut labels, mut spec) = (None, None);
        reader.object(|reader, key| match key {
            "metadata" => once_or_null(reader, &mut labels, metadata::only_labels),
            "spec" => once_or_null(reader, &mut spec, PodSpec::read),
            _ => reader.pass(),
        })?;
        Ok(Self { labels: labels.flatten().flatten(), spec: spec.flatten().unwrap_or_default() })
    }
}

impl<'a> Object<'a> {
    /// Reads an object of a kind of the slot table.
    pub(crate) fn parse(kind: Kind, raw: Raw<'a>) -> Result<Self, Malformed> {
        Reader::whole(raw.get(), |reader| Self::read(kind, reader))
    }

    /// Reads an object where it stands.
    pub(crate) fn read(kind: Kind, reader: &mut Reader<'a>) -> Read<Self> {
        let Some((first, rest)) = kind.template_path().split_first() else {
            let (mut metadata, mut spec) = (None, None);
            reader.object(|reader, key| match key {
                "metadata" => once_or_null(reader, &mut metadata, Metadata::read),
                "spec" => once_or_null(reader, &mut spec, PodSpec::read),
                _ => reader.pass(),
            })?;
            let metadata = metadata.flatten().unwrap_or_default();
            let template = Template { labels: None, spec: spec.flatten().unwrap_or_default() };
            return Ok(Self { kind, metadata, raw_template: None, template });
        };
        let Found { metadata, template } = path::find(reader, first, rest)?;
        let (raw_template, template) =
            template.map(|(raw, template)| (Some(raw), template)).unwrap_or_default();
        Ok(Self { kind, metadata, raw_template, template })
    }

    /// For logs: a name that the API server has still to make ends in a star.
    pub(crate) fn name(&self) -> String {
        self.metadata.name()
    }

    pub(crate) fn uid(&self) -> &str {
        self.metadata.uid()
    }

    pub(crate) fn being_deleted(&self) -> bool {
        self.metadata.being_deleted()
    }

    /// The kubelet's mark of a static pod's mirror; anybody can write it.
    pub(crate) fn is_marked_mirror(&self) -> bool {
        self.metadata.annotations().is_some_and(|annotations| annotations.mirror)
    }

    /// Where an annotation can be added. The API server sends no object without metadata.
    pub(crate) const fn annotated(&self) -> Annotated {
        match (self.metadata.annotations(), self.metadata.is_there) {
            (Some(_), _) => Annotated::Annotations,
            (None, true) => Annotated::Metadata,
            (None, false) => Annotated::Nothing,
        }
    }

    /// Our annotation as it stands there; only pods carry it.
    pub(crate) fn original(&self) -> Option<&str> {
        self.metadata.annotations().filter(|_| self.kind == Kind::Pod)?.original()
    }

    /// The nonce of a canary.
    pub(crate) fn canary(&self) -> Option<&str> {
        self.metadata.annotations()?.canary()
    }

    /// What our annotation says.
    pub(crate) fn originals(&self) -> Originals {
        self.original().map(Originals::parse).unwrap_or_default()
    }

    /// Whether both have the same template, byte by byte: the API server encodes both in the same way.
    pub(crate) fn has_template_of(&self, other: &Self) -> bool {
        match (self.raw_template, other.raw_template) {
            (Some(mine), Some(theirs)) => mine.get() == theirs.get(),
            _ => false,
        }
    }

    /// The owner with `controller: true`.
    pub(crate) fn controller(&self) -> Option<&ControllerRef> {
        self.metadata.controller()
    }

    /// Labels of the pod template, or of the pod.
    pub(crate) fn labels(&self) -> Labels {
        self.written_labels().map(WrittenLabels::to_labels).unwrap_or_default()
    }

    /// The value of one of these labels.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.written_labels()?.get(key)
    }

    fn written_labels(&self) -> Option<&WrittenLabels<'a>> {
        match self.kind {
            Kind::Pod => self.metadata.labels(),
            _ => self.template.labels.as_ref(),
        }
    }

    /// The pull secrets that the pod or template names, in its order.
    pub(crate) fn pull_secrets(&self) -> &[String] {
        self.template.spec.pull_secrets()
    }

    /// The service account of the pods; empty means `default`.
    pub(crate) fn service_account(&self) -> &str {
        self.template.spec.service_account()
    }

    /// Every slot that names an image, in the order of the slot table, up to one more than the limit of the domain.
    pub(crate) fn slots(&self) -> Vec<ImageSlot> {
        self.template.spec.slots()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]
mod tests;
