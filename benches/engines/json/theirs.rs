//! Reads the same fields into derived structs, which serde_json and sonic-rs fill.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use sonic_rs::LazyValue;

use super::found::{Found, MIRROR, NODES, OUR_ANNOTATIONS};

/// A review whose objects are of one type: raw text, or a struct.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>, 'de: 'a"))]
struct Review<'a, O> {
    #[serde(borrow)]
    api_version: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
    request: Request<'a, O>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>, 'de: 'a"))]
#[expect(dead_code, reason = "the webhook reads these fields too")]
struct Request<'a, O> {
    #[serde(borrow)]
    uid: Text<'a>,
    #[serde(borrow)]
    kind: VersionKind<'a>,
    #[serde(borrow)]
    sub_resource: Option<Text<'a>>,
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    namespace: Option<Text<'a>>,
    #[serde(borrow)]
    operation: Text<'a>,
    #[serde(borrow)]
    user_info: Option<User<'a>>,
    object: Option<O>,
    old_object: Option<O>,
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "the webhook reads these fields too")]
struct VersionKind<'a> {
    #[serde(borrow)]
    group: Text<'a>,
    #[serde(borrow)]
    version: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
}

#[derive(Deserialize)]
struct User<'a> {
    #[serde(borrow)]
    username: Option<Text<'a>>,
    #[serde(borrow)]
    groups: Option<Vec<Text<'a>>>,
}

#[derive(Deserialize)]
struct Pod<'a> {
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
    #[serde(borrow)]
    spec: Option<Spec<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "the webhook reads these fields too")]
struct Metadata<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    generate_name: Option<Text<'a>>,
    #[serde(borrow)]
    uid: Option<Text<'a>>,
    #[serde(borrow)]
    labels: Option<Labels<'a>>,
    #[serde(borrow)]
    annotations: Option<Annotations<'a>>,
    #[serde(borrow)]
    deletion_timestamp: Option<Text<'a>>,
    #[serde(borrow)]
    owner_references: Option<Vec<Owner<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "the webhook reads these fields too")]
struct Owner<'a> {
    #[serde(borrow)]
    api_version: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    uid: Text<'a>,
    controller: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow)]
    init_containers: Option<Vec<Container<'a>>>,
    #[serde(borrow)]
    containers: Option<Vec<Container<'a>>>,
    #[serde(borrow)]
    ephemeral_containers: Option<Vec<Container<'a>>>,
    #[serde(borrow)]
    volumes: Option<Vec<Volume<'a>>>,
    #[serde(borrow)]
    service_account_name: Option<Text<'a>>,
    #[serde(borrow)]
    image_pull_secrets: Option<Vec<Secret<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "the webhook reads these fields too")]
struct Container<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    image: Option<Text<'a>>,
    #[serde(borrow)]
    image_pull_policy: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Volume<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    image: Option<ImageVolume<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "the webhook reads these fields too")]
struct ImageVolume<'a> {
    #[serde(borrow)]
    reference: Option<Text<'a>>,
    #[serde(borrow)]
    pull_policy: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Secret<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
}

/// A string that is borrowed if nothing in it is escaped.
#[derive(Default)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Either<'a> {
            type Value = Text<'a>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Either(PhantomData))
    }
}

/// The labels in their order. No label occurs twice.
struct Labels<'a>(Vec<(Text<'a>, Text<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sorted<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Sorted<'a> {
            type Value = Labels<'a>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut labels: Vec<(Text<'a>, Text<'a>)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<Text<'a>, Text<'a>>()? {
                    if labels.last().is_some_and(|(last, _)| last.0 >= key.0) {
                        return Err(A::Error::custom("labels are not sorted"));
                    }
                    labels.push((key, value));
                }
                Ok(Labels(labels))
            }
        }
        deserializer.deserialize_map(Sorted(PhantomData))
    }
}

/// The annotations that have a meaning for tagpin, and the bytes of the others.
#[derive(Default)]
struct Annotations<'a> {
    ours: [Option<Text<'a>>; OUR_ANNOTATIONS.len()],
    is_mirror: bool,
    others: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for Annotations<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Few<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Few<'a> {
            type Value = Annotations<'a>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("annotations")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = Annotations::default();
                while let Some((key, value)) = map.next_entry::<Text<'a>, Text<'a>>()? {
                    match OUR_ANNOTATIONS.iter().position(|ours| *ours == key.0) {
                        Some(index) if found.ours[index].is_some() => {
                            return Err(A::Error::custom("an annotation is there twice"));
                        }
                        Some(index) => found.ours[index] = Some(value),
                        None => {
                            found.others += key.0.len() + value.0.len();
                            found.is_mirror |= key.0 == MIRROR;
                        }
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Few(PhantomData))
    }
}

/// A review with its pod.
pub(super) struct Read<'a> {
    request: Request<'a, ()>,
    pod: Pod<'a>,
    object_bytes: Option<usize>,
}

/// Reads a review by serde_json: the object as raw text, and the pod from that text.
pub(super) fn serde_json_raw(body: &[u8]) -> Read<'_> {
    let text = simdutf8::basic::from_utf8(body).unwrap();
    let review: Review<'_, &RawValue> = serde_json::from_str(text).unwrap();
    taken(review, |raw| (serde_json::from_str(raw.get()).unwrap(), Some(raw.get().len())))
}

/// Reads a review by serde_json: the pod in place, without its raw text.
pub(super) fn serde_json_in_place(body: &[u8]) -> Read<'_> {
    let text = simdutf8::basic::from_utf8(body).unwrap();
    let review: Review<'_, Pod<'_>> = serde_json::from_str(text).unwrap();
    taken(review, |pod| (pod, None))
}

/// Reads a review by sonic-rs: the object as raw text, and the pod from that text.
pub(super) fn sonic_raw(body: &[u8]) -> Read<'_> {
    let text = simdutf8::basic::from_utf8(body).unwrap();
    let review: Review<'_, LazyValue<'_>> = sonic_rs::from_str(text).unwrap();
    taken(review, |raw| {
        let Cow::Borrowed(raw) = raw.as_raw_cow() else { panic!("sonic-rs copies an object") };
        (sonic_rs::from_str(raw).unwrap(), Some(raw.len()))
    })
}

/// Reads a review by sonic-rs: the pod in place, without its raw text.
pub(super) fn sonic_in_place(body: &[u8]) -> Read<'_> {
    let text = simdutf8::basic::from_utf8(body).unwrap();
    let review: Review<'_, Pod<'_>> = sonic_rs::from_str(text).unwrap();
    taken(review, |pod| (pod, None))
}

fn taken<'a, O>(review: Review<'a, O>, pod: impl FnOnce(O) -> (Pod<'a>, Option<usize>)) -> Read<'a> {
    assert_eq!((&*review.api_version.0, &*review.kind.0), ("admission.k8s.io/v1", "AdmissionReview"));
    let Request {
        uid,
        kind,
        sub_resource,
        name,
        namespace,
        operation,
        user_info,
        object,
        old_object: _,
        dry_run,
    } = review.request;
    let (pod, object_bytes) = pod(object.unwrap());
    let request = Request {
        uid,
        kind,
        sub_resource,
        name,
        namespace,
        operation,
        user_info,
        object: None,
        old_object: None,
        dry_run,
    };
    Read { request, pod, object_bytes }
}

impl Read<'_> {
    pub(super) fn found(&self) -> Found {
        let text =
            |field: &Option<Text<'_>>| field.as_ref().map(|text| text.0.to_string()).unwrap_or_default();
        let metadata = self.pod.metadata.as_ref().unwrap();
        let spec = self.pod.spec.as_ref().unwrap();
        let user = self.request.user_info.as_ref().unwrap();
        let annotations = metadata.annotations.as_ref();
        let lists = [&spec.init_containers, &spec.containers, &spec.ephemeral_containers];
        let containers = lists.into_iter().enumerate().flat_map(|(list, containers)| {
            containers.iter().flatten().enumerate().map(move |(index, container)| {
                (list, index, container.name.0.to_string(), text(&container.image))
            })
        });
        let volumes = spec.volumes.iter().flatten().enumerate().filter_map(|(index, volume)| {
            Some((lists.len(), index, volume.name.0.to_string(), text(&volume.image.as_ref()?.reference)))
        });
        let controller =
            metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        assert!(annotations.is_none_or(|annotations| !annotations.is_mirror));
        Found {
            uid: self.request.uid.0.to_string(),
            user: text(&user.username),
            is_node: user.groups.iter().flatten().any(|group| group.0 == NODES),
            name: [text(&metadata.name), text(&metadata.generate_name)].concat(),
            controller: controller.map(|owner| owner.name.0.to_string()),
            labels: metadata.labels.as_ref().map_or(0, |labels| labels.0.len()),
            other_annotations: annotations.map_or(0, |annotations| annotations.others),
            service_account: text(&spec.service_account_name),
            pull_secrets: spec.image_pull_secrets.iter().flatten().map(|secret| text(&secret.name)).collect(),
            images: containers.chain(volumes).collect(),
            object_bytes: self.object_bytes,
        }
    }
}
