//! The answer to a review, and the JSON patch in it: the only file that writes either. It decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::admission::review::API_VERSION;
use crate::domain::message::Cause;
use crate::domain::original::ANNOTATION;
use crate::domain::patch::{Annotation, Patch};
use crate::telemetry::admission::Decision;

/// Words of one audit annotation.
const AUDIT_WORDS: usize = 32;

/// What the API server gets.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What was decided, in a word.
    pub(crate) decision: Decision,
    /// The whole text of a refusal; none allows.
    pub(crate) refusal: Option<Refusal>,
    /// The JSON patch, when there is something to write.
    pub(crate) patch: Option<JsonPatch>,
    /// One line each, in ASCII: they travel as headers.
    pub(crate) warnings: Vec<String>,
    /// For the audit log; the API server puts the webhook's name before each key.
    pub(crate) audit: BTreeMap<&'static str, String>,
}

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) causes: Vec<Cause>,
}

impl Answer {
    /// An answer that allows, and says no more than what was decided.
    pub(crate) fn new(decision: Decision) -> Self {
        let audit = BTreeMap::from([("decision", decision.word().to_owned())]);
        Self { decision, refusal: None, patch: None, warnings: Vec::new(), audit }
    }

    /// Puts words into the audit log: each once, in order, and not more than anybody reads.
    pub(crate) fn note(&mut self, key: &'static str, words: impl Iterator<Item = String>) {
        let words: BTreeSet<String> = words.collect();
        if !words.is_empty() {
            let mut kept: Vec<String> = words.into_iter().collect();
            let more = kept.len().saturating_sub(AUDIT_WORDS);
            kept.truncate(AUDIT_WORDS);
            if more > 0 {
                kept.push(format!("and {more} more"));
            }
            self.audit.insert(key, kept.join(","));
        }
    }

    /// The body of the HTTP answer.
    pub(crate) fn to_json(&self, uid: &str) -> Vec<u8> {
        let status = self.refusal.as_ref().map(|refusal| Status {
            status: "Failure",
            // Not `Invalid`: kubectl would throw the message away and print the causes only.
            reason: "Forbidden",
            code: 403,
            message: &refusal.message,
            details: Details { causes: refusal.causes.iter().map(CauseOut::from).collect() },
        });
        let patch = self.patch.as_ref().map(|patch| STANDARD.encode(&patch.json));
        let review = Review {
            api_version: API_VERSION,
            kind: "AdmissionReview",
            response: Response {
                uid,
                allowed: self.refusal.is_none(),
                status,
                patch_type: patch.as_ref().map(|_| "JSONPatch"),
                patch,
                warnings: &self.warnings,
                audit_annotations: &self.audit,
            },
        };
        // Strings and numbers only: writing them to memory can not fail.
        serde_json::to_vec(&review).unwrap_or_default()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    audit_annotations: &'a BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Status<'a> {
    status: &'a str,
    reason: &'a str,
    code: u16,
    message: &'a str,
    details: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    causes: Vec<CauseOut<'a>>,
}

#[derive(Serialize)]
struct CauseOut<'a> {
    reason: &'a str,
    message: &'a str,
    field: &'a str,
}

impl<'a> From<&'a Cause> for CauseOut<'a> {
    fn from(cause: &'a Cause) -> Self {
        Self { reason: cause.reason.as_str(), message: &cause.message, field: &cause.field }
    }
}

/// A JSON patch (RFC 6902).
#[derive(Debug)]
pub(crate) struct JsonPatch {
    /// As it travels.
    pub(crate) json: Vec<u8>,
    /// Of how many operations it is.
    pub(crate) operations: usize,
}

#[derive(Serialize)]
struct Operation<'a> {
    op: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<serde_json::Value>,
}

/// The JSON patch that writes this; none when nothing changes, because the API server refuses an empty one.
pub(crate) fn json_patch(patch: &Patch, has_annotations: bool) -> Option<JsonPatch> {
    // `~` and `/` are escaped in a JSON pointer (RFC 6901).
    let pointer = format!("/metadata/annotations/{}", ANNOTATION.replace('~', "~0").replace('/', "~1"));
    let mut operations: Vec<Operation<'_>> = patch
        .replacements
        .iter()
        .map(|new| Operation { op: "replace", path: &new.pointer, value: Some(new.value.as_str().into()) })
        .collect();
    match &patch.annotation {
        Annotation::Keep => {}
        Annotation::Set(value) if has_annotations => {
            operations.push(Operation { op: "add", path: &pointer, value: Some(value.as_str().into()) });
        }
        Annotation::Set(value) => {
            let all = serde_json::json!({ ANNOTATION: value });
            operations.push(Operation { op: "add", path: "/metadata/annotations", value: Some(all) });
        }
        Annotation::Remove => operations.push(Operation { op: "remove", path: &pointer, value: None }),
    }
    if operations.is_empty() {
        return None;
    }
    let json = serde_json::to_vec(&operations).ok()?;
    Some(JsonPatch { json, operations: operations.len() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;
    use crate::domain::patch::Replacement;

    fn written(patch: &Patch, has_annotations: bool) -> String {
        String::from_utf8(json_patch(patch, has_annotations).unwrap().json).unwrap()
    }

    #[test]
    fn nothing_to_write_is_no_patch() {
        assert!(json_patch(&Patch::default(), true).is_none());
        let body = String::from_utf8(Answer::new(Decision::Skip).to_json("a\"b")).unwrap();
        assert_eq!(
            body,
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"a\"b","allowed":true,"auditAnnotations":{"decision":"skip"}}}"#
        );
    }

    #[test]
    fn the_annotation_is_added_beside_others_or_with_the_whole_map() {
        let replacements =
            vec![Replacement { pointer: "/spec/containers/0/image".into(), value: "a@b".into() }];
        let patch = Patch { replacements, annotation: Annotation::Set("{}".into()) };
        assert_eq!(
            written(&patch, true),
            r#"[{"op":"replace","path":"/spec/containers/0/image","value":"a@b"},{"op":"add","path":"/metadata/annotations/tagpin.dev~1original","value":"{}"}]"#
        );
        assert_eq!(
            written(&patch, false),
            r#"[{"op":"replace","path":"/spec/containers/0/image","value":"a@b"},{"op":"add","path":"/metadata/annotations","value":{"tagpin.dev/original":"{}"}}]"#
        );
        let patch = Patch { replacements: Vec::new(), annotation: Annotation::Remove };
        assert_eq!(
            written(&patch, true),
            r#"[{"op":"remove","path":"/metadata/annotations/tagpin.dev~1original"}]"#
        );
    }
}
