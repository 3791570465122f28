//! Reads the review of a pod in one pass, as the webhook does.

use tagpin_json::{Raw, Read, Reader, Stopped, Text, once, once_or_null, once_text, once_text_or_null};

use super::found::{Found, MIRROR, NODES, OUR_ANNOTATIONS};

#[derive(Default)]
pub(super) struct Request<'a> {
    uid: Option<Text<'a>>,
    kind: Option<VersionKind<'a>>,
    sub_resource: Option<Text<'a>>,
    name: Option<Text<'a>>,
    namespace: Option<Text<'a>>,
    operation: Option<Text<'a>>,
    user: Option<User<'a>>,
    object: Option<Raw<'a>>,
    pod: Option<Box<Pod<'a>>>,
    old_object: Option<Raw<'a>>,
    dry_run: Option<bool>,
}

#[derive(Default)]
struct VersionKind<'a> {
    group: Option<Text<'a>>,
    version: Option<Text<'a>>,
    kind: Option<Text<'a>>,
}

#[derive(Default)]
struct User<'a> {
    name: Option<Text<'a>>,
    is_node: Option<bool>,
}

#[derive(Default)]
struct Pod<'a> {
    metadata: Option<Metadata<'a>>,
    spec: Option<Spec<'a>>,
}

#[derive(Default)]
struct Metadata<'a> {
    name: Option<Text<'a>>,
    generate_name: Option<Text<'a>>,
    uid: Option<Text<'a>>,
    labels: Option<Labels<'a>>,
    annotations: Option<Annotations<'a>>,
    deleted: Option<Text<'a>>,
    owners: Option<Owners>,
}

/// The labels as they are written, checked to be sorted.
#[derive(Default)]
struct Labels<'a> {
    raw: Raw<'a>,
    count: usize,
}

#[derive(Default)]
struct Annotations<'a> {
    ours: [Option<Text<'a>>; OUR_ANNOTATIONS.len()],
    is_mirror: bool,
    others: usize,
}

#[derive(Default)]
struct Owners {
    controller: Option<[String; 4]>,
}

#[derive(Default)]
struct Spec<'a> {
    lists: [Option<Vec<Slot<'a>>>; LISTS.len()],
    service_account: Option<Text<'a>>,
    pull_secrets: Option<Vec<String>>,
}

/// The lists of a pod that name images.
const LISTS: [&str; 4] = ["initContainers", "containers", "ephemeralContainers", "volumes"];

struct Slot<'a> {
    index: usize,
    name: Text<'a>,
    reference: Text<'a>,
    never_pulled: bool,
}

#[derive(Default)]
struct Image<'a> {
    reference: Option<Text<'a>>,
    policy: Option<Text<'a>>,
}

pub(super) fn read(body: &[u8]) -> Request<'_> {
    let text = simdutf8::basic::from_utf8(body).unwrap();
    let (mut api_version, mut kind, mut request) = (None, None, None);
    Reader::whole(text, |reader| {
        reader.object(&mut |reader, key| match key {
            "apiVersion" => once_text(reader, &mut api_version),
            "kind" => once_text(reader, &mut kind),
            "request" => once_or_null(reader, &mut request, Request::read),
            _ => reader.pass(),
        })
    })
    .unwrap();
    assert_eq!((Text::of(&api_version), Text::of(&kind)), ("admission.k8s.io/v1", "AdmissionReview"));
    request.unwrap()
}

impl<'a> Request<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        reader.object(&mut |reader, key| match key {
            "uid" => once_text(reader, &mut self.uid),
            "kind" => once(reader, &mut self.kind, |kind, reader| {
                reader.object(&mut |reader, key| match key {
                    "group" => once_text(reader, &mut kind.group),
                    "version" => once_text(reader, &mut kind.version),
                    "kind" => once_text(reader, &mut kind.kind),
                    _ => reader.pass(),
                })
            }),
            "subResource" => once_text_or_null(reader, &mut self.sub_resource),
            "name" => once_text_or_null(reader, &mut self.name),
            "namespace" => once_text_or_null(reader, &mut self.namespace),
            "operation" => once_text(reader, &mut self.operation),
            "userInfo" => once(reader, &mut self.user, User::read),
            "object" => once(reader, &mut self.object, |raw, reader| {
                let mut pod = Box::<Pod<'_>>::default();
                *raw = reader.kept(|reader| pod.read(reader))?;
                self.pod = Some(pod);
                Ok(())
            }),
            "oldObject" => once(reader, &mut self.old_object, Raw::read),
            "dryRun" => once_or_null(reader, &mut self.dry_run, boolean),
            _ => reader.pass(),
        })
    }

    pub(super) fn found(&self) -> Found {
        let pod = self.pod.as_ref().unwrap();
        let metadata = pod.metadata.as_ref().unwrap();
        let spec = pod.spec.as_ref().unwrap();
        let lists = spec.lists.iter().enumerate();
        let images = lists.flat_map(|(list, slots)| {
            slots.iter().flatten().map(move |slot| {
                assert!(!slot.never_pulled);
                (list, slot.index, slot.name.as_str().to_owned(), slot.reference.as_str().to_owned())
            })
        });
        let name = [Text::of(&metadata.name), Text::of(&metadata.generate_name)].concat();
        Found {
            uid: Text::of(&self.uid).to_owned(),
            user: Text::of(&self.user.as_ref().unwrap().name).to_owned(),
            is_node: self.user.as_ref().unwrap().is_node == Some(true),
            name,
            controller: metadata
                .owners
                .as_ref()
                .and_then(|owners| Some(owners.controller.as_ref()?[2].clone())),
            labels: metadata.labels.as_ref().map_or(0, |labels| labels.count),
            other_annotations: metadata.annotations.as_ref().map_or(0, |annotations| annotations.others),
            service_account: Text::of(&spec.service_account).to_owned(),
            pull_secrets: spec.pull_secrets.clone().unwrap_or_default(),
            images: images.collect(),
            object_bytes: self.object.map(|raw| raw.get().len()),
        }
    }
}

fn boolean(value: &mut bool, reader: &mut Reader<'_>) -> Read<()> {
    *value = reader.boolean()?;
    Ok(())
}

impl<'a> User<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        reader.object(&mut |reader, key| match key {
            "username" => once_text_or_null(reader, &mut self.name),
            "groups" => once_or_null(reader, &mut self.is_node, |is_node, reader| {
                reader.list(&mut |reader, _| {
                    *is_node |= reader.text()?.as_str() == NODES;
                    Ok(())
                })
            }),
            _ => reader.pass(),
        })
    }
}

impl<'a> Pod<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        reader.object(&mut |reader, key| match key {
            "metadata" => once_or_null(reader, &mut self.metadata, Metadata::read),
            "spec" => once_or_null(reader, &mut self.spec, Spec::read),
            _ => reader.pass(),
        })
    }
}

impl<'a> Metadata<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        reader.object(&mut |reader, key| match key {
            "name" => once_text_or_null(reader, &mut self.name),
            "generateName" => once_text_or_null(reader, &mut self.generate_name),
            "uid" => once_text_or_null(reader, &mut self.uid),
            "labels" => once_or_null(reader, &mut self.labels, Labels::read),
            "annotations" => once_or_null(reader, &mut self.annotations, Annotations::read),
            "deletionTimestamp" => once_text_or_null(reader, &mut self.deleted),
            "ownerReferences" => once_or_null(reader, &mut self.owners, Owners::read),
            _ => reader.pass(),
        })
    }
}

impl<'a> Labels<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        let (mut last, mut sorted) = (None, true);
        self.raw = reader.kept(|reader| {
            reader.texts(&mut |key, _| {
                sorted &= last.as_ref().is_none_or(|last: &Text<'a>| last.as_str() < key.as_str());
                last = Some(key);
                self.count += 1;
                Ok(())
            })
        })?;
        if sorted { Ok(()) } else { Err(Stopped) }
    }
}

impl<'a> Annotations<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        reader.object(&mut |reader, key| match OUR_ANNOTATIONS.iter().position(|ours| *ours == key) {
            Some(index) => once_text(reader, &mut self.ours[index]),
            None => {
                self.others += key.len() + reader.text()?.as_str().len();
                self.is_mirror |= key == MIRROR;
                Ok(())
            }
        })
    }
}

impl Owners {
    fn read(&mut self, reader: &mut Reader<'_>) -> Read<()> {
        reader.list(&mut |reader, _| {
            let (mut api_version, mut kind, mut name, mut uid) = (None, None, None, None);
            let mut controller = None;
            reader.object(&mut |reader, key| match key {
                "apiVersion" => once_text(reader, &mut api_version),
                "kind" => once_text(reader, &mut kind),
                "name" => once_text(reader, &mut name),
                "uid" => once_text(reader, &mut uid),
                "controller" => once_or_null(reader, &mut controller, boolean),
                _ => reader.pass(),
            })?;
            if controller == Some(true) && self.controller.is_none() {
                self.controller =
                    Some([&api_version, &kind, &name, &uid].map(|field| Text::of(field).to_owned()));
            }
            Ok(())
        })
    }
}

impl<'a> Spec<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        reader.object(&mut |reader, key| match key {
            "serviceAccountName" => once_text_or_null(reader, &mut self.service_account),
            "imagePullSecrets" => once_or_null(reader, &mut self.pull_secrets, secrets),
            _ => match LISTS.iter().zip(&mut self.lists).find(|(list, _)| **list == key) {
                Some((list, slots)) => once_or_null(reader, slots, |slots, reader| {
                    let is_volume = *list == "volumes";
                    reader.list(&mut |reader, index| Slot::read(slots, index, is_volume, reader))
                }),
                None => reader.pass(),
            },
        })
    }
}

impl<'a> Slot<'a> {
    fn read(slots: &mut Vec<Self>, index: usize, is_volume: bool, reader: &mut Reader<'a>) -> Read<()> {
        let (mut name, mut image) = (None, Image::default());
        if is_volume {
            let mut found = None;
            reader.object(&mut |reader, key| match key {
                "name" => once_text(reader, &mut name),
                "image" => once_or_null(reader, &mut found, Image::read),
                _ => reader.pass(),
            })?;
            image = found.unwrap_or_default();
        } else {
            reader.object(&mut |reader, key| match key {
                "name" => once_text(reader, &mut name),
                "image" => once_text_or_null(reader, &mut image.reference),
                "imagePullPolicy" => once_text_or_null(reader, &mut image.policy),
                _ => reader.pass(),
            })?;
        }
        let (name, reference) = (name.unwrap_or_default(), image.reference.unwrap_or_default());
        if !reference.as_str().is_empty() {
            slots.push(Self { index, name, reference, never_pulled: Text::of(&image.policy) == "Never" });
        }
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

fn secrets(secrets: &mut Vec<String>, reader: &mut Reader<'_>) -> Read<()> {
    reader.list(&mut |reader, _| {
        let mut name = None;
        reader.object(&mut |reader, key| match key {
            "name" => once_text(reader, &mut name),
            _ => reader.pass(),
        })?;
        secrets.extend(name.map(|name| name.as_str().to_owned()));
        Ok(())
    })
}
