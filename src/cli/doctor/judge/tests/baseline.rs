//! The row about the policy `baseline`, and rows about labels and entries that have no effect here.

use serde_json::{Value, json};

use super::*;
use crate::cli::doctor::findings::{HeldBaseline, IdleLabel};

/// Returns the spec that the values give, with these fields changed.
pub(super) fn spec(changes: Value) -> Value {
    let mut spec = json!({
        "mode": "Enforce",
        "match": { "slots": ["Container"] },
        "rules": { "tags": { "forbidden": ["latest"] }, "existence": "Tags" },
        "pin": { "targets": ["Pods"] },
    });
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    spec
}

/// Returns the policy that the API server keeps for this spec, with the defaults of the schema.
pub(super) fn held(changes: Value) -> HeldBaseline {
    let mut spec = spec(changes);
    spec["children"] = json!("Warn");
    if spec["match"]["namespaceSelector"].is_null() {
        spec["match"]["namespaceSelector"] = json!({ "matchExpressions": [], "matchLabels": {} });
    }
    HeldBaseline { ours: true, spec }
}

#[test]
fn a_weakened_baseline_is_red_with_the_command_that_restores_it() {
    let change = |found: &mut Findings| {
        let weak = held(json!({ "mode": "Audit", "pin": { "targets": [] } }));
        found.baseline.as_mut().unwrap().held = Some(weak);
    };
    let (detail, remedy) = red("baseline", change);
    assert_eq!(
        detail,
        "spec.mode is Audit, and the values of the release say Enforce; \
         spec.pin.targets is [], and the values of the release say [\"Pods\"]"
    );
    let patch = r#"'{"spec":{"mode":"Enforce","pin":{"targets":["Pods"]}}}'"#;
    assert_eq!(
        remedy,
        format!("kubectl patch clusterimagepolicies.tagpin.dev baseline --type=merge -p {patch}")
    );
}

#[test]
fn a_baseline_of_fewer_namespaces_is_weaker() {
    let narrow = json!({ "slots": ["Container"], "namespaceSelector": { "matchLabels": { "a": "b" } } });
    let change = |found: &mut Findings| {
        found.baseline.as_mut().unwrap().held = Some(held(json!({ "match": narrow })));
    };
    says(
        red("baseline", change),
        "spec.match.namespaceSelector is {",
        r#"{"match":{"namespaceSelector":null}}"#,
    );
}

#[test]
fn exceptions_that_others_added_stay_and_those_of_the_values_come_back() {
    let exception =
        |name: &str, expires: &str| json!({ "name": name, "reason": "it's needed", "expires": expires });
    let ours = [exception("runner", "2027-01-31T00:00:00Z"), exception("velero", "2027-01-31T00:00:00Z")];
    let added = exception("added", "2027-01-31T00:00:00Z");
    let change = |found: &mut Findings, live: &[&Value]| {
        let held = Some(held(json!({ "exceptions": live })));
        found.baseline = Ok(Baseline { wanted: Some(spec(json!({ "exceptions": ours }))), held });
    };
    one("baseline", Status::Ok, |found| change(found, &[&added, &ours[1], &ours[0]]));
    let prolonged = exception("velero", "2028-01-31T00:00:00Z");
    let (detail, remedy) = red("baseline", |found| change(found, &[&ours[0], &prolonged, &added]));
    assert!(detail.starts_with("spec.exceptions is ["), "{detail}");
    let (_, patch) = remedy.split_once(" -p '").unwrap();
    let patch = patch.strip_suffix('\'').unwrap();
    assert!(!patch.contains('\''), "{patch}");
    let patch: Value = serde_json::from_str(patch).unwrap();
    assert_eq!(patch, json!({ "spec": { "exceptions": [ours[0], ours[1], added] } }));
}

#[test]
fn what_the_api_server_fills_in_is_no_difference() {
    let with = |values: Value, labels: Value| {
        json!({ "match": {
            "slots": ["Container"],
            "namespaceSelector": { "matchExpressions": [{ "key": "a", "operator": "Exists", "values": values }], "matchLabels": labels },
        } })
    };
    let mut wanted = spec(with(json!([]), json!({})));
    let selector = wanted["match"]["namespaceSelector"].as_object_mut().unwrap();
    selector.remove("matchLabels");
    selector["matchExpressions"][0].as_object_mut().unwrap().remove("values");
    one("baseline", Status::Ok, |found| {
        let held = Some(held(with(json!([]), json!({}))));
        found.baseline = Ok(Baseline { wanted: Some(wanted), held });
    });
}

#[test]
fn a_baseline_that_is_gone_or_not_ours_or_not_wanted() {
    let gone = |found: &mut Findings| found.baseline.as_mut().unwrap().held = None;
    says(red("baseline", gone), "baseline does not exist", "logs");
    let other = |found: &mut Findings| {
        found.baseline.as_mut().unwrap().held = Some(HeldBaseline { ours: false, ..held(json!({})) });
    };
    assert!(one("baseline", Status::Note, other).detail.contains("is not tagpin's"));
    let off = |found: &mut Findings| found.baseline = Ok(Baseline::default());
    assert_eq!(one("baseline", Status::Ok, off).detail, "the value baseline.enabled is false");
    one("baseline", Status::Ok, |_| {});
}

#[test]
fn a_label_with_another_value_is_named_with_the_one_that_counts() {
    let row = one("namespaces", Status::Note, |found| {
        let idle =
            IdleLabel { namespace: "shop".into(), label: "tagpin.dev/break-glass", value: "yes".into() };
        found.labelled.as_mut().unwrap().idle = vec![idle];
    });
    assert_eq!(row.detail, "shop has tagpin.dev/break-glass=yes, which has no effect: only \"true\" has");
    assert_eq!(row.remedy.unwrap(), "kubectl label namespace shop --overwrite tagpin.dev/break-glass=true");
}

#[test]
fn entries_that_call_another_release_are_named() {
    let change = |found: &mut Findings| {
        let other = Entry { namespace: Some("old".into()), ..entry("pin.tagpin.dev") };
        found.mutating = Ok(Some(vec![other]));
    };
    says(
        red("release", change),
        "call the Service tagpin in old, and this release is in tagpin-system",
        "tagpin doctor -n old",
    );
}
