//! The pod template in an object of any kind of the table.

use tagpin_json::{Malformed, Raw, Read, Reader, once_or_null};

use crate::kinds::Row;
use crate::reader::metadata::TemplateMetadata;
use crate::reader::pod_spec::PodSpec;
use tagpin_domain::slot::{Role, Slot};

/// The image of a container that Istio fills in on the pod.
const INJECTED_IMAGE: &str = "auto";
/// The name of the container that Istio adds to pods, or fills in if it is there already.
const INJECTED_CONTAINER: &str = "istio-proxy";

/// A pod template. For a pod, which is its own template, only the spec is held here.
#[derive(Debug, Default)]
pub struct Template<'a> {
    /// The template as it is written.
    pub(super) raw: Option<Raw<'a>>,
    pub(super) metadata: Option<TemplateMetadata<'a>>,
    pub(super) spec: Option<PodSpec<'a>>,
}

impl<'a> Template<'a> {
    pub(super) fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        let raw = reader.kept(|reader| {
            reader.object(&mut |reader, key| match key {
                "metadata" => once_or_null(reader, &mut self.metadata, TemplateMetadata::read),
                "spec" => once_or_null(reader, &mut self.spec, PodSpec::read),
                _ => reader.pass(),
            })
        })?;
        self.raw = Some(raw);
        Ok(())
    }

    /// Reads the template at a path below the reader's place, if it is there. The rest is passed.
    pub(super) fn read_at(&mut self, path: &[&str], reader: &mut Reader<'a>) -> Read<()> {
        let Some((first, rest)) = path.split_first() else { return self.read(reader) };
        let mut found = None;
        reader.object(&mut |reader, key| {
            if key != *first {
                return reader.pass();
            }
            once_or_null(reader, &mut found, |(), reader| self.read_at(rest, reader))
        })
    }

    /// Reads the template of an object of this kind from one field of the object: the field with which the
    /// path to the pod spec begins.
    ///
    /// # Errors
    /// Fails if a field has the wrong type or occurs twice, or if there are too many slots.
    pub fn of_field(row: &Row, json: &'a str) -> Result<Self, Malformed> {
        let mut template = Self::default();
        Reader::whole(json, |reader| match row.template {
            [] => once_or_null(reader, &mut template.spec, PodSpec::read),
            [_, rest @ ..] => {
                let mut found = None;
                once_or_null(reader, &mut found, |(), reader| template.read_at(rest, reader))
            }
        })?;
        Ok(template)
    }

    /// Calls the function with each label of the template, in the order in which they are written.
    pub fn each_label(&self, label: &mut dyn FnMut(&str, &str)) {
        if let Some(written) = self.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref()) {
            written.each(&mut |key, value| {
                label(key.as_str(), value.as_str());
                Ok(())
            });
        }
    }

    /// Returns the pull secrets that the pod or template names, in their order.
    #[must_use]
    pub fn pull_secrets(&self) -> &[String] {
        self.spec.as_ref().map_or(&[], PodSpec::pull_secrets)
    }

    /// Returns the service account of the pods; empty means `default`.
    #[must_use]
    pub fn service_account(&self) -> &str {
        self.spec.as_ref().map_or("", PodSpec::service_account)
    }

    /// Returns every slot that names an image, by role and then by position. A placeholder that Istio replaces on the
    /// pod names no image in a template, as an omitted image does. On a pod it is judged.
    #[must_use]
    pub fn slots(&self, row: &Row) -> Vec<Slot> {
        let mut slots = self.spec.as_ref().map(|spec| spec.slots(row)).unwrap_or_default();
        if !row.is_pod() {
            slots.retain(|slot| !self.is_placeholder(slot));
        }
        slots
    }

    /// Returns true if Istio fills in the image of this container on the pod.
    fn is_placeholder(&self, slot: &Slot) -> bool {
        let key = slot.key();
        &*slot.reference == INJECTED_IMAGE
            && matches!(key.role, Role::Container | Role::InitContainer)
            && (&*key.name == INJECTED_CONTAINER
                || self.metadata.as_ref().is_some_and(TemplateMetadata::asks_for_injection))
    }
}
