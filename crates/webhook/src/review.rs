//! The envelope of an admission review, borrowed from the request's bytes. It does not depend on policies.
//!
//! The type is `AdmissionReview` of `admission.k8s.io/v1`. The objects stay raw slices, and are read only as
//! far as the table of kinds goes.

use tagpin_json::{
    Malformed, Raw, Read, Reader, Stopped, Text, once, once_or_null, once_text, once_text_or_null,
};

use crate::body::{BODY_LIMIT, Extent};
use tagpin_domain::unreadable::Unreadable;
use tagpin_objects::kinds::{Kinds, Row};
use tagpin_objects::match_conditions::NODE_USER;
use tagpin_objects::reader::Document;

/// The version of the reviews that tagpin answers.
pub(crate) const API_VERSION: &str = "admission.k8s.io/v1";
/// The group of every node's user.
const NODES: &str = "system:nodes";

/// The request of an admission review.
#[derive(Debug, Default)]
pub(crate) struct Request<'a> {
    uid: Option<Text<'a>>,
    kind: Option<VersionKind<'a>>,
    /// The row of that kind in the table of kinds.
    row: Option<&'static Row>,
    sub_resource: Option<Text<'a>>,
    name: Option<Text<'a>>,
    namespace: Option<Text<'a>>,
    operation: Option<Text<'a>>,
    user: Option<User<'a>>,
    object: Option<Raw<'a>>,
    /// The object, if it was read together with the request. That is possible because the API server writes
    /// the kind before the object.
    pub(crate) ahead: Option<Box<Document<'a>>>,
    old_object: Option<Raw<'a>>,
    dry_run: Option<bool>,
    /// The reason why the review could not be read to its end.
    broken: Option<Unreadable>,
}

#[derive(Debug, Default)]
struct VersionKind<'a> {
    group: Option<Text<'a>>,
    version: Option<Text<'a>>,
    kind: Option<Text<'a>>,
}

#[derive(Debug, Default)]
struct User<'a> {
    name: Option<Text<'a>>,
    groups: Option<Groups<'a>>,
}

#[derive(Debug, Default)]
struct Groups<'a> {
    /// The list as it is written.
    list: Raw<'a>,
    has_nodes: bool,
}

impl<'a> VersionKind<'a> {
    /// Returns the row by which the kind is judged. The version has to match too, because another version may
    /// have its images elsewhere.
    fn row(&self, kinds: &Kinds) -> Option<&'static Row> {
        let Self { group, version, kind } = self;
        kinds.judged(Text::of(group), Text::of(kind)).filter(|row| Text::of(version) == row.version)
    }

    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        reader.object(&mut |reader, key| match key {
            "group" => once_text(reader, &mut self.group),
            "version" => once_text(reader, &mut self.version),
            "kind" => once_text(reader, &mut self.kind),
            _ => reader.pass(),
        })?;
        there(&self.version)?;
        there(&self.kind)
    }
}

impl<'a> User<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Read<()> {
        reader.object(&mut |reader, key| match key {
            "username" => once_text_or_null(reader, &mut self.name),
            "groups" => once_or_null(reader, &mut self.groups, |Groups { list, has_nodes }, reader| {
                *list = reader.kept(|reader| {
                    reader.list(&mut |reader, _| {
                        *has_nodes |= reader.text()?.as_str() == NODES;
                        Ok(())
                    })
                })?;
                Ok(())
            }),
            _ => reader.pass(),
        })
    }
}

/// Fails if a field that every review has is missing.
fn there<T>(field: &Option<T>) -> Read<()> {
    if field.is_some() { Ok(()) } else { Err(Stopped) }
}

/// The operation on the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    /// DELETE, CONNECT or an unknown operation, which tagpin does not judge.
    Other,
}

/// The reason why a body is not a review. The texts repeat nothing of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReviewError {
    #[error("the body is not UTF-8")]
    NotText,
    #[error("the body is not an AdmissionReview of admission.k8s.io/v1 (line {line}, column {column})")]
    NotReview { line: usize, column: usize },
    #[error("the body is an object of another kind or version than AdmissionReview of admission.k8s.io/v1")]
    OtherKind,
    #[error("the review carries no request")]
    NoRequest,
}

/// Returns the valid text at the beginning of bytes that are not text to their end.
fn beginning(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

impl<'a> Request<'a> {
    /// Reads the envelope. The API server writes it before the objects, so a review that is cut or malformed
    /// in an object still tells which object it is about.
    pub(crate) fn parse(kinds: &Kinds, body: &'a [u8], extent: Extent) -> Result<Self, ReviewError> {
        let is_text = simdutf8::basic::from_utf8(body);
        let text = is_text.unwrap_or_else(|_| beginning(body));
        let broken = match (extent, is_text) {
            (Extent::Whole, Ok(_)) => None,
            (Extent::Whole, Err(_)) => Some(Unreadable::NotText),
            (Extent::Beginning | Extent::Unfinished, _) => Some(Unreadable::TooLarge { limit: BODY_LIMIT }),
        };
        let (mut api_version, mut kind, mut request): (_, _, Option<Self>) = (None, None, None);
        let review = Reader::whole(text, |reader| {
            reader.object(&mut |reader, key| match key {
                "apiVersion" => once_text(reader, &mut api_version),
                "kind" => once_text(reader, &mut kind),
                "request" => once_or_null(reader, &mut request, |request: &mut Self, reader| {
                    request.read_envelope(kinds, reader)
                }),
                _ => reader.pass(),
            })?;
            there(&api_version)?;
            there(&kind)
        });
        if let Err(Malformed { line, column }) = review {
            let reached = request.as_mut().filter(|request| request.object.is_some());
            let Some(request) = reached.filter(|request| request.is_known()) else {
                return Err(if broken == Some(Unreadable::NotText) {
                    ReviewError::NotText
                } else {
                    ReviewError::NotReview { line, column }
                });
            };
            request.broken = Some(broken.unwrap_or(Unreadable::Malformed { line, column }));
        }
        if Text::of(&kind) != "AdmissionReview" || Text::of(&api_version) != API_VERSION {
            return Err(ReviewError::OtherKind);
        }
        // If the request is null, none of its fields was read.
        request.filter(|request| request.uid.is_some()).ok_or(ReviewError::NoRequest)
    }

    fn read_envelope(&mut self, kinds: &Kinds, reader: &mut Reader<'a>) -> Read<()> {
        reader.object(&mut |reader, key| match key {
            "uid" => once_text(reader, &mut self.uid),
            "kind" => {
                once(reader, &mut self.kind, VersionKind::read)?;
                self.row = self.kind.as_ref().and_then(|kind| kind.row(kinds));
                Ok(())
            }
            "subResource" => once_text_or_null(reader, &mut self.sub_resource),
            "name" => once_text_or_null(reader, &mut self.name),
            "namespace" => once_text_or_null(reader, &mut self.namespace),
            "operation" => once_text(reader, &mut self.operation),
            "userInfo" => once(reader, &mut self.user, User::read),
            "object" => once(reader, &mut self.object, |raw, reader| {
                let Some(row) = self.row else {
                    return raw.read(reader);
                };
                // A fault in the object is ignored here, and reported when the object is read.
                let (mut ahead, mut object) = (reader.clone(), Box::new(Document::new(row)));
                match ahead.kept(|reader| object.read(reader)) {
                    Ok(kept) => {
                        (*raw, *reader, self.ahead) = (kept, ahead, Some(object));
                        Ok(())
                    }
                    Err(Stopped) => raw.read(reader),
                }
            }),
            "oldObject" => once(reader, &mut self.old_object, Raw::read),
            "dryRun" => once_or_null(reader, &mut self.dry_run, |dry_run, reader| {
                *dry_run = reader.boolean()?;
                Ok(())
            }),
            _ => reader.pass(),
        })?;
        if self.is_known() { Ok(()) } else { Err(Stopped) }
    }

    /// Returns true if the fields that every review has are there.
    fn is_known(&self) -> bool {
        self.uid.is_some() && self.kind.is_some() && self.operation.is_some()
    }

    pub(crate) fn uid(&self) -> &str {
        Text::of(&self.uid)
    }

    /// Returns the row of the object's kind, if the table has it.
    pub(crate) const fn row(&self) -> Option<&'static Row> {
        self.row
    }

    pub(crate) fn object(&self) -> Option<Raw<'a>> {
        self.object.filter(|raw| !raw.is_null())
    }

    /// Reads one of the objects.
    pub(crate) fn read(&self, row: &'static Row, raw: Raw<'a>) -> Result<Box<Document<'a>>, Unreadable> {
        match self.broken {
            // The review was cut or is malformed inside this object.
            Some(why) if raw.get().is_empty() => Err(why),
            _ => Document::parse(row, raw),
        }
    }

    pub(crate) fn old_object(&self) -> Option<Raw<'a>> {
        self.old_object.filter(|raw| !raw.is_null())
    }

    pub(crate) fn operation(&self) -> Operation {
        match Text::of(&self.operation) {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            _ => Operation::Other,
        }
    }

    /// Returns the sub-resource, such as `ephemeralcontainers`; none for the object itself.
    pub(crate) fn sub_resource(&self) -> Option<&str> {
        Some(Text::of(&self.sub_resource)).filter(|name| !name.is_empty())
    }

    /// Returns the object's name; empty if the API server has not generated it yet.
    pub(crate) fn name(&self) -> &str {
        Text::of(&self.name)
    }

    pub(crate) fn namespace(&self) -> &str {
        Text::of(&self.namespace)
    }

    pub(crate) fn user(&self) -> &str {
        self.user.as_ref().map_or("", |user| Text::of(&user.name))
    }

    /// Returns the groups of the user.
    pub(crate) fn groups(&self) -> Vec<Box<str>> {
        let mut groups = Vec::new();
        if let Some(Groups { list, .. }) = self.user.as_ref().and_then(|user| user.groups.as_ref()) {
            let mut push = |reader: &mut Reader<'_>, _| {
                groups.push(Box::from(reader.text()?.as_str()));
                Ok(())
            };
            // The list was read before, so this reads it to its end.
            if Reader::whole(list.get(), |reader| reader.list(&mut push)).is_err() {
                groups.clear();
            }
        }
        groups
    }

    /// Returns true if the user is the node of this name, which mirrors its own static pods.
    pub(crate) fn is_by_node(&self, name: &str) -> bool {
        let groups = self.user.as_ref().and_then(|user| user.groups.as_ref());
        let in_group = groups.is_some_and(|groups| groups.has_nodes);
        in_group && !name.is_empty() && self.user().strip_prefix(NODE_USER) == Some(name)
    }

    pub(crate) fn dry_run(&self) -> bool {
        self.dry_run == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagpin_objects::kinds::DEPLOYMENT;

    fn parse(body: &[u8], extent: Extent) -> Result<Request<'_>, ReviewError> {
        Request::parse(&Kinds::default(), body, extent)
    }

    fn review(request: &str) -> String {
        format!(r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{request}}}"#)
    }

    #[test]
    fn an_envelope_is_read_and_its_objects_stay_as_they_are() {
        let body = review(
            r#"{"uid":"1","kind":{"group":"apps","version":"v1","kind":"Deployment"},"operation":"CREATE",
            "userInfo":{"username":"system:node:a\u003cb","groups":["x","system:nodes"]},"namespace":"shop","object":{"a":1},
            "oldObject":null,"dryRun":false,"options":{"more":[]}}"#,
        );
        let request = parse(body.as_bytes(), Extent::Whole).unwrap();
        assert_eq!(request.uid(), "1");
        assert_eq!(request.user(), "system:node:a<b");
        assert_eq!(request.row().map(|row| row.kind), Some(DEPLOYMENT));
        assert_eq!(request.operation(), Operation::Create);
        assert_eq!(request.object().unwrap().get(), r#"{"a":1}"#);
        assert!(request.old_object().is_none() && !request.dry_run());
        assert_eq!(request.groups(), [Box::from("x"), Box::from("system:nodes")]);
        assert!(request.is_by_node("a<b") && !request.is_by_node("a") && !request.is_by_node(""));
    }

    #[test]
    fn an_envelope_is_read_when_what_follows_it_is_broken() {
        let body = review(
            r#"{"uid":"1","kind":{"group":"apps","version":"v1","kind":"Deployment"},"name":"web","namespace":"shop",
            "operation":"UPDATE","userInfo":{"username":"me"},"object":{"spec":{"x":"é"}},"oldObject":{"a":"é"}}"#,
        );
        let object = body.find("\"object\":").unwrap() + 9;
        for at in object..body.len() {
            let cut = body.as_bytes().get(..at).unwrap();
            let mut changed = body.clone().into_bytes();
            *changed.get_mut(at).unwrap() = 0xff;
            for (bytes, extent) in [(cut, Extent::Beginning), (cut, Extent::Whole), (&changed, Extent::Whole)]
            {
                let request = parse(bytes, extent).unwrap();
                let known = (request.uid(), request.name(), request.namespace(), request.user());
                assert_eq!(known, ("1", "web", "shop", "me"), "{at}");
                let read = request.object().map(|raw| request.read(request.row().unwrap(), raw)).unwrap();
                let is_there = at >= body.find(",\"oldObject\"").unwrap();
                assert_eq!(read.is_ok(), is_there, "{at}");
                let why = match (extent, std::str::from_utf8(bytes)) {
                    (Extent::Beginning, _) => Some(Unreadable::TooLarge { limit: BODY_LIMIT }),
                    (_, Err(_)) => Some(Unreadable::NotText),
                    _ => request.broken,
                };
                assert_eq!(request.broken, why, "{at}");
            }
        }
        // Without the rest of the envelope, the object of the review is unknown.
        for at in 0..object - 9 {
            assert!(parse(body.as_bytes().get(..at).unwrap(), Extent::Beginning).is_err(), "{at}");
        }
    }

    #[test]
    fn what_is_no_review_has_a_reason() {
        let failed = |body: &str| parse(body.as_bytes(), Extent::Whole).map(drop).unwrap_err();
        assert!(matches!(failed(""), ReviewError::NotReview { .. }));
        assert!(matches!(failed("{"), ReviewError::NotReview { .. }));
        assert!(matches!(failed("[]"), ReviewError::NotReview { .. }));
        assert!(matches!(failed(&"[".repeat(100_000)), ReviewError::NotReview { .. }));
        assert!(matches!(failed(&review(r#"{"uid":7}"#)), ReviewError::NotReview { .. }));
        assert_eq!(failed(&review("null")), ReviewError::NoRequest);
        assert_eq!(failed(r#"{"apiVersion":"v1","kind":"Pod"}"#), ReviewError::OtherKind);
        assert_eq!(parse(b"\xff", Extent::Whole).map(drop).unwrap_err(), ReviewError::NotText);
    }
}
