//! The outcome of a case, as the API server and its users see it: allowed or refused, causes, warnings, audit
//! annotations, the patched object, counters.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prometheus_client::encoding::text::encode;
use regex::Regex;
use serde_json::{Value, json};

use crate::cases::model::{Case, Mutate};
use crate::cases::world::{World, row};

const ANNOTATION: &str = "tagpin.dev/original";
/// The code of an object as a whole.
const UNREADABLE: &str = "ReviewUnreadable";

static FIRST_LINE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"^image ".*" \(([a-z ]+) ([^ ()]+)\): .* \[([A-Za-z]+)\]"#).unwrap());
static FINDING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"^images_evaluated_total\{result="(audit|warn|deny)",code="(\w+)"\} (\d+)$"#).unwrap()
});

type Slots<T> = BTreeMap<String, T>;

/// The outcome of a case.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    denied: Slots<Vec<String>>,
    warned: Slots<Vec<String>>,
    /// The number of findings, by effect and code: `deny TagForbidden`.
    findings: BTreeMap<String, u64>,
    images: Slots<String>,
    annotation: Option<String>,
    mutate_warnings: Slots<Vec<String>>,
    instead: Slots<String>,
    similar: Slots<Vec<String>>,
    asked: Vec<String>,
    asked_nodes: Vec<String>,
    stale_warnings: Vec<String>,
    stale: Option<u64>,
    foreign: u64,
    unmatched: u64,
    unjudged: Vec<String>,
    /// The kind of the object.
    kind: String,
    message: String,
    warnings: Vec<String>,
    /// Deviations from what holds in every case.
    wrong: Vec<String>,
}

pub(crate) async fn observe(case: &Case, world: &World) -> Observed {
    let mut seen = Observed::default();
    let mut object = case.object.clone();
    seen.kind = object["kind"].as_str().unwrap().to_owned();
    if case.mutate == Mutate::Runs {
        let answer = world.post("/mutate", &review(case, &object)).await;
        if answer["allowed"] != json!(true) {
            seen.wrong.push("/mutate refused".into());
        }
        let written = slots(&object);
        apply(&mut object, &answer);
        seen.images =
            slots(&object).into_iter().filter(|(slot, image)| written.get(slot) != Some(image)).collect();
        let warnings = warnings_of(&answer);
        seen.mutate_warnings = codes_of(&warnings);
        seen.stale_warnings = warnings.into_iter().filter(|warning| first_line(warning).is_none()).collect();
        seen.stale = stale(&answer);
        if case.subresource.is_some() {
            // The API server drops the changes of fields that the sub-resource does not own.
            object["metadata"]["annotations"] = case.object["metadata"]["annotations"].clone();
        }
    }
    seen.annotation = object["metadata"]["annotations"][ANNOTATION].as_str().map(str::to_owned);
    let mutated = object.clone();
    for (slot, image) in &case.rewritten {
        *image_of(&mut object, slot) = json!(image);
    }

    let answer = world.post("/validate", &review(case, &object)).await;
    seen.asked = world.script.asked();
    seen.asked_nodes = world.script.asked_nodes();
    seen.stale = seen.stale.max(stale(&answer));
    seen.warnings = warnings_of(&answer);
    seen.warned = codes_of(&seen.warnings);
    for cause in answer["status"]["details"]["causes"].as_array().into_iter().flatten() {
        if cause["reason"] == UNREADABLE {
            seen.unjudged.push("deny".into());
            continue;
        }
        let slot = slot_at(&object, cause["field"].as_str().unwrap());
        seen.denied.entry(slot).or_default().push(cause["reason"].as_str().unwrap().to_owned());
    }
    let unreadable = format!("[{UNREADABLE}]");
    let unjudged = seen.warnings.iter().filter(|warning| warning.ends_with(&unreadable));
    seen.unjudged.extend(unjudged.map(|_| "warn".to_owned()));
    seen.message = answer["status"]["message"].as_str().unwrap_or_default().to_owned();
    (seen.instead, seen.similar) = suggestions(&seen.message);
    count(world, &mut seen);
    consistent(&answer, &mut seen);

    if case.mutate == Mutate::Runs {
        let again = world.post("/mutate", &review(case, &mutated)).await;
        if !again["patch"].is_null() {
            seen.wrong.push("/mutate patches what it wrote itself".into());
        }
    }
    let unexpected = world.script.unexpected();
    if !unexpected.is_empty() {
        seen.wrong
            .push(format!("the registry was asked about {unexpected:?}, of which the case says nothing"));
    }
    seen
}

/// Returns the differences from the expected outcome; empty if the case holds.
pub(crate) fn differences(case: &Case, seen: &Observed) -> Vec<String> {
    let expect = &case.expect;
    let mut differences = seen.wrong.clone();
    let mut compare = |what: &str, is: String, expected: String| {
        if is != expected {
            differences.push(format!("  {what}\n    is       {is}\n    expected {expected}"));
        }
    };
    // If one policy refuses for a code and another warns about it, the code is reported once, as refused.
    let with = |effect: &str| -> Slots<Vec<String>> {
        let mut slots = Slots::new();
        for (slot, findings) in &expect.findings {
            let mut codes: Vec<String> = Vec::new();
            for (its, code) in findings.iter().map(|finding| finding.split_once(' ').unwrap()) {
                let denied = findings.contains(&format!("deny {code}"));
                if its == effect && (effect == "deny" || !denied) && !codes.contains(&code.to_owned()) {
                    codes.push(code.to_owned());
                }
            }
            if !codes.is_empty() {
                slots.insert(slot.clone(), codes);
            }
        }
        slots
    };
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    compare("refused", text(&seen.denied), text(&with("deny")));
    let mut warned = with("warn");
    for _ in 0..expect.warnings_elided {
        warned.pop_last();
    }
    compare("warned of", text(&seen.warned), text(&warned));
    let more =
        seen.warnings.last().and_then(|last| last.strip_prefix("... and ")?.split(' ').next()?.parse().ok());
    compare("warnings only counted", more.unwrap_or(0_usize).to_string(), expect.warnings_elided.to_string());
    let mut findings = BTreeMap::new();
    for finding in expect.findings.values().flatten() {
        *findings.entry(finding.clone()).or_insert(0_u64) += 1;
    }
    compare("findings counted", text(&seen.findings), text(&findings));
    compare("images", text(&seen.images), text(&expect.images));
    let annotation = match (&expect.annotation_text, &expect.annotation) {
        (Some(exact), _) => Some(exact.clone()),
        (None, Some(entries)) => (!entries.is_empty()).then(|| json!(entries).to_string()),
        (None, None) => {
            let written = slots(&case.object);
            let originals: Slots<&str> =
                expect.images.keys().map(|slot| (slot.clone(), written[slot].as_str())).collect();
            (!originals.is_empty()).then(|| json!(originals).to_string())
        }
    };
    compare("annotation", text(&seen.annotation), text(&annotation));
    compare("warned of by /mutate", text(&seen.mutate_warnings), text(&expect.mutate_warnings));
    compare("suggested instead", text(&seen.instead), text(&expect.instead));
    compare("similar tags", text(&seen.similar), text(&expect.similar));
    if let Some(asked) = &expect.asked {
        compare("asked", text(&seen.asked), text(asked));
    }
    if let Some(count) = expect.asked_count {
        compare("number of questions", seen.asked.len().to_string(), count.to_string());
    }
    if let Some(asked) = &expect.asked_nodes {
        compare("asked of nodes", text(&seen.asked_nodes), text(asked));
    }
    compare("warned of by /mutate without a code", text(&seen.stale_warnings), text(&expect.stale_warnings));
    compare("seconds stale", text(&seen.stale), text(&expect.stale));
    compare("foreign owners", seen.foreign.to_string(), expect.foreign.len().to_string());
    compare("not judged", text(&seen.unjudged), text(&expect.unjudged));
    compare("unmatched", seen.unmatched.to_string(), expect.unmatched.len().to_string());
    if let Some(message) = &expect.message {
        compare("message", format!("\n{}", seen.message), format!("\n{}", message.trim_end()));
    }
    if let Some(warnings) = &expect.warnings {
        compare("warnings", text(&seen.warnings), text(warnings));
    }
    differences
}

fn review(case: &Case, object: &Value) -> Value {
    let row = row(object["kind"].as_str().unwrap());
    let kind = row.kind;
    let user = match case.user.as_str() {
        name if name.contains(':') || name == "developer" => name.to_owned(),
        name => format!("system:serviceaccount:kube-system:{name}"),
    };
    let groups: Vec<_> =
        ["system:authenticated"].into_iter().chain(case.groups.iter().map(String::as_str)).collect();
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "7f0b2f6e-1d1c-4a5e-9f64-6a1f0d8f8d11",
            "kind": { "group": kind.group(), "version": "v1", "kind": kind.name() },
            "resource": { "group": kind.group(), "version": "v1", "resource": row.resource },
            "subResource": case.subresource,
            "name": object["metadata"]["name"],
            "namespace": case.namespace,
            "operation": if case.old.is_some() { "UPDATE" } else { "CREATE" },
            "userInfo": { "username": user, "groups": groups },
            "object": object,
            "oldObject": case.old,
            "dryRun": case.dry_run,
        }
    })
}

/// Applies the JSON patch of an answer as the API server does: a path that does not exist is an error.
fn apply(object: &mut Value, answer: &Value) {
    let Some(patch) = answer["patch"].as_str() else {
        assert!(answer["patchType"].is_null());
        return;
    };
    assert_eq!(answer["patchType"], "JSONPatch");
    let operations: Vec<Value> = serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap();
    assert!(!operations.is_empty());
    for operation in operations {
        let path = operation["path"].as_str().unwrap();
        let (parent, key) = path.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/").replace("~0", "~");
        if object["metadata"].is_null() {
            object["metadata"] = json!({});
        }
        let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{path} has no parent"));
        match operation["op"].as_str().unwrap() {
            "add" => parent[key] = operation["value"].clone(),
            "replace" => *parent.get_mut(&key).unwrap() = operation["value"].clone(),
            "remove" => drop(parent.as_object_mut().unwrap().remove(&key).unwrap()),
            other => panic!("operation {other}"),
        }
    }
}

/// Returns every slot with its reference, found without the code under test.
fn slots(object: &Value) -> Slots<String> {
    let mut slots = Slots::new();
    let spec = ["/spec/jobTemplate/spec/template/spec", "/spec/template/spec", "/template/spec", "/spec"]
        .into_iter()
        .find_map(|path| object.pointer(path))
        .unwrap_or(&Value::Null);
    for (list, path) in [
        ("containers", "/image"),
        ("initContainers", "/image"),
        ("ephemeralContainers", "/image"),
        ("volumes", "/image/reference"),
    ] {
        for item in spec[list].as_array().into_iter().flatten() {
            if let Some(image) = item.pointer(path).and_then(Value::as_str) {
                slots.insert(format!("{list}/{}", item["name"].as_str().unwrap()), image.to_owned());
            }
        }
    }
    slots
}

fn image_of<'a>(object: &'a mut Value, slot: &str) -> &'a mut Value {
    let (list, name) = slot.split_once('/').unwrap();
    let items = object["spec"][list].as_array_mut().unwrap();
    &mut items.iter_mut().find(|item| item["name"] == *name).unwrap()["image"]
}

/// Returns the slot of a field: `containers/web` for `spec.containers[0].image`.
fn slot_at(object: &Value, field: &str) -> String {
    let (path, rest) = field.split_once('[').unwrap();
    let index: usize = rest.split_once(']').unwrap().0.parse().unwrap();
    let items = object.pointer(&format!("/{}", path.replace('.', "/"))).unwrap();
    let list = path.rsplit('.').next().unwrap();
    format!("{list}/{}", items[index]["name"].as_str().unwrap())
}

fn warnings_of(answer: &Value) -> Vec<String> {
    let warnings = answer["warnings"].as_array();
    warnings.into_iter().flatten().map(|warning| warning.as_str().unwrap().to_owned()).collect()
}

/// Returns the codes of the warnings, by slot.
fn codes_of(warnings: &[String]) -> Slots<Vec<String>> {
    let mut slots = Slots::<Vec<String>>::new();
    for warning in warnings {
        let Some((slot, code)) = first_line(warning) else { continue };
        slots.entry(slot).or_default().push(code);
    }
    slots
}

/// Returns the slot and the code of a line like `image "…" (container web): … [TagForbidden]…`.
fn first_line(line: &str) -> Option<(String, String)> {
    let parts = FIRST_LINE.captures(line)?;
    let list = match &parts[1] {
        "container" => "containers",
        "init container" => "initContainers",
        "ephemeral container" => "ephemeralContainers",
        "image volume" => "volumes",
        other => panic!("what is a {other}?"),
    };
    Some((format!("{list}/{}", &parts[2]), parts[3].to_owned()))
}

fn suggestions(message: &str) -> (Slots<String>, Slots<Vec<String>>) {
    let (mut instead, mut similar) = (Slots::new(), Slots::new());
    let mut slot = String::new();
    for line in message.lines() {
        if let Some((found, _)) = first_line(line) {
            slot = found;
        } else if let Some(rest) = line.strip_prefix("  try:    ") {
            // A line without a suggestion holds a command.
            if let Some((reference, _)) = rest.split_once("   (") {
                instead.insert(slot.clone(), reference.to_owned());
            }
        } else if let Some(rest) = line.strip_prefix("  did you mean: ") {
            similar.insert(slot.clone(), rest.split(", ").map(str::to_owned).collect());
        }
    }
    (instead, similar)
}

fn stale(answer: &Value) -> Option<u64> {
    answer["auditAnnotations"]["stale-seconds"].as_str().map(|seconds| seconds.parse().unwrap())
}

/// Reads the counters after the two calls.
fn count(world: &World, seen: &mut Observed) {
    let mut text = String::new();
    encode(&mut text, &world.metrics).unwrap();
    for line in text.lines() {
        if let Some(parts) = FINDING.captures(line) {
            seen.findings.insert(format!("{} {}", &parts[1], &parts[2]), parts[3].parse().unwrap());
        } else if let Some(count) = line.strip_prefix("foreign_owner_images_total ") {
            seen.foreign = count.parse().unwrap();
        } else if let Some(count) = line.strip_prefix("unmatched_images_total ") {
            seen.unmatched = count.parse().unwrap();
        }
    }
}

/// Checks what holds in every answer of /validate.
fn consistent(answer: &Value, seen: &mut Observed) {
    let mut all_wrong = Vec::new();
    let mut wrong = |what: String| all_wrong.push(what);
    let allowed = answer["allowed"] == json!(true);
    let unjudged = |effect: &str| seen.unjudged.iter().any(|left_out| left_out == effect);
    let refused = !seen.denied.is_empty() || unjudged("deny");
    if allowed == refused || allowed != seen.message.is_empty() {
        wrong(format!("allowed is {allowed}, causes and message say otherwise"));
    }
    if !allowed && (answer["status"]["code"] != 403 || answer["status"]["reason"] != "Forbidden") {
        wrong(format!("status {}", answer["status"]));
    }
    let codes: Vec<&str> = seen.findings.keys().filter_map(|finding| finding.split(' ').nth(1)).collect();
    let mut codes: Vec<&str> = codes;
    codes.extend((!seen.unjudged.is_empty()).then_some(UNREADABLE));
    codes.sort_unstable();
    codes.dedup();
    let audit = &answer["auditAnnotations"];
    if audit["codes"].as_str().unwrap_or_default() != codes.join(",") {
        wrong(format!("audit annotations {audit}"));
    }
    let effect = ["deny", "warn", "audit"]
        .into_iter()
        .find(|effect| unjudged(effect) || seen.findings.keys().any(|finding| finding.starts_with(effect)));
    if audit["decision"] != effect.unwrap_or("allow") && (effect.is_some() || audit["decision"] != "skip") {
        wrong(format!("audit annotations {audit}"));
    }
    for warning in &seen.warnings {
        if warning.len() > 256 || !warning.bytes().all(|b| matches!(b, b' '..=b'~')) {
            wrong(format!("not fit for a header: {warning:?}"));
        }
    }
    let of_object = format!("{} \"", seen.kind);
    let starts = [
        "image \"",
        &of_object,
        "  policy: ",
        "  try:    ",
        "  did you mean: ",
        "  fix:    ",
        "  retry:  try again in ",
        "and ",
    ];
    for line in seen.message.lines() {
        if !starts.iter().any(|start| line.starts_with(start)) || line.chars().any(char::is_control) {
            wrong(format!("a line that is not ours: {line:?}"));
        }
    }
    seen.wrong.extend(all_wrong);
}
