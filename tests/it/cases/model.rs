//! The format of the case files. In every text, `{A}` to `{F}` stand for the sha256 digest made of that letter, `{512}` for
//! a sha512 digest, and one `{x*N}` for N times the letter x. A list element with `repeat: N` stands for N elements, in
//! which `{n}` is the number.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::files::case_files;

/// One file, with cases about one noun.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The common subject of the cases, for readers.
    #[serde(rename = "about")]
    _about: String,
    /// A place for YAML anchors.
    #[serde(default, rename = "shared")]
    _shared: Value,
    /// The fields of every case that does not set them itself.
    #[serde(default)]
    defaults: serde_json::Map<String, Value>,
    cases: Vec<serde_json::Map<String, Value>>,
}

/// The input of an admission, and its expected outcome.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Case {
    #[serde(skip)]
    pub(crate) file: String,
    /// The name of the case, which is a claim.
    pub(crate) name: String,
    /// The object as its author writes it; `apiVersion` follows from its kind.
    pub(crate) object: Value,
    /// The old object; if there is one, the request is an UPDATE.
    #[serde(default)]
    pub(crate) old: Option<Value>,
    #[serde(default = "shop")]
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) namespace_labels: BTreeMap<String, String>,
    /// True if no watch has reported the namespace.
    #[serde(default)]
    pub(crate) namespace_unknown: bool,
    /// The user: `developer`, the account of a built-in controller (`replicaset-controller`), or any full user name.
    #[serde(default = "developer")]
    pub(crate) user: String,
    /// The groups of the user, besides those that every user has.
    #[serde(default)]
    pub(crate) groups: Vec<String>,
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
    /// The kinds of custom resources that the API server serves: `postgresql.cnpg.io/Cluster`. If absent, the API server
    /// does not say.
    #[serde(default)]
    pub(crate) served: Option<Vec<String>>,
    /// The answer of the registry for each reference; see `world::fact`. The registry must not be asked about other
    /// references.
    #[serde(default)]
    pub(crate) registry: BTreeMap<String, Value>,
    /// The answer of the registry for every other reference.
    #[serde(default)]
    pub(crate) registry_else: Option<Value>,
    /// The references of images that nodes have.
    #[serde(default)]
    pub(crate) node_images: Vec<String>,
    /// False for references whose repository the registry does not show, true for those whose repository it shows.
    #[serde(default)]
    pub(crate) shown: BTreeMap<String, bool>,
    /// The `match` of the operator's entry that covers each registry.
    #[serde(default)]
    pub(crate) entries: BTreeMap<String, String>,
    /// The version that each reference names now.
    #[serde(default)]
    pub(crate) versions: BTreeMap<String, Version>,
    /// The similar tags of each reference.
    #[serde(default)]
    pub(crate) similar: BTreeMap<String, Vec<String>>,
    /// Says whether /mutate is called before /validate.
    #[serde(default)]
    pub(crate) mutate: Mutate,
    /// The images that a later webhook writes after /mutate, by slot.
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

/// The expected outcome. An absent field means that there must be none, except for `asked`, `askedCount`, `askedNodes`
/// and `message`, which are then not checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Expect {
    /// The findings of /validate by slot, one for each policy: `deny TagForbidden`, `warn …`, `audit …`.
    #[serde(default)]
    pub(crate) findings: BTreeMap<String, Vec<String>>,
    /// The references that /mutate wrote, by slot.
    #[serde(default)]
    pub(crate) images: BTreeMap<String, String>,
    /// The entries of `tagpin.dev/original` after /mutate. If absent, the original references of the slots in `images`.
    #[serde(default)]
    pub(crate) annotation: Option<BTreeMap<String, String>>,
    /// The exact text of that annotation.
    #[serde(default)]
    pub(crate) annotation_text: Option<String>,
    /// The codes of the warnings of /mutate, by slot.
    #[serde(default)]
    pub(crate) mutate_warnings: BTreeMap<String, Vec<String>>,
    /// The suggested references, by slot.
    #[serde(default)]
    pub(crate) instead: BTreeMap<String, String>,
    /// The suggested similar tags, by slot.
    #[serde(default)]
    pub(crate) similar: BTreeMap<String, Vec<String>>,
    /// All look-ups at the registry by both calls, sorted.
    #[serde(default)]
    pub(crate) asked: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) asked_count: Option<usize>,
    /// All questions about the images of nodes, sorted.
    #[serde(default)]
    pub(crate) asked_nodes: Option<Vec<String>>,
    /// The exact texts of the warnings of /mutate that have no code.
    #[serde(default)]
    pub(crate) stale_warnings: Vec<String>,
    /// The age of the last known digest, in seconds.
    #[serde(default)]
    pub(crate) stale: Option<u64>,
    /// Slots that are not pinned because a custom resource owns the pod.
    #[serde(default)]
    pub(crate) foreign: Vec<String>,
    /// Slots that no policy matched.
    #[serde(default)]
    pub(crate) unmatched: Vec<String>,
    /// The exact text of the refusal.
    #[serde(default)]
    pub(crate) message: Option<String>,
    /// The exact texts of the warnings.
    #[serde(default)]
    pub(crate) warnings: Option<Vec<String>>,
    /// The effects of the policies that are left out because they need too much work, as refused or warned of by
    /// /validate: `deny`, `warn`.
    #[serde(default)]
    pub(crate) unjudged: Vec<String>,
    /// The number of warnings that the last warning only counts.
    #[serde(default)]
    pub(crate) warnings_elided: usize,
}

fn shop() -> String {
    "shop".into()
}

fn developer() -> String {
    "developer".into()
}

/// Returns the cases of all files, with one case for each element of `each`.
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

/// Returns a case with the fields of this variant; its `owner` becomes the controller of the object.
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

/// Returns the value with placeholders and repetitions expanded.
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
    match text.split_once("{x*").and_then(|(start, rest)| Some((start, rest.split_once('}')?))) {
        Some((start, (times, end))) => format!("{start}{}{end}", "x".repeat(times.parse().unwrap())),
        None => text,
    }
}
