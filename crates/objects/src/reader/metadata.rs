//! Reads an object's metadata.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};

use tagpin_json::{Raw, Read, Reader, Stopped, Text, once_or_null, once_text, once_text_or_null};

use tagpin_domain::workload::{ControllerRef, Labels};
use tagpin_domain::{mark, original};

use crate::canary;
use crate::kinds::Kinds;
use crate::match_conditions::MIRROR_ANNOTATION;

#[derive(Debug, Default)]
pub(crate) struct Metadata<'a> {
    /// True if the object has metadata that is not null.
    pub(crate) is_there: bool,
    name: Option<Text<'a>>,
    generate_name: Option<Text<'a>>,
    pub(crate) uid: Option<Text<'a>>,
    pub(crate) labels: Option<WrittenLabels<'a>>,
    pub(crate) annotations: Option<Annotations<'a>>,
    pub(crate) owners: Option<Owners<'a>>,
}

impl<'a> Metadata<'a> {
    pub(crate) fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        self.is_there = true;
        reader.object(&mut |reader, key| match key {
            "name" => once_text_or_null(reader, &mut self.name),
            "generateName" => once_text_or_null(reader, &mut self.generate_name),
            "uid" => once_text_or_null(reader, &mut self.uid),
            "labels" => once_or_null(reader, &mut self.labels, WrittenLabels::read),
            "annotations" => once_or_null(reader, &mut self.annotations, Annotations::read),
            "ownerReferences" => once_or_null(reader, &mut self.owners, Owners::read),
            _ => reader.pass(),
        })
    }

    pub(crate) fn name(&self) -> String {
        match (Text::of(&self.name), Text::of(&self.generate_name)) {
            ("", "") => String::new(),
            ("", prefix) => [prefix, "*"].concat(),
            (name, _) => name.to_owned(),
        }
    }
}

/// The labels to keep of an object.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// All of them.
    All,
    /// Those with these keys.
    Keys(&'a BTreeSet<&'a str>),
}

/// The metadata of a template: its labels, and one annotation.
#[derive(Debug, Default)]
pub(crate) struct TemplateMetadata<'a> {
    pub(crate) labels: Option<WrittenLabels<'a>>,
    injection: Option<Injection<'a>>,
}

/// The annotation of a template that asks Istio to fill in its pods.
#[derive(Debug, Default)]
struct Injection<'a> {
    /// The value of [`INJECTION_TEMPLATES`].
    templates: Option<Text<'a>>,
}

/// The annotation that names the templates from which Istio fills in a pod.
const INJECTION_TEMPLATES: &str = "inject.istio.io/templates";

impl<'a> TemplateMetadata<'a> {
    pub(crate) fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        reader.object(&mut |reader, key| match key {
            "labels" => once_or_null(reader, &mut self.labels, WrittenLabels::read),
            "annotations" => once_or_null(reader, &mut self.injection, |injection, reader| {
                reader.object(&mut |reader, key| match key {
                    INJECTION_TEMPLATES => once_text_or_null(reader, &mut injection.templates),
                    _ => reader.pass(),
                })
            }),
            _ => reader.pass(),
        })
    }

    /// Returns true if Istio is asked to fill in the pods of the template.
    pub(crate) fn asks_for_injection(&self) -> bool {
        let label = |key| self.labels.as_ref().and_then(|labels| labels.get(key));
        self.injection.as_ref().is_some_and(|injection| injection.templates.is_some())
            || label("sidecar.istio.io/inject").is_some_and(|value| value.as_str() == "true")
            || label("istio.io/rev").is_some()
    }
}

/// The labels as they are written. The API server does not limit their number, so none of them is kept: each
/// use reads them again.
#[derive(Debug, Default)]
pub(crate) struct WrittenLabels<'a>(Raw<'a>);

impl<'a> WrittenLabels<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        let (mut last, mut sorted) = (None, true);
        self.0 = reader.kept(|reader| {
            reader.texts(&mut |key, _| {
                // The API server writes labels in the order of their keys.
                sorted &= last.as_ref().is_none_or(|last: &Text<'a>| last.as_str() < key.as_str());
                last = Some(key);
                Ok(())
            })
        })?;
        if sorted || !self.has_a_key_twice() { Ok(()) } else { Err(Stopped) }
    }

    /// Returns true if a key occurs twice. Only hashes are compared, because they take less memory than the
    /// labels.
    #[cold]
    fn has_a_key_twice(&self) -> bool {
        let (state, mut hashes) = (RandomState::new(), Vec::new());
        self.each(&mut |key, _| {
            hashes.push(state.hash_one(key.as_str()));
            Ok(())
        });
        hashes.sort_unstable();
        hashes.windows(2).any(|pair| matches!(pair, [one, other] if one == other))
    }

    /// Reads the labels again, until the function stops.
    pub(crate) fn each(&self, label: &mut dyn FnMut(Text<'a>, Text<'a>) -> Read<()>) {
        // The labels were read before, so only the function can stop the reading.
        let _ = Reader::new(self.0.get()).texts(label);
    }

    /// Returns the value of a label.
    pub(crate) fn get(&self, wanted: &str) -> Option<Text<'a>> {
        let mut found = None;
        self.each(&mut |key, value| {
            if key.as_str() != wanted {
                return Ok(());
            }
            found = Some(value);
            Err(Stopped)
        });
        found
    }

    /// Returns the wanted labels.
    pub(crate) fn of(&self, wanted: Wanted<'_>) -> Labels {
        let mut labels = Labels::new();
        if matches!(wanted, Wanted::Keys(keys) if keys.is_empty()) {
            return labels;
        }
        self.each(&mut |key, value| {
            let is_wanted = match wanted {
                Wanted::All => true,
                Wanted::Keys(keys) => keys.contains(key.as_str()),
            };
            if is_wanted {
                labels.insert(key.as_str().to_owned(), value.as_str().to_owned());
            }
            Ok(())
        });
        labels
    }
}

/// The annotations that tagpin uses.
#[derive(Debug, Default)]
pub(crate) struct Annotations<'a> {
    /// True if the object has annotations that are not null.
    pub(crate) are_there: bool,
    pub(crate) original: Option<Text<'a>>,
    pub(crate) mark: Option<Text<'a>>,
    pub(crate) canary: Option<Text<'a>>,
    /// True if the object has the kubelet's annotation of a static pod's mirror.
    pub(crate) mirror: bool,
    /// Number of bytes of the annotations that tagpin does not use, keys and values.
    pub(crate) others: usize,
}

impl<'a> Annotations<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        self.are_there = true;
        reader.object(&mut |reader, key| match key {
            original::ANNOTATION => once_text(reader, &mut self.original),
            mark::ANNOTATION => once_text(reader, &mut self.mark),
            canary::ANNOTATION => once_text(reader, &mut self.canary),
            _ => {
                self.others += key.len() + reader.text()?.as_str().len();
                self.mirror |= key == MIRROR_ANNOTATION;
                Ok(())
            }
        })
    }
}

/// The owner references.
#[derive(Debug, Default)]
pub(crate) struct Owners<'a> {
    /// The first owner with `controller: true`.
    controller: Option<Owner<'a>>,
}

/// One owner reference.
#[derive(Debug, Default)]
struct Owner<'a> {
    api_version: Option<Text<'a>>,
    kind: Option<Text<'a>>,
    name: Option<Text<'a>>,
    uid: Option<Text<'a>>,
}

impl<'a> Owners<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        reader.list(&mut |reader, _| {
            let (mut owner, mut controller) = (Owner::default(), None);
            reader.object(&mut |reader, key| match key {
                "apiVersion" => once_text(reader, &mut owner.api_version),
                "kind" => once_text(reader, &mut owner.kind),
                "name" => once_text(reader, &mut owner.name),
                "uid" => once_text(reader, &mut owner.uid),
                "controller" => once_or_null(reader, &mut controller, |controller, reader| {
                    *controller = reader.boolean()?;
                    Ok(())
                }),
                _ => reader.pass(),
            })?;
            if controller == Some(true) && self.controller.is_none() {
                self.controller = Some(owner);
            }
            Ok(())
        })
    }

    /// Returns the owner with `controller: true`.
    pub(crate) fn controller(&self, kinds: &Kinds) -> Option<ControllerRef> {
        let Owner { api_version, kind, name, uid } = self.controller.as_ref()?;
        let [api_version, kind, name, uid] = [api_version, kind, name, uid].map(Text::of);
        Some(kinds.controller(api_version, kind, name, uid))
    }
}
