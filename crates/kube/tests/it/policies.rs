//! The generation of a policy that is in force.

use std::sync::Arc;

use kube::core::ObjectMeta;
use serde_json::{Value, json};
use tagpin_domain::policy::{Mode, PolicyId, PolicyKind};
use tagpin_kube::image_policy::{ClusterImagePolicy, ImagePolicy};
use tagpin_kube::policies::{InForce, Policies, Reported};

fn metadata(name: &str, uid: &str, generation: i64) -> ObjectMeta {
    serde_json::from_value(json!({ "name": name, "uid": uid, "generation": generation })).unwrap()
}

fn policy(uid: &str, generation: i64, spec: Value) -> Reported {
    Reported::parse::<ClusterImagePolicy>(&metadata("base", uid, generation), spec, Value::Null)
}

fn broken() -> Value {
    json!({ "mode": "Enforce", "match": { "images": ["[a"] } })
}

fn id(name: &str) -> PolicyId {
    PolicyId { namespace: None, name: name.into() }
}

/// Returns the generation of the only policy, true if it has an error, and the mode in force.
fn state(policies: &Policies) -> (Option<i64>, bool, Option<Mode>) {
    let row = policies.rows().pop().unwrap();
    let set = policies.in_force();
    (row.generation, row.error.is_some(), set.cluster.first().map(|policy| policy.mode))
}

#[test]
fn a_generation_that_does_not_compile_keeps_the_last_good_one() {
    let policies = Policies::default();
    policies.apply(policy("u", 1, json!({ "mode": "Warn" })));
    assert_eq!(state(&policies), (Some(1), false, Some(Mode::Warn)));
    policies.apply(policy("u", 2, broken()));
    assert_eq!(state(&policies), (Some(1), true, Some(Mode::Warn)));
    let error = policies.rows().pop().unwrap().error.unwrap();
    assert!(error.starts_with("spec.match.images[0]: "), "{error}");
    policies.apply(policy("u", 3, broken()));
    assert_eq!(state(&policies), (Some(1), true, Some(Mode::Warn)));
    policies.apply(policy("u", 4, json!({ "mode": "Enforce" })));
    assert_eq!(state(&policies), (Some(4), false, Some(Mode::Enforce)));
}

#[test]
fn a_spec_that_is_in_force_is_not_compiled_anew() {
    let policies = Policies::default();
    let report = |generation, spec: &Value, status: Value| {
        policies.parse::<ClusterImagePolicy>(&metadata("base", "u", generation), spec.clone(), status)
    };
    let compiled = |reported: &Reported| Arc::clone(&reported.compiled.as_ref().unwrap().policy);
    let spec = json!({ "mode": "Warn", "match": { "images": ["ghcr.io/**"] } });
    let first = report(1, &spec, Value::Null);
    let policy = compiled(&first);
    policies.apply(first);
    // A write to the status reports the policy again, with the last good generation.
    let good = |generation, spec: &Value| json!({ "lastGood": { "generation": generation, "spec": spec } });
    let again = report(1, &spec, good(1, &spec));
    assert!(Arc::ptr_eq(&compiled(&again), &policy));
    assert!(Arc::ptr_eq(&again.last_good.as_ref().unwrap().policy, &policy));
    policies.apply(again);
    let mended = json!({ "mode": "Enforce" });
    let broken = report(2, &broken(), good(1, &spec));
    assert!(broken.compiled.is_err() && Arc::ptr_eq(&broken.last_good.as_ref().unwrap().policy, &policy));
    policies.apply(broken);
    let newer = report(3, &mended, good(1, &spec));
    let good = newer.compiled.as_ref().unwrap();
    assert_eq!((good.generation, good.policy.mode), (3, Mode::Enforce));
    assert!(Arc::ptr_eq(&newer.last_good.as_ref().unwrap().policy, &policy));
    // At a start nothing is in force, and the last good generation is the newest one.
    let start = Policies::default().parse::<ClusterImagePolicy>(
        &metadata("base", "u", 3),
        mended.clone(),
        json!({ "lastGood": { "generation": 3, "spec": mended } }),
    );
    assert!(Arc::ptr_eq(&compiled(&start), &start.last_good.as_ref().unwrap().policy));
}

#[test]
fn a_status_with_a_field_that_cannot_be_read_keeps_its_last_good_generation() {
    let good = json!({ "generation": 3, "spec": { "mode": "Enforce" } });
    let after_restart = |status: Value| {
        let policies = Policies::default();
        policies.apply(Reported::parse::<ClusterImagePolicy>(&metadata("base", "u", 4), broken(), status));
        state(&policies)
    };
    let enforced = (Some(3), true, Some(Mode::Enforce));
    for (field, value) in [
        ("observedGeneration", json!("four")),
        ("conditions", json!({})),
        ("summary", json!([1])),
        ("topViolations", json!(7)),
        ("unpinned", json!("x")),
        ("refused", json!([[]])),
        ("ofALaterVersion", json!({})),
    ] {
        let mut status = json!({ "lastGood": good });
        status[field] = value;
        assert_eq!(after_restart(status), enforced, "{field}");
    }
    // The spec matters, and not its number.
    let without_number = json!({ "lastGood": { "generation": "3", "spec": good["spec"], "more": 1 } });
    assert_eq!(after_restart(without_number), (Some(0), true, Some(Mode::Enforce)));
    for none in [json!({ "generation": 3 }), json!({ "generation": 3, "spec": [] }), json!([]), json!(null)] {
        assert_eq!(after_restart(json!({ "lastGood": none })).2, None, "{none}");
    }
    // Without a good generation, the rest of the status is read as before.
    let status = json!({ "observedGeneration": 4, "lastGood": [] });
    let reported = Reported::parse::<ClusterImagePolicy>(&metadata("base", "u", 4), broken(), status);
    assert_eq!(reported.status.observed_generation, Some(4));
}

#[test]
fn exceptions_are_counted_while_they_hold_and_expire_in_time() {
    let exception = |name: &str, expires: &str| json!({ "name": name, "reason": "until the vendor ships", "expires": expires });
    let exceptions =
        json!([exception("near", "2027-01-31T00:00:00Z"), exception("far", "2027-03-01T00:00:00Z")]);
    let policies = Policies::default();
    policies.apply(policy("u", 1, json!({ "exceptions": exceptions })));
    let set = policies.in_force();
    let expiring = |now: &str, then: &str| set.expiring(now.parse().unwrap(), then.parse().unwrap());
    assert_eq!(expiring("2027-01-20T00:00:00Z", "2027-01-27T00:00:00Z"), 0);
    assert_eq!(expiring("2027-01-24T00:00:00Z", "2027-01-31T00:00:00Z"), 1);
    assert_eq!(expiring("2027-01-24T00:00:00Z", "2027-03-31T00:00:00Z"), 2);
    assert_eq!(expiring("2027-01-31T00:00:00Z", "2027-03-31T00:00:00Z"), 1);
}

#[test]
fn a_spec_of_another_version_is_an_error_of_that_policy_alone() {
    let policies = Policies::default();
    let other = Reported::parse::<ClusterImagePolicy>(&metadata("other", "o", 1), json!({}), Value::Null);
    policies.replace(
        PolicyKind::ClusterImagePolicy,
        vec![policy("u", 1, json!({ "mode": "Obliterate" })), other],
    );
    let rows = policies.rows();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].generation, rows[0].error.is_some()), (None, true));
    assert_eq!((rows[1].generation, rows[1].error.is_some()), (Some(1), false));
    policies.apply(policy("u", 2, json!("text")));
    assert_eq!(policies.rows()[0].error.as_deref(), Some("spec: is not an object"));
    // A status that cannot be read hides nothing.
    let status = json!({ "conditions": "many" });
    policies.apply(Reported::parse::<ClusterImagePolicy>(&metadata("base", "u", 3), json!({}), status));
    assert_eq!(policies.rows()[0].generation, Some(3));
}

#[test]
fn after_a_restart_the_last_good_generation_comes_from_the_status() {
    let policies = Policies::default();
    let last_good = json!({ "lastGood": { "generation": 7, "spec": { "mode": "Warn" } } });
    let reported =
        Reported::parse::<ClusterImagePolicy>(&metadata("base", "u", 9), broken(), last_good.clone());
    policies.replace(PolicyKind::ClusterImagePolicy, vec![reported]);
    assert_eq!(state(&policies), (Some(7), true, Some(Mode::Warn)));
    // The generation in memory is newer than the one in the status.
    policies.apply(policy("u", 10, json!({ "mode": "Enforce" })));
    policies.apply(Reported::parse::<ClusterImagePolicy>(&metadata("base", "u", 11), broken(), last_good));
    assert_eq!(state(&policies), (Some(10), true, Some(Mode::Enforce)));
    // A last good generation that no longer compiles does not count.
    let policies = Policies::default();
    let rotten = json!({ "lastGood": { "generation": 7, "spec": { "mode": "Gone" } } });
    policies.apply(Reported::parse::<ClusterImagePolicy>(&metadata("base", "u", 9), broken(), rotten));
    assert_eq!(state(&policies), (None, true, None));
}

#[test]
fn a_policy_made_anew_owes_nothing_to_its_namesake() {
    let policies = Policies::default();
    policies.apply(policy("first", 5, json!({ "mode": "Enforce" })));
    policies.apply(policy("second", 1, broken()));
    assert_eq!(state(&policies), (None, true, None));
    policies.delete(&id("base"), "first");
    assert_eq!(policies.rows().len(), 1, "the deletion was late");
    policies.delete(&id("base"), "second");
    assert!(policies.rows().is_empty());
    assert!(policies.in_force().cluster.is_empty());
}

#[test]
fn late_and_doubled_events_change_nothing() {
    let policies = Policies::default();
    policies.apply(policy("u", 3, json!({ "mode": "Enforce" })));
    let before = policies.in_force();
    policies.apply(policy("u", 2, json!({ "mode": "Audit" })));
    policies.apply(policy("u", 3, json!({ "mode": "Enforce" })));
    assert!(std::sync::Arc::ptr_eq(&before, &policies.in_force()), "nothing was published");
    assert_eq!(state(&policies), (Some(3), false, Some(Mode::Enforce)));
}

#[test]
fn a_list_of_one_kind_leaves_the_other_alone() {
    let policies = Policies::default();
    let namespaced = |namespace: &str, name: &str| {
        let mut metadata = metadata(name, name, 1);
        metadata.namespace = Some(namespace.to_owned());
        Reported::parse::<ImagePolicy>(&metadata, json!({}), Value::Null)
    };
    policies.apply(policy("u", 1, json!({})));
    policies.replace(
        PolicyKind::ImagePolicy,
        vec![namespaced("b", "z"), namespaced("b", "a"), namespaced("a", "m")],
    );
    policies.replace(PolicyKind::ClusterImagePolicy, vec![]);
    let set = policies.in_force();
    assert!(set.cluster.is_empty());
    let names = |namespace: &str| -> Vec<_> {
        set.of_namespace(namespace).map(|policy| policy.id.name.clone()).collect()
    };
    assert_eq!(
        (names("a"), names("b"), names("c")),
        (vec!["m".into()], vec!["a".into(), "z".into()], vec![])
    );
}

#[test]
fn what_only_a_read_by_name_finds_is_in_force_until_a_read_finds_it_gone() {
    let policies = Policies::default();
    assert!(policies.read_by_name(&id("base"), Some(policy("u", 1, json!({ "mode": "Enforce" })))));
    assert_eq!(state(&policies), (Some(1), false, Some(Mode::Enforce)));
    assert!(policies.all()[0].by_name);
    policies.replace(PolicyKind::ClusterImagePolicy, vec![]);
    assert_eq!(policies.rows().len(), 1, "a list that leaves it out changes nothing");
    assert!(policies.read_by_name(&id("base"), Some(policy("u", 1, json!({ "mode": "Enforce" })))));
    // The watch reports the policy at last.
    policies.apply(policy("u", 1, json!({ "mode": "Enforce" })));
    assert!(!policies.all()[0].by_name);
    assert!(!policies.read_by_name(&id("base"), Some(policy("u", 1, json!({ "mode": "Enforce" })))));
    // From now on, only the watch can report that the policy is gone.
    assert!(!policies.read_by_name(&id("base"), None));
    assert_eq!(policies.rows().len(), 1);

    let policies = Policies::default();
    policies.read_by_name(&id("base"), Some(policy("u", 1, json!({}))));
    assert!(!policies.read_by_name(&id("base"), None));
    assert!(policies.rows().is_empty());
}

#[test]
fn rows_are_read_back_as_they_were_written() {
    let policies = Policies::default();
    policies.apply(policy("u", 2, broken()));
    let written = serde_json::to_value(policies.rows()).unwrap();
    assert_eq!(written[0]["kind"], "ClusterImagePolicy");
    assert_eq!(written[0].get("generation"), None);
    assert_eq!(serde_json::from_value::<Vec<InForce>>(written).unwrap(), policies.rows());
}
