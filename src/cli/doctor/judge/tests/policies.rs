//! Rows about what policies say.

use super::*;

#[test]
fn parts_of_a_policy_without_effect_are_a_note_beside_the_policies_in_force() {
    let change = |found: &mut Findings| {
        policy_mut(found).notes =
            vec!["the exception old expired at 2026-01-31T00:00:00Z".into(), "more".into()];
    };
    let row = one("policies", Status::Note, change);
    assert_eq!(
        row.detail,
        "clusterimagepolicy/baseline: the exception old expired at 2026-01-31T00:00:00Z, more"
    );
    assert_eq!(row.remedy.unwrap(), "kubectl edit clusterimagepolicies.tagpin.dev baseline");
    assert_eq!(one("policies", Status::Ok, change).detail, "1 in force on every replica");
}
