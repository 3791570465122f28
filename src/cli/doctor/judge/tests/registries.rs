//! The rows about registries.

use super::*;

#[test]
fn a_registry_that_one_replica_does_not_reach() {
    for (result, remedy) in [
        ("connect", "curl -v https://docker.io/v2/"),
        ("429", "add registries: [{ match: \"docker.io\", credentials: {"),
        ("address-forbidden", "add registries: [{ match: \"docker.io\", allowPrivate: true }]"),
    ] {
        let change =
            |found: &mut Findings| replica_mut(found).registries = vec![asked("docker.io", result, 899)];
        says(red("registries", change), &format!("docker.io: tagpin-a heard {result} 899 s ago"), remedy);
    }
    // An entry that covers the registry gets the key, whether its label is its `match` or Docker Hub.
    for label in ["*.corp", "docker.io"] {
        let change = |found: &mut Findings| {
            let entries = vec!["docker.io".into(), "*.corp".into()];
            found.configuration = Ok(Some(Configuration { checked: Ok(vec![]), entries, unseen: vec![] }));
            replica_mut(found).registries = vec![asked(label, "address-forbidden", 5)];
        };
        says(
            red("registries", change),
            label,
            &format!("add allowPrivate: true to the entry match: \"{label}\""),
        );
    }
}

#[test]
fn a_registry_that_is_left_alone() {
    let change = |found: &mut Findings| {
        let resting = LastAsked { registry: "docker.io".into(), resting: 1, ..LastAsked::default() };
        replica_mut(found).registries = vec![resting];
    };
    says(red("registries", change), "asks again in a moment", "curl");
}

#[test]
fn an_old_failure_and_a_mistyped_host_are_not_red() {
    let old = one("registries", Status::Ok, |found| {
        replica_mut(found).registries = vec![asked("docker.io", "connect", 901)];
    });
    assert!(old.detail.contains("connect 901 s ago"), "{old:?}");
    let typo = one("registries", Status::Note, |found| {
        replica_mut(found).registries = vec![asked("other", "dns", 5)];
    });
    assert!(typo.detail.contains("dns"), "{typo:?}");
}
