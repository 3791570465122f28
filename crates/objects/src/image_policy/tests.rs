use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::kinds::{DEPLOYMENT, POD};
use tagpin_domain::check::{self, Check, Rule, RuleSet};
use tagpin_domain::policy::{self, LabelOperator, Policy, PolicyId};
use tagpin_domain::slot::Role;
use tagpin_domain::work::Work;

fn compile(spec: Value) -> Result<Policy, PolicyError> {
    let id = PolicyId { namespace: None, name: "baseline".to_owned() };
    serde_json::from_value::<ClusterImagePolicySpec>(spec).unwrap().compile(id)
}

fn compiled(spec: Value) -> Policy {
    compile(spec).unwrap()
}

fn exception(fields: Value) -> Value {
    let mut exception =
        json!({ "name": "legacy", "reason": "until the vendor ships", "expires": "2027-01-31T00:00:00Z" });
    exception.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ "exceptions": [exception] })
}

#[test]
fn an_empty_spec_audits_forbids_latest_and_pins_nothing() {
    let policy = compiled(json!({}));
    assert_eq!(policy.mode, policy::Mode::Audit);
    assert_eq!(policy.children, policy::Children::Warn);
    let [
        Check::Limit,
        Check::Reference,
        Check::Tags { forbidden, require_explicit: false },
        Check::Existence,
        Check::Resolution,
    ] = policy.checks.as_slice()
    else {
        panic!("{:?}", policy.checks)
    };
    assert!(
        forbidden.is_match("latest", &Work::default()).unwrap()
            && !forbidden.is_match("1", &Work::default()).unwrap()
    );
    assert_eq!(policy.resolution.last_known_max_age, Duration::from_hours(168));
    assert_eq!(policy.resolution.on_unavailable, policy::Outcome::Warn);
    assert!(policy.scope.images.is_none() && policy.scope.kinds.is_empty() && policy.scope.slots.is_empty());
    assert!(policy.exceptions.is_empty());
}

#[test]
fn every_level_of_an_omitted_struct_has_the_same_defaults() {
    let forbids_latest = |spec| {
        let forbids = |check: &Check| matches!(check, Check::Tags { forbidden, .. } if forbidden.is_match("latest", &Work::default()).unwrap());
        compiled(spec).checks.iter().any(forbids)
    };
    assert!(forbids_latest(json!({ "rules": {} })));
    assert!(forbids_latest(json!({ "rules": { "tags": {} } })));
    assert!(forbids_latest(json!({ "rules": { "tags": { "requireExplicit": true } } })));
    assert!(!forbids_latest(json!({ "rules": { "tags": { "forbidden": [] } } })));
    let age = compiled(json!({ "resolution": { "onUnavailable": "Deny" } })).resolution.last_known_max_age;
    assert_eq!(age, Duration::from_hours(168));
}

#[test]
fn a_full_spec_means_what_it_says() {
    let policy = compiled(json!({
        "mode": "Enforce",
        "children": "Enforce",
        "match": {
            "namespaceSelector": { "matchLabels": { "env": "prod" } },
            "objectSelector": { "matchExpressions": [{ "key": "app", "operator": "NotIn", "values": ["batch"] }] },
            "kinds": [{ "group": "apps", "kind": "Deployment" }, { "kind": "Pod" }],
            "images": ["docker.io/library/*"],
            "slots": ["Container", "ImageVolume"],
        },
        "rules": { "tags": { "forbidden": ["dev-*"], "requireExplicit": true }, "existence": "Ignore" },
        "pin": { "targets": ["Pods"], "owners": "Any" },
        "resolution": {
            "lastKnownMaxAge": "0s", "onUnavailable": "Deny", "onUnauthorized": "Allow", "onForbiddenAddress": "Deny",
        },
    }));
    assert_eq!(policy.id, PolicyId { namespace: None, name: "baseline".to_owned() });
    assert_eq!(policy.mode, policy::Mode::Enforce);
    assert_eq!(policy.children, policy::Children::Enforce);
    let namespaces: Vec<_> =
        policy.scope.namespaces.0.iter().map(|r| (r.key.as_str(), &r.operator)).collect();
    assert_eq!(namespaces, [("env", &LabelOperator::In(["prod".to_owned()].into()))]);
    let objects: Vec<_> = policy.scope.objects.0.iter().map(|r| (r.key.as_str(), &r.operator)).collect();
    assert_eq!(objects, [("app", &LabelOperator::NotIn(["batch".to_owned()].into()))]);
    assert_eq!(policy.scope.kinds, BTreeSet::from([DEPLOYMENT, POD]));
    assert!(policy.scope.images.unwrap().is_match("docker.io/library/nginx", &Work::default()).unwrap());
    assert_eq!(policy.scope.slots, BTreeSet::from([Role::Container, Role::ImageVolume]));
    let [
        Check::Limit,
        Check::Reference,
        Check::Tags { forbidden, require_explicit: true },
        Check::Resolution,
        Check::Pin(check::Owners::Any),
    ] = policy.checks.as_slice()
    else {
        panic!("{:?}", policy.checks)
    };
    assert!(
        forbidden.is_match("dev-1", &Work::default()).unwrap()
            && !forbidden.is_match("latest", &Work::default()).unwrap()
    );
    assert_eq!(policy.resolution.last_known_max_age, Duration::ZERO);
    assert_eq!(policy.resolution.on_unavailable, policy::Outcome::Deny);
    assert_eq!(policy.resolution.on_unauthorized, policy::Outcome::Allow);
    assert_eq!(policy.resolution.on_forbidden_address, policy::Outcome::Deny);
}

#[test]
fn an_exception_without_rules_waives_all_but_pin() {
    let policy = compiled(exception(json!({})));
    let [waived] = policy.exceptions.as_slice() else { panic!("one exception") };
    assert_eq!(waived.rules, RuleSet::from_iter([Rule::Reference, Rule::Tags, Rule::Existence]));
    assert!(waived.images.is_none() && waived.namespaces.is_empty());
    let policy =
        compiled(exception(json!({ "rules": ["pin"], "namespaces": ["batch"], "images": ["ghcr.io/**"] })));
    let [waived] = policy.exceptions.as_slice() else { panic!("one exception") };
    assert_eq!(waived.rules, RuleSet::from_iter([Rule::Pin]));
    assert_eq!(waived.namespaces, BTreeSet::from(["batch".to_owned()]));
    assert!(waived.images.as_ref().unwrap().is_match("ghcr.io/acme/api", &Work::default()).unwrap());
}

#[test]
fn what_does_not_compile_names_its_field() {
    for (spec, field) in [
        (json!({ "match": { "images": ["ghcr.io/**", "[a"] } }), "spec.match.images[1]"),
        (
            json!({ "match": { "kinds": [{ "group": "argoproj.io", "kind": "Rollout" }] } }),
            "spec.match.kinds[0]",
        ),
        (json!({ "rules": { "tags": { "forbidden": ["{a"] } } }), "spec.rules.tags.forbidden[0]"),
        (json!({ "resolution": { "lastKnownMaxAge": "a week" } }), "spec.resolution.lastKnownMaxAge"),
        (json!({ "resolution": { "lastKnownMaxAge": "9999999999h" } }), "spec.resolution.lastKnownMaxAge"),
        (exception(json!({ "expires": "2027-02-30T00:00:00Z" })), "spec.exceptions[0].expires"),
        (exception(json!({ "images": ["[a"] })), "spec.exceptions[0].images[0]"),
    ] {
        let error = compile(spec).unwrap_err();
        assert_eq!(error.field, field);
        assert!(error.to_string().starts_with(&format!("{field}: ")), "{error}");
    }
}

#[test]
fn a_glob_that_matches_nothing_says_what_to_write() {
    let policy = compiled(json!({ "match": { "images": ["ghcr.io/**", "docker.io/Library/web"] } }));
    let notes: Vec<_> = policy.notes(Timestamp::UNIX_EPOCH).iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        ["spec.match.images[1]: \"docker.io/Library/web\" matches nothing: names are in lower case"]
    );
}

#[test]
fn parts_without_effect_are_noted() {
    let soft = |mode: &str| json!({ "mode": mode, "resolution": { "onUnavailable": "Deny" } });
    let with = |fields: Value, spec: Value| {
        let mut whole = exception(fields);
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        whole
    };
    let silent = json!({ "rules": { "tags": { "forbidden": [] }, "existence": "Ignore" } });
    let no_tags = json!({ "rules": { "tags": { "forbidden": [] } } });
    for (spec, noted) in [
        (json!({}), vec![]),
        (soft("Enforce"), vec![]),
        (soft("Warn"), vec!["resolution.onUnavailable: Deny only warns, because the mode is Warn"]),
        (soft("Audit"), vec!["resolution.onUnavailable: Deny is only counted, because the mode is Audit"]),
        (silent.clone(), vec!["the policy demands nothing but a readable reference, because"]),
        (
            json!({ "mode": "Enforce", "rules": { "existence": "Ignore" }, "resolution": { "onUnauthorized": "Deny" } }),
            vec!["resolution.onUnauthorized: Deny has no effect, because no registry is asked"],
        ),
        (exception(json!({})), vec![]),
        (with(json!({}), no_tags.clone()), vec![]),
        (
            with(json!({ "rules": ["tags", "existence"] }), no_tags),
            vec!["the exception legacy waives the rule tags, which this policy does not demand"],
        ),
        (
            exception(json!({ "rules": ["pin"] })),
            vec!["the exception legacy waives the rule pin, which this policy does not demand"],
        ),
        (with(json!({ "rules": ["pin"] }), json!({ "pin": { "targets": ["Pods"] } })), vec![]),
        (
            exception(json!({ "expires": "2026-11-21T12:00:00Z" })),
            vec!["the exception legacy expired at 2026-11-21T12:00:00Z"],
        ),
        (exception(json!({ "expires": "2026-11-21T12:00:01Z" })), vec![]),
        (
            exception(json!({ "images": ["ghcr.io/**", "https://ghcr.io/**"] })),
            vec![
                "spec.exceptions[0].images[1]: \"https://ghcr.io/**\" matches nothing: write the name without a scheme",
            ],
        ),
        (
            json!({ "rules": { "tags": { "forbidden": ["-dev"] } } }),
            vec!["spec.rules.tags.forbidden[0]: \"-dev\" matches nothing: a tag has letters"],
        ),
    ] {
        let notes = compiled(spec.clone()).notes("2026-11-21T12:00:00Z".parse().unwrap());
        let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
        assert_eq!(notes.len(), noted.len(), "{spec}: {notes:?}");
        for (note, wanted) in notes.iter().zip(&noted) {
            assert!(note.starts_with(wanted), "{spec}: {note}");
        }
    }
}

#[test]
fn a_namespaced_policy_selects_by_its_namespace_alone() {
    let id = PolicyId { namespace: Some("shop".to_owned()), name: "strict".to_owned() };
    let spec = json!({ "match": { "namespaceSelector": { "matchLabels": { "a": "b" } } } });
    let spec: ImagePolicySpec = serde_json::from_value(spec).unwrap();
    let policy = spec.compile(id.clone()).unwrap();
    assert_eq!(policy.id, id);
    assert_eq!(policy.scope.namespaces, policy::Selector::default());
}

#[test]
fn a_last_good_spec_compiles_again_whatever_else_it_holds() {
    let mut spec = serde_json::to_value(ClusterImagePolicySpec::default()).unwrap();
    spec["mode"] = json!("Enforce");
    spec["ofALaterVersion"] = json!({ "x": [1] });
    assert_eq!(compiled(spec).mode, policy::Mode::Enforce);
}

#[test]
fn what_a_policy_does_not_demand_is_no_check() {
    for (tags, existence, targets, checks) in [
        (json!({ "forbidden": [] }), "Ignore", json!([]), 2),
        (json!({ "forbidden": [], "requireExplicit": true }), "Ignore", json!([]), 3),
        (json!({ "forbidden": [] }), "Tags", json!([]), 4),
        (json!({ "forbidden": [] }), "Ignore", json!(["Pods"]), 4),
    ] {
        let spec =
            json!({ "rules": { "tags": tags, "existence": existence }, "pin": { "targets": targets } });
        let policy = compiled(spec);
        assert_eq!(policy.checks.len(), checks, "{:?}", policy.checks);
        assert!(policy.checks.is_sorted_by_key(Check::stage));
    }
}
