//! The answer to a review, and the JSON patch in it: the only file that writes either. It decides nothing.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::Simd;
use base64::engine::general_purpose::PAD;
use serde::Serialize;
use tagpin_json::{write_map, write_text};

use crate::metrics::Decision;
use crate::review::API_VERSION;
use tagpin_domain::message::{Cause, Refusal};
use tagpin_domain::patch::{Annotation, Patch, Replacement};
use tagpin_domain::{mark, original};
use tagpin_objects::reader::Way;

/// The standard alphabet, by what this processor does best: most of an answer is its patch.
static BASE64: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));

/// Audit annotations of one answer.
const AUDIT_ANNOTATIONS: usize = 4;
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
    pub(crate) audit: Vec<(&'static str, Cow<'static, str>)>,
}

impl Answer {
    /// An answer that allows, and says no more than what was decided.
    pub(crate) fn new(decision: Decision) -> Self {
        let mut audit = Vec::with_capacity(AUDIT_ANNOTATIONS);
        audit.push(("decision", decision.word().into()));
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
            self.audit.push((key, kept.join(",").into()));
        }
    }

    /// What the audit log gets under this key.
    pub(crate) fn noted(&self, key: &str) -> Option<&str> {
        self.audit.iter().find(|(held, _)| *held == key).map(|(_, words)| &**words)
    }

    /// The body of the HTTP answer (`admission.k8s.io/v1`, `AdmissionResponse`).
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

fn status(refusal: &Refusal) -> String {
    let status = Status {
        status: "Failure",
        // Not `Invalid`: kubectl would throw the message away and print the causes only.
        reason: "Forbidden",
        code: 403,
        message: &refusal.message,
        details: Details { causes: refusal.causes.iter().map(CauseOut::from).collect() },
    };
    // Strings and numbers only: writing them to memory cannot fail.
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
    /// As it travels.
    pub(crate) json: String,
    /// Of how many operations it is.
    pub(crate) operations: usize,
}

/// Bytes of the patch of a few slots.
const USUAL: usize = 960;
/// All metadata of an object.
const METADATA_POINTER: &str = "/metadata";
/// All annotations of an object.
const ANNOTATIONS_POINTER: &str = "/metadata/annotations";
/// The JSON pointers of our annotations: `~` and `/` are escaped in a JSON pointer (RFC 6901).
const POINTERS: [(&str, &str); 2] = [
    (original::ANNOTATION, "/metadata/annotations/tagpin.dev~1original"),
    (mark::ANNOTATION, "/metadata/annotations/tagpin.dev~1mark"),
];

impl JsonPatch {
    /// Begins another operation, up to its value. Neither word is anybody's but ours: nothing in them is escaped.
    fn operation(&mut self, op: &str, path: impl FnOnce(&mut String)) {
        self.json.push_str(if self.operations == 0 { r#"[{"op":""# } else { r#",{"op":""# });
        self.operations += 1;
        self.json.push_str(op);
        self.json.push_str(r#"","path":""#);
        path(&mut self.json);
        self.json.push('"');
    }

    /// Adds the annotations of an object that has none.
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

/// The JSON patch that writes this; none when nothing changes, because the API server refuses an empty one.
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
        let body = Answer::new(Decision::Skip).to_json("a\"b");
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
