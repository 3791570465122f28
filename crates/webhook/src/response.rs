//! The response to an admission review and its JSON patch. No other file writes either.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::Simd;
use base64::engine::general_purpose::PAD;
use serde::Serialize;
use tagpin_json::{write_map, write_text};

use crate::review::API_VERSION;
use tagpin_domain::message::{Cause, Refusal};
use tagpin_domain::patch::{Annotation, Patch, Replacement};
use tagpin_domain::{mark, original};
use tagpin_objects::reader::Way;

/// Base64 with the standard alphabet and the fastest instructions of this processor, because most of a
/// response is its patch.
static BASE64: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));

/// Usual number of audit annotations of one response.
const AUDIT_ANNOTATIONS: usize = 4;
/// Maximum number of words of one audit annotation.
const AUDIT_WORDS: usize = 32;

/// The outcome of a review. The words are values of the audit annotation `decision` and of metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Allowed without being judged: another kind, operation or sub-resource, an excluded namespace, a mirror pod, an
    /// object that is being deleted, a template that did not change.
    Skip,
    /// Allowed without findings.
    Allow,
    /// Allowed with a patch.
    Pin,
    /// Allowed with findings that are only counted.
    Audit,
    /// Allowed with warnings.
    Warn,
    /// Refused.
    Deny,
    /// Allowed without being judged, because the namespace has break glass on.
    BreakGlass,
    /// The leader's canary, which finds out whether the API server calls the webhook.
    Canary,
}

impl Decision {
    /// Returns the word for audit annotations and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Allow => "allow",
            Self::Pin => "pin",
            Self::Audit => "audit",
            Self::Warn => "warn",
            Self::Deny => "deny",
            Self::BreakGlass => "break-glass",
            Self::Canary => "canary",
        }
    }
}

/// The response to one admission review.
#[derive(Debug)]
pub(crate) struct ReviewResponse {
    /// The decision, which is also written to the audit log.
    pub(crate) decision: Decision,
    /// The reason of a refusal. Without one the request is allowed.
    pub(crate) refusal: Option<Refusal>,
    /// The JSON patch, if something is to be written.
    pub(crate) patch: Option<JsonPatch>,
    /// Warnings of one line of ASCII each, because they travel as headers.
    pub(crate) warnings: Vec<String>,
    /// Annotations for the audit log. The API server puts the webhook's name before each key.
    pub(crate) audit: Vec<(&'static str, Cow<'static, str>)>,
}

impl ReviewResponse {
    /// Returns a response that allows the request and tells the audit log only the decision.
    pub(crate) fn new(decision: Decision) -> Self {
        let mut audit = Vec::with_capacity(AUDIT_ANNOTATIONS);
        audit.push(("decision", decision.word().into()));
        Self { decision, refusal: None, patch: None, warnings: Vec::new(), audit }
    }

    /// Adds an audit annotation with these words: each once, sorted, and at most [`AUDIT_WORDS`].
    pub(crate) fn note(&mut self, key: &'static str, words: impl Iterator<Item = String>) {
        let words: BTreeSet<String> = words.collect();
        if !words.is_empty() {
            let mut kept: Vec<String> = words.into_iter().collect();
            let more = kept.len().saturating_sub(AUDIT_WORDS);
            kept.truncate(AUDIT_WORDS);
            if more > 0 {
                kept.push(format!("and {more} more"));
            }
            self.audit.push((key, kept.join(",").into()));
        }
    }

    /// Returns the audit annotation with this key.
    pub(crate) fn noted(&self, key: &str) -> Option<&str> {
        self.audit.iter().find(|(held, _)| *held == key).map(|(_, words)| &**words)
    }

    /// Returns the body of the HTTP response (`admission.k8s.io/v1`, `AdmissionReview`).
    ///
    /// Every review has to write this text: serde takes 15,700 instructions for the usual patch, this
    /// function 4,600.
    pub(crate) fn to_json(&self, uid: &str) -> String {
        let patch = self.patch.as_ref().map_or("", |patch| &patch.json);
        let mut json = String::with_capacity(1024 + patch.len() / 3 * 4);
        json.push_str(r#"{"apiVersion":"#);
        write_text(&mut json, API_VERSION);
        json.push_str(r#","kind":"AdmissionReview","response":{"uid":"#);
        write_text(&mut json, uid);
        json.push_str(if self.refusal.is_none() { r#","allowed":true"# } else { r#","allowed":false"# });
        if let Some(refusal) = &self.refusal {
            json.push_str(r#","status":"#);
            json.push_str(&status(refusal));
        }
        if !patch.is_empty() {
            json.push_str(r#","patchType":"JSONPatch","patch":""#);
            BASE64.encode_string(patch, &mut json);
            json.push('"');
        }
        if !self.warnings.is_empty() {
            json.push_str(r#","warnings":"#);
            json.push_str(&serde_json::to_string(&self.warnings).unwrap_or_default());
        }
        json.push_str(r#","auditAnnotations":"#);
        write_map(&mut json, self.audit.iter().map(|(key, value)| ([*key], value)));
        json.push_str("}}");
        json
    }
}

/// Returns the `Status` of a refusal as JSON.
fn status(refusal: &Refusal) -> String {
    let status = Status {
        status: "Failure",
        // The reason is not `Invalid`: kubectl would drop the message and print only the causes.
        reason: "Forbidden",
        code: 403,
        message: &refusal.message,
        details: Details { causes: refusal.causes.iter().map(CauseOut::from).collect() },
    };
    // The status has only strings and numbers, so writing it to memory cannot fail.
    serde_json::to_string(&status).unwrap_or_default()
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
    /// The text of the patch.
    pub(crate) json: String,
    /// Number of operations.
    pub(crate) operations: usize,
}

/// Length of a usual patch in bytes: three pins with their originals and marks.
const USUAL: usize = 1536;
/// JSON pointer to all metadata of an object.
const METADATA_POINTER: &str = "/metadata";
/// JSON pointer to all annotations of an object.
const ANNOTATIONS_POINTER: &str = "/metadata/annotations";
/// The annotations of tagpin and their JSON pointers, in which `~` and `/` are escaped (RFC 6901).
const POINTERS: [(&str, &str); 2] = [
    (original::ANNOTATION, "/metadata/annotations/tagpin.dev~1original"),
    (mark::ANNOTATION, "/metadata/annotations/tagpin.dev~1mark"),
];

impl JsonPatch {
    /// Begins another operation, up to its value. The operation and the path need no escapes, because they
    /// are constants of tagpin.
    fn operation(&mut self, op: &str, path: impl FnOnce(&mut String)) {
        self.json.push_str(if self.operations == 0 { r#"[{"op":""# } else { r#",{"op":""# });
        self.operations += 1;
        self.json.push_str(op);
        self.json.push_str(r#"","path":""#);
        path(&mut self.json);
        self.json.push('"');
    }

    /// Adds the annotations to an object that has none.
    fn all_annotations<'a>(&mut self, set: impl Iterator<Item = ([&'a str; 1], &'a String)>, way: Way) {
        let mut set = set.peekable();
        if set.peek().is_none() {
            return;
        }
        let (pointer, before, after) = match way {
            Way::Nothing => (METADATA_POINTER, r#","value":{"annotations":"#, "}}"),
            Way::Metadata | Way::Annotations => (ANNOTATIONS_POINTER, r#","value":"#, "}"),
        };
        self.operation("add", |json| json.push_str(pointer));
        self.json.push_str(before);
        write_map(&mut self.json, set);
        self.json.push_str(after);
    }

    fn value(&mut self, value: &str) {
        self.json.push_str(r#","value":"#);
        write_text(&mut self.json, value);
        self.json.push('}');
    }
}

/// Returns the JSON patch that makes these changes; none if nothing changes, because the API server refuses
/// an empty patch.
pub(crate) fn json_patch(patch: &Patch, way: Way) -> Option<JsonPatch> {
    let mut written = JsonPatch { json: String::with_capacity(USUAL), operations: 0 };
    for Replacement { field, value } in &patch.replacements {
        written.operation("replace", |json| field.write_pointer(json));
        written.value(value);
    }
    let annotations = POINTERS.into_iter().zip([&patch.original, &patch.mark]);
    if way == Way::Annotations {
        for ((_, pointer), annotation) in annotations {
            match annotation {
                Annotation::Keep => {}
                Annotation::Set(value) => {
                    written.operation("add", |json| json.push_str(pointer));
                    written.value(value);
                }
                Annotation::Remove => {
                    written.operation("remove", |json| json.push_str(pointer));
                    written.json.push('}');
                }
            }
        }
    } else {
        let set = annotations.filter_map(|((key, _), annotation)| match annotation {
            Annotation::Set(value) => Some(([key], value)),
            Annotation::Keep | Annotation::Remove => None,
        });
        written.all_annotations(set, way);
    }
    written.json.push(']');
    (written.operations > 0).then_some(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagpin_domain::slot::Field;

    const IMAGE: Field = Field { root: &["spec"], list: "containers", index: 0, leaf: &["image"] };

    fn written(patch: &Patch, way: Way) -> String {
        json_patch(patch, way).unwrap().json
    }

    #[test]
    fn nothing_to_write_is_no_patch() {
        assert!(json_patch(&Patch::default(), Way::Annotations).is_none());
        let body = ReviewResponse::new(Decision::Skip).to_json("a\"b");
        assert_eq!(
            body,
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"a\"b","allowed":true,"auditAnnotations":{"decision":"skip"}}}"#
        );
    }

    #[test]
    fn the_pointers_are_those_of_the_annotations() {
        for (key, pointer) in POINTERS {
            let key = key.replace('~', "~0").replace('/', "~1");
            assert_eq!(pointer, format!("/metadata/annotations/{key}"));
        }
    }

    #[test]
    fn the_annotation_is_added_beside_others_or_with_the_whole_map() {
        let replacements = vec![Replacement { field: IMAGE, value: "a@b".into() }];
        let patch = Patch { replacements, original: Annotation::Set("{}".into()), mark: Annotation::Keep };
        assert_eq!(
            written(&patch, Way::Annotations),
            r#"[{"op":"replace","path":"/spec/containers/0/image","value":"a@b"},{"op":"add","path":"/metadata/annotations/tagpin.dev~1original","value":"{}"}]"#
        );
        assert_eq!(
            written(&patch, Way::Nothing),
            r#"[{"op":"replace","path":"/spec/containers/0/image","value":"a@b"},{"op":"add","path":"/metadata","value":{"annotations":{"tagpin.dev/original":"{}"}}}]"#
        );
        assert_eq!(
            written(&patch, Way::Metadata),
            r#"[{"op":"replace","path":"/spec/containers/0/image","value":"a@b"},{"op":"add","path":"/metadata/annotations","value":{"tagpin.dev/original":"{}"}}]"#
        );
        let both = Patch { mark: Annotation::Set("m".into()), ..patch };
        assert_eq!(
            written(&both, Way::Metadata),
            r#"[{"op":"replace","path":"/spec/containers/0/image","value":"a@b"},{"op":"add","path":"/metadata/annotations","value":{"tagpin.dev/original":"{}","tagpin.dev/mark":"m"}}]"#
        );
        assert_eq!(
            written(&both, Way::Annotations),
            r#"[{"op":"replace","path":"/spec/containers/0/image","value":"a@b"},{"op":"add","path":"/metadata/annotations/tagpin.dev~1original","value":"{}"},{"op":"add","path":"/metadata/annotations/tagpin.dev~1mark","value":"m"}]"#
        );
        let patch = Patch { original: Annotation::Remove, ..Patch::default() };
        assert_eq!(
            written(&patch, Way::Annotations),
            r#"[{"op":"remove","path":"/metadata/annotations/tagpin.dev~1original"}]"#
        );
    }
}
