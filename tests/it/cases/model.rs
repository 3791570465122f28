//! What a case file holds. In every text `{A}` is a sha256 digest made of the letter (`{A}` to `{F}`) and `{512}` a
//! sha512 digest; an element of a list with `repeat: N` stands for N elements, with `{n}` for the number.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::files::case_files;

/// One file: cases about one noun.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// What its cases have in common.
    #[serde(rename = "about")]
    _about: String,
    /// A place for YAML anchors.
    #[serde(default, rename = "shared")]
    _shared: Value,
    /// What a case has that does not say otherwise, field by field.
    #[serde(default)]
    defaults: serde_json::Map<String, Value>,
    cases: Vec<serde_json::Map<String, Value>>,
}

/// What is asked of admission, and what must come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Case {
    #[serde(skip)]
    pub(crate) file: String,
    /// A claim.
    pub(crate) name: String,
    /// The object as it is written; `apiVersion` follows from its kind.
    pub(crate) object: Value,
    /// The object before; with it the request is an UPDATE.
    #[serde(default)]
    pub(crate) old: Option<Value>,
    #[serde(default = "shop")]
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) namespace_labels: BTreeMap<String, String>,
    /// No watch has reported the namespace.
    #[serde(default)]
    pub(crate) namespace_unknown: bool,
    /// `developer`, a built-in controller by its account's name (`replicaset-controller`), or any full user name.
    #[serde(default = "developer")]
    pub(crate) user: String,
    #[serde(default)]
    pub(crate) dry_run: bool,
    #[serde(default)]
    pub(crate) subresource: Option<String>,
    /// `ClusterImagePolicy` and `ImagePolicy` objects.
    #[serde(default)]
    pub(crate) policies: Vec<Value>,
    /// Objects that watches have reported.
    #[serde(default)]
    pub(crate) cluster: Vec<Value>,
    /// Reference to what the registry says of it; see `world::fact`. What is not listed must not be asked.
    #[serde(default)]
    pub(crate) registry: BTreeMap<String, Value>,
    /// What the registry says of every other reference.
    #[serde(default)]
    pub(crate) registry_else: Option<Value>,
    /// Reference to the version that it names now.
    #[serde(default)]
    pub(crate) versions: BTreeMap<String, Version>,
    /// Reference to the tags that look like it.
    #[serde(default)]
    pub(crate) similar: BTreeMap<String, Vec<String>>,
    /// Whether /mutate is called at all.
    #[serde(default)]
    pub(crate) mutate: Mutate,
    /// What a later webhook writes into slots, after /mutate.
    #[serde(default)]
    pub(crate) rewritten: BTreeMap<String, String>,
    pub(crate) expect: Expect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Version {
    pub(crate) tag: String,
    pub(crate) digest: String,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mutate {
    #[default]
    Runs,
    Skipped,
}

/// What must come of it. What is left out must be nothing, but for `asked`, `askedCount` and `message`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Expect {
    /// Slot to findings of /validate, as `deny TagForbidden`, `warn …`, `audit …`; one for each policy.
    #[serde(default)]
    pub(crate) findings: BTreeMap<String, Vec<String>>,
    /// Slot to the string that /mutate wrote there.
    #[serde(default)]
    pub(crate) images: BTreeMap<String, String>,
    /// `tagpin.dev/original` after /mutate; left out: the slots of `images` with what was written there.
    #[serde(default)]
    pub(crate) annotation: Option<BTreeMap<String, String>>,
    /// The same, byte by byte.
    #[serde(default)]
    pub(crate) annotation_text: Option<String>,
    /// Slot to codes that /mutate warns of.
    #[serde(default)]
    pub(crate) mutate_warnings: BTreeMap<String, Vec<String>>,
    /// Slot to what is suggested instead.
    #[serde(default)]
    pub(crate) instead: BTreeMap<String, String>,
    /// Slot to the tags that may have been meant.
    #[serde(default)]
    pub(crate) similar: BTreeMap<String, Vec<String>>,
    /// Every question to the registry, sorted, of both calls.
    #[serde(default)]
    pub(crate) asked: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) asked_count: Option<usize>,
    /// Seconds since what was last known was seen.
    #[serde(default)]
    pub(crate) stale: Option<u64>,
    /// Slots left unpinned for their foreign owner.
    #[serde(default)]
    pub(crate) foreign: Vec<String>,
    /// Slots that no policy matched.
    #[serde(default)]
    pub(crate) unmatched: Vec<String>,
    /// The whole text of the refusal.
    #[serde(default)]
    pub(crate) message: Option<String>,
    /// The whole text of the warnings.
    #[serde(default)]
    pub(crate) warnings: Option<Vec<String>>,
    /// How many warnings the last one only counts.
    #[serde(default)]
    pub(crate) warnings_elided: usize,
}

fn shop() -> String {
    "shop".into()
}

fn developer() -> String {
    "developer".into()
}

/// Every case of every file, `each` spelled out.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, text) in case_files("reviews") {
        // Only `true` and `false` are booleans, so that a container may be named `y`.
        let options = serde_saphyr::options! { strict_booleans: true };
        let file: File =
            serde_saphyr::from_str_with_options(&text, options).unwrap_or_else(|e| panic!("{name}: {e}"));
        for mut fields in file.cases {
            for (field, value) in &file.defaults {
                fields.entry(field.clone()).or_insert_with(|| value.clone());
            }
            let each = match fields.remove("each") {
                None => vec![Value::Null],
                Some(Value::Array(each)) => each,
                Some(other) => panic!("{name}: each is a list, not {other}"),
            };
            for variant in each {
                let mut case: Case = serde_json::from_value(expanded(&with(&fields, &variant)))
                    .unwrap_or_else(|e| panic!("{name}: {}: {e}", fields["name"]));
                case.file.clone_from(&name);
                cases.push(case);
            }
        }
    }
    cases
}

/// One variant of a case: its fields, and an `owner` that controls the object.
fn with(fields: &serde_json::Map<String, Value>, variant: &Value) -> Value {
    let mut case = fields.clone();
    for (field, value) in variant.as_object().into_iter().flatten() {
        if field == "owner" {
            let mut owner = value.clone();
            for (key, value) in [("name", json!("o")), ("uid", json!("u-o")), ("controller", json!(true))] {
                owner[key] = value;
            }
            case["object"]["metadata"] = json!({ "ownerReferences": [owner] });
        } else {
            case.insert(field.clone(), value.clone());
        }
    }
    Value::Object(case)
}

/// Placeholders and repetitions spelled out.
fn expanded(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(placeholders(text)),
        Value::Array(items) => items.iter().flat_map(repeated).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (placeholders(key), expanded(value))).collect()
        }
        other => other.clone(),
    }
}

fn repeated(item: &Value) -> Vec<Value> {
    let Some(times) = item.get("repeat").and_then(Value::as_u64) else { return vec![expanded(item)] };
    let one = |number: u64| {
        let mut item = item.as_object().unwrap().clone();
        item.remove("repeat");
        let fields = item.into_iter().map(|(key, value)| match value {
            Value::String(text) => (key, text.replace("{n}", &number.to_string()).into()),
            other => (key, other),
        });
        expanded(&Value::Object(fields.collect()))
    };
    (0..times).map(one).collect()
}

fn placeholders(text: &str) -> String {
    if !text.contains('{') {
        return text.to_owned();
    }
    let mut text = text.replace("{512}", &format!("sha512:{}", "0f".repeat(64)));
    for letter in 'A'..='F' {
        let digest = format!("sha256:{}", letter.to_lowercase().to_string().repeat(64));
        text = text.replace(&format!("{{{letter}}}"), &digest);
    }
    text
}
