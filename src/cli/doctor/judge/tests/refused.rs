//! The row `refused`, and the exceptions that it prints.

use serde_json::{Value, json};
use tagpin_domain::asker::Requester;
use tagpin_domain::policy::{PolicyId, PolicySet};
use tagpin_domain::work::Budget;
use tagpin_objects::image_policy::{ClusterImagePolicySpec, PolicySpec as _, Refused};

use super::{one, policy_mut};
use crate::cli::doctor::findings::Findings;
use crate::cli::doctor::judge::{Row, Status};

const RUNNER: &str = "system:serviceaccount:ci:runner";

fn refused(user: &str, image: &str, code: &str, count: u32) -> Refused {
    let last = "2026-11-25T11:00:00Z".parse().unwrap();
    let text = str::to_owned;
    Refused {
        namespace: text("ci"),
        kind: text("Pod"),
        user: text(user),
        image: text(image),
        code: text(code),
        count,
        last,
    }
}

fn row(rows: Vec<Refused>, change: impl FnOnce(&mut Findings)) -> Row {
    one("refused", Status::Note, |found| {
        policy_mut(found).refused = rows;
        change(found);
    })
}

/// Returns the exceptions in the command of a row.
fn exceptions(row: &Row) -> Value {
    let remedy = row.remedy.as_deref().unwrap();
    let (command, rest) = remedy.split_once(" --set-json 'baseline.exceptions=").unwrap();
    assert!(command.starts_with("helm upgrade tagpin ") && command.ends_with(" --reuse-values"), "{remedy}");
    let written = rest.strip_suffix('\'').unwrap();
    assert!(!written.contains('\''), "{written}");
    serde_json::from_str(written).unwrap()
}

#[test]
fn who_is_refused_again_and_again_gets_an_exception_to_paste() {
    let rows = vec![
        refused(RUNNER, "busybox", "TagForbidden", 214),
        refused(RUNNER, "alpine:latest", "TagForbidden", 12),
        refused("anna", "gone:1", "TagNotFound", 10),
        refused("bert", "web", "TagForbidden", 9),
    ];
    let row = row(rows, |_| {});
    assert!(
        row.detail.starts_with(
            "clusterimagepolicy/baseline: system:serviceaccount:ci:runner is refused 214 times: Pod in ci, \"busybox\" [TagForbidden]; "
        ),
        "{row:?}"
    );
    assert!(!row.detail.contains("bert"), "{row:?}");
    let exception = |name: &str, user: &str, count: u32, rule: &str, images: &[&str]| {
        json!({
            "name": name, "reason": format!("{user} was refused {count} times; correct its images until this ends"),
            "namespaces": ["ci"], "users": [user], "rules": [rule], "images": images, "expires": "2027-02-23T00:00:00Z",
        })
    };
    let images = ["docker.io/library/alpine", "docker.io/library/busybox"];
    assert_eq!(
        exceptions(&row),
        json!([
            exception("refused-1", "anna", 10, "existence", &["docker.io/library/gone"]),
            exception("refused-2", RUNNER, 226, "tags", &images),
        ])
    );
}

#[test]
fn the_exceptions_that_the_values_have_stay() {
    let row = row(vec![refused(RUNNER, "busybox", "TagForbidden", 10)], |found| {
        let wanted = found.baseline.as_mut().unwrap().wanted.as_mut().unwrap();
        wanted["exceptions"] = json!([{ "name": "refused-1" }]);
    });
    let exceptions = exceptions(&row);
    assert_eq!((&exceptions[0]["name"], &exceptions[1]["name"]), (&json!("refused-1"), &json!("refused-2")));
}

#[test]
fn a_printed_exception_covers_its_user_and_nobody_else() {
    let odd = "o'brien [a*]{b,c}?";
    let printed = exceptions(&row(vec![refused(odd, "Not A Reference", "ReferenceInvalid", 10)], |_| {}));
    assert_eq!(printed[0]["images"], Value::Null, "a list of images covers no image that cannot be read");
    let spec: ClusterImagePolicySpec = serde_json::from_value(json!({ "exceptions": printed })).unwrap();
    let policy = spec.compile(PolicyId { namespace: None, name: "baseline".into() }).unwrap();
    let policies = PolicySet { cluster: vec![policy.into()], ..PolicySet::default() };
    let is_named =
        |user: &str| !policies.naming("ci", &Requester::new(user, false), &Budget::default()).is_empty();
    assert!(is_named(odd));
    for other in ["o'brien a", "o'brien [a*]bx", "o'brien [a*]{b,c}", "o'brien [abc]{b,c}?"] {
        assert!(!is_named(other), "{other}");
    }
}

#[test]
fn a_policy_that_is_not_made_from_values_is_edited() {
    let rows = || vec![refused(RUNNER, "busybox", "TagForbidden", 10)];
    let theirs = row(rows(), |found| found.baseline.as_mut().unwrap().held.as_mut().unwrap().ours = false);
    let other = row(rows(), |found| policy_mut(found).id.name = "other".into());
    let cut = row(vec![refused(&format!("{RUNNER}..."), "busybox", "TagForbidden", 10)], |_| {});
    for (row, name) in [(theirs, "baseline"), (other, "other"), (cut, "baseline")] {
        let remedy = row.remedy.unwrap();
        assert!(
            remedy.ends_with(&format!("kubectl edit clusterimagepolicies.tagpin.dev {name}")),
            "{remedy}"
        );
    }
}
