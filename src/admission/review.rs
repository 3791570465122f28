//! The envelope of an admission review, borrowed from the request's bytes. It knows no policy.
//!
//! `admission.k8s.io/v1 AdmissionReview`; the objects stay raw slices and are read only as far as the slot table goes.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::admission::json::{Keep, List, Text};
use crate::domain::slot::Kind;

/// The version of the reviews that we answer.
pub(crate) const API_VERSION: &str = "admission.k8s.io/v1";
/// The group of every node's user.
const NODES: &str = "system:nodes";

/// What the API server asks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    pub(crate) uid: Text<'a>,
    #[serde(borrow)]
    kind: VersionKind<'a>,
    #[serde(borrow, default)]
    sub_resource: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(crate) namespace: Option<Text<'a>>,
    #[serde(borrow)]
    operation: Text<'a>,
    #[serde(borrow, default)]
    user_info: UserInfo<'a>,
    #[serde(borrow, default)]
    pub(crate) object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) old_object: Option<&'a RawValue>,
    #[serde(default)]
    dry_run: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct VersionKind<'a> {
    #[serde(borrow, default)]
    group: Text<'a>,
    #[serde(borrow)]
    version: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct UserInfo<'a> {
    #[serde(borrow, default)]
    username: Option<Text<'a>>,
    #[serde(default)]
    groups: Option<List<Groups>>,
}

/// Whether a node speaks.
#[derive(Debug, Default)]
struct Groups {
    nodes: bool,
}

impl<'de> Keep<'de> for Groups {
    type Item = Text<'de>;

    fn keep(&mut self, _: usize, group: Text<'de>) -> Result<(), &'static str> {
        self.nodes |= group.as_str() == NODES;
        Ok(())
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
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Review<'a> {
            #[serde(borrow)]
            api_version: Text<'a>,
            #[serde(borrow)]
            kind: Text<'a>,
            #[serde(borrow, default)]
            request: Option<Request<'a>>,
        }
        let text = std::str::from_utf8(body).map_err(|_| ReviewError::NotText)?;
        let review: Review<'a> = serde_json::from_str(text)
            .map_err(|error| ReviewError::NotReview { line: error.line(), column: error.column() })?;
        if review.kind.as_str() != "AdmissionReview" || review.api_version.as_str() != API_VERSION {
            return Err(ReviewError::OtherKind);
        }
        review.request.ok_or(ReviewError::NoRequest)
    }

    /// The object's kind, when the slot table has it: in this version, for others may have their images elsewhere.
    pub(crate) fn kind(&self) -> Option<Kind> {
        let VersionKind { group, version, kind } = &self.kind;
        Kind::find(group.as_str(), kind.as_str()).filter(|_| version.as_str() == "v1")
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
        self.user_info.username.as_ref().map_or("", Text::as_str)
    }

    /// Whether a node speaks: its own static pods are mirrored by it.
    pub(crate) fn is_node(&self) -> bool {
        self.user_info.groups.as_ref().is_some_and(|groups| groups.0.nodes)
    }

    pub(crate) fn dry_run(&self) -> bool {
        self.dry_run == Some(true)
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
