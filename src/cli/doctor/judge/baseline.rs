//! The policy `baseline` beside the values of the release.

use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use crate::cli::doctor::findings::{Baseline, Findings};
use crate::cli::doctor::judge::row::{Row, known, logs};
use tagpin_domain::policy::Selector;
use tagpin_objects::label_selector::LabelSelector;

const CHECK: &str = "baseline";
/// The selector of the namespaces.
const SELECTOR: &str = "/match/namespaceSelector";
/// The fields of the spec that the values set.
const FIELDS: [&str; 7] = [
    "/mode",
    SELECTOR,
    "/match/slots",
    "/rules/tags/forbidden",
    "/rules/existence",
    "/pin/targets",
    EXCEPTIONS,
];
/// The exceptions.
const EXCEPTIONS: &str = "/exceptions";

pub(crate) fn baseline(found: &Findings) -> Vec<Row> {
    known(CHECK, &found.baseline, |baseline| {
        let Baseline { wanted, held } = baseline;
        vec![match (wanted, held) {
            (None, _) => Row::ok(CHECK, "the value baseline.enabled is false"),
            (Some(_), None) => Row::red(CHECK, "clusterimagepolicy/baseline does not exist", logs(found)),
            (Some(_), Some(held)) if !held.ours => {
                let detail =
                    "clusterimagepolicy/baseline is not tagpin's, so the values baseline have no effect";
                let remedy = "kubectl delete clusterimagepolicies.tagpin.dev baseline";
                Row::note(CHECK, detail, Some(remedy.to_owned()))
            }
            (Some(wanted), Some(held)) => compared(wanted, &held.spec),
        }]
    })
}

/// Compares the spec that the values give with the one that is stored.
fn compared(wanted: &Value, held: &Value) -> Row {
    let mut patch = json!({});
    let mut differing = Vec::new();
    for field in FIELDS {
        let (want, have) = (part(wanted, field), part(held, field));
        if !is_same(field, want, have) {
            let name = field.replace('/', ".");
            differing.push(format!(
                "spec{name} is {}, and the values of the release say {}",
                shown(have),
                shown(want)
            ));
            let value = if field == EXCEPTIONS { joined(want, have) } else { want.clone() };
            put(&mut patch, field, value);
        }
    }
    if differing.is_empty() {
        return Row::ok(CHECK, "clusterimagepolicy/baseline is as the values of the release say");
    }
    // The JSON stands between single quotes of a shell.
    let patch = json!({ "spec": patch }).to_string().replace('\'', "\\u0027");
    let remedy = format!("kubectl patch clusterimagepolicies.tagpin.dev baseline --type=merge -p '{patch}'");
    Row::red(CHECK, differing.join("; "), remedy)
}

fn part<'a>(spec: &'a Value, field: &str) -> &'a Value {
    spec.pointer(field).unwrap_or(&Value::Null)
}

/// Returns the elements of a list.
fn elements(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Returns the wanted exceptions, and those that others added.
fn joined(wanted: &Value, held: &Value) -> Value {
    let is_ours = |held: &&Value| elements(wanted).any(|wanted| wanted.get("name") == held.get("name"));
    elements(wanted).chain(elements(held).filter(|held| !is_ours(held))).cloned().collect()
}

/// Returns true if a wanted value and the stored one mean the same. The API server fills in the empty parts of a
/// selector, and others may add exceptions.
fn is_same(field: &str, one: &Value, other: &Value) -> bool {
    if field == EXCEPTIONS {
        return elements(one).all(|wanted| elements(other).any(|held| held == wanted));
    }

    let selector = |value: &Value| match value {
        Value::Null => Some(Selector::default()),
        value => LabelSelector::deserialize(value).ok().as_ref().map(Selector::from),
    };
    one == other || (field == SELECTOR && selector(one).is_some_and(|one| Some(one) == selector(other)))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Writes a value at a path, with the objects that lead to it.
fn put(document: &mut Value, path: &str, value: Value) {
    let mut place = document;
    for name in path.split('/').skip(1) {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Some(fields) = place.as_object_mut() else { return };
        place = fields.entry(name).or_insert(Value::Null);
    }
    *place = value;
}
