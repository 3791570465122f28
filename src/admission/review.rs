//! The envelope of an admission review, borrowed from the request's bytes. It knows no policy.
//!
//! `admission.k8s.io/v1 AdmissionReview`; the objects stay raw slices and are read only as far as the slot table goes.

use crate::admission::json::{Malformed, Raw, Read, Reader, Stopped, Text, once, once_or_null, once_text};
use crate::admission::object::Object;
use crate::domain::slot::Kind;

/// The version of the reviews that we answer.
pub(crate) const API_VERSION: &str = "admission.k8s.io/v1";
/// The group of every node's user.
const NODES: &str = "system:nodes";

/// What the API server asks.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) uid: Text<'a>,
    kind: VersionKind<'a>,
    sub_resource: Option<Text<'a>>,
    namespace: Option<Text<'a>>,
    operation: Text<'a>,
    user: User<'a>,
    pub(crate) object: Option<Raw<'a>>,
    /// The same, read already: the API server says before it what kind it is.
    pub(crate) read: Option<Object<'a>>,
    pub(crate) old_object: Option<Raw<'a>>,
    dry_run: bool,
}

#[derive(Debug)]
struct VersionKind<'a> {
    group: Text<'a>,
    version: Text<'a>,
    kind: Text<'a>,
}

#[derive(Debug, Default)]
struct User<'a> {
    name: Option<Text<'a>>,
    is_node: bool,
}

impl<'a> VersionKind<'a> {
    /// The kind, when the slot table has it: in this version, for others may have their images elsewhere.
    fn of_slot_table(&self) -> Option<Kind> {
        let Self { group, version, kind } = self;
        Kind::find(group.as_str(), kind.as_str()).filter(|_| version.as_str() == "v1")
    }

    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let (mut group, mut version, mut kind) = (None, None, None);
        reader.object(|reader, key| match key {
            "group" => once_text(reader, &mut group),
            "version" => once_text(reader, &mut version),
            "kind" => once_text(reader, &mut kind),
            _ => reader.pass(),
        })?;
        let there = |text: Option<Text<'a>>| text.ok_or(Stopped);
        Ok(Self { group: group.unwrap_or_default(), version: there(version)?, kind: there(kind)? })
    }
}

impl<'a> User<'a> {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let (mut name, mut is_node) = (None, None);
        reader.object(|reader, key| match key {
            "username" => once_or_null(reader, &mut name, Reader::text),
            "groups" => once_or_null(reader, &mut is_node, |reader| {
                let mut is_node = false;
                reader.list(|reader, _| {
                    is_node |= reader.text()?.as_str() == NODES;
                    Ok(())
                })?;
                Ok(is_node)
            }),
            _ => reader.pass(),
        })?;
        Ok(Self { name: name.flatten(), is_node: is_node.flatten() == Some(true) })
    }
}

/// What is done to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    /// DELETE, CONNECT, or one that we do not know: not ours to judge.
    Other,
}

/// Why a body is no review. The texts are ours: nothing of the body is repeated.
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
    #[error(
        "the object of the review is not what its kind says, or has a field twice or more than 1024 labels (line \
         {line}, column {column} of the object)"
    )]
    NotObject { line: usize, column: usize },
}

impl<'a> Request<'a> {
    /// Reads the envelope.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, ReviewError> {
        let text = std::str::from_utf8(body).map_err(|_| ReviewError::NotText)?;
        let (mut api_version, mut kind, mut request) = (None, None, None);
        let review = Reader::whole(text, |reader| {
            reader.object(|reader, key| match key {
                "apiVersion" => once_text(reader, &mut api_version),
                "kind" => once_text(reader, &mut kind),
                "request" => once_or_null(reader, &mut request, Self::read),
                _ => reader.pass(),
            })?;
            let there = |text: Option<Text<'a>>| text.ok_or(Stopped);
            Ok((there(api_version)?, there(kind)?))
        });
        let (api_version, kind) =
            review.map_err(|Malformed { line, column }| ReviewError::NotReview { line, column })?;
        if kind.as_str() != "AdmissionReview" || api_version.as_str() != API_VERSION {
            return Err(ReviewError::OtherKind);
        }
        request.flatten().ok_or(ReviewError::NoRequest)
    }

    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let (mut uid, mut kind, mut sub_resource, mut namespace) = (None, None, None, None);
        let (mut operation, mut user, mut object, mut old_object) = (None, None, None, None);
        let (mut dry_run, mut read) = (None, None);
        reader.object(|reader, key| match key {
            "uid" => once_text(reader, &mut uid),
            "kind" => {
                let value = VersionKind::read(reader)?;
                once(&mut kind, value)
            }
            "subResource" => once_or_null(reader, &mut sub_resource, Reader::text),
            "namespace" => once_or_null(reader, &mut namespace, Reader::text),
            "operation" => once_text(reader, &mut operation),
            "userInfo" => {
                let value = User::read(reader)?;
                once(&mut user, value)
            }
            "object" => {
                let table = kind.as_ref().and_then(VersionKind::of_slot_table);
                // What can not be read is passed over here, and told by who asks for the object.
                let mut ahead = reader.clone();
                let value = match table.map(|kind| ahead.kept(|reader| Object::read(kind, reader))) {
                    Some(Ok((raw, value))) => {
                        *reader = ahead;
                        read = Some(value);
                        Some(raw)
                    }
                    _ => reader.optional(Reader::raw)?,
                };
                once(&mut object, value)
            }
            "oldObject" => once_or_null(reader, &mut old_object, Reader::raw),
            "dryRun" => once_or_null(reader, &mut dry_run, Reader::boolean),
            _ => reader.pass(),
        })?;
        Ok(Self {
            uid: uid.ok_or(Stopped)?,
            kind: kind.ok_or(Stopped)?,
            sub_resource: sub_resource.flatten(),
            namespace: namespace.flatten(),
            operation: operation.ok_or(Stopped)?,
            user: user.unwrap_or_default(),
            object: object.flatten(),
            read,
            old_object: old_object.flatten(),
            dry_run: dry_run.flatten() == Some(true),
        })
    }

    /// The object's kind, when the slot table has it.
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.kind.of_slot_table()
    }

    pub(crate) fn operation(&self) -> Operation {
        match self.operation.as_str() {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            _ => Operation::Other,
        }
    }

    /// None for the object itself, else `ephemeralcontainers` and the like.
    pub(crate) fn sub_resource(&self) -> Option<&str> {
        self.sub_resource.as_ref().map(Text::as_str).filter(|name| !name.is_empty())
    }

    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_ref().map_or("", Text::as_str)
    }

    pub(crate) fn user(&self) -> &str {
        self.user.name.as_ref().map_or("", Text::as_str)
    }

    /// Whether a node speaks: its own static pods are mirrored by it.
    pub(crate) const fn is_node(&self) -> bool {
        self.user.is_node
    }

    pub(crate) const fn dry_run(&self) -> bool {
        self.dry_run
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    fn review(request: &str) -> String {
        format!(r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{request}}}"#)
    }

    #[test]
    fn an_envelope_is_read_and_its_objects_stay_as_they_are() {
        let body = review(
            r#"{"uid":"1","kind":{"group":"apps","version":"v1","kind":"Deployment"},"operation":"CREATE",
            "userInfo":{"username":"a\u003cb","groups":["x","system:nodes"]},"namespace":"shop","object":{"a":1},
            "oldObject":null,"dryRun":false,"options":{"more":[]}}"#,
        );
        let request = Request::parse(body.as_bytes()).unwrap();
        assert_eq!(request.uid.as_str(), "1");
        assert_eq!(request.user(), "a<b");
        assert_eq!(request.kind(), Some(Kind::Deployment));
        assert_eq!(request.operation(), Operation::Create);
        assert_eq!(request.object.unwrap().get(), r#"{"a":1}"#);
        assert!(request.old_object.is_none() && request.is_node() && !request.dry_run());
    }

    #[test]
    fn what_is_no_review_has_a_reason() {
        let parse = |body: &str| Request::parse(body.as_bytes()).map(drop).unwrap_err();
        assert!(matches!(parse(""), ReviewError::NotReview { .. }));
        assert!(matches!(parse("{"), ReviewError::NotReview { .. }));
        assert!(matches!(parse("[]"), ReviewError::NotReview { .. }));
        assert!(matches!(parse(&"[".repeat(100_000)), ReviewError::NotReview { .. }));
        assert!(matches!(parse(&review(r#"{"uid":7}"#)), ReviewError::NotReview { .. }));
        assert_eq!(parse(&review("null")), ReviewError::NoRequest);
        assert_eq!(parse(r#"{"apiVersion":"v1","kind":"Pod"}"#), ReviewError::OtherKind);
        assert_eq!(Request::parse(b"\xff").map(drop).unwrap_err(), ReviewError::NotText);
    }
}
