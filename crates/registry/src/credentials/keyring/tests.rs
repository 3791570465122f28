use serde::Deserialize;

use super::*;
use crate::credential::Credential;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    locations: Vec<String>,
    image: String,
    expect: Vec<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "for the reader of the table")]
    differs: bool,
}

/// A configuration whose users are named like their locations.
fn config<'a>(locations: impl IntoIterator<Item = &'a str>, password: &str) -> DockerConfig {
    let entry = |location: &str| serde_json::json!({ "username": location, "password": password });
    let auths: serde_json::Map<_, _> =
        locations.into_iter().map(|location| (location.to_owned(), entry(location))).collect();
    DockerConfig::from_dockercfg(serde_json::Value::Object(auths).to_string().as_bytes()).unwrap()
}

fn secret(name: &str) -> Source {
    Source::PullSecret(name.to_owned())
}

fn users(keyring: &Keyring, image: &str) -> Vec<String> {
    let user = |candidate: Candidate| match candidate.credential {
        Credential::Basic { username, .. } => username,
        Credential::Anonymous | Credential::NotGiven | Credential::NotRead | Credential::NotNamed => {
            "-".to_owned()
        }
        Credential::Identity(_) | Credential::Registry(_) => "token".to_owned(),
    };
    keyring.look_up(&ImageRef::parse(image).unwrap()).into_iter().map(user).collect()
}

#[test]
fn the_keyring_answers_as_the_kubelet() {
    let cases: Vec<Case> =
        serde_saphyr::from_str(include_str!("../../../../../tests/cases/keyring.yaml")).unwrap();
    assert!(cases.len() >= 30);
    for case in cases {
        let mut keyring = Keyring::default();
        keyring.add(&config(case.locations.iter().map(String::as_str), "p"), &secret("s"));
        assert_eq!(users(&keyring, &case.image), case.expect, "{}", case.name);
    }
}

#[test]
fn of_one_location_the_earlier_secret_counts_first_and_each_credential_once() {
    let mut keyring = Keyring::default();
    keyring.add(&config(["a.io"], "old"), &secret("first"));
    keyring.add(&config(["a.io", "a.io/team"], "new"), &secret("second"));
    keyring.add(&config(["a.io"], "old"), &secret("third"));
    let found = keyring.look_up(&ImageRef::parse("a.io/team/x").unwrap());
    let sources: Vec<String> = found.iter().map(|candidate| candidate.source.to_string()).collect();
    assert_eq!(sources, ["pull secret second", "pull secret first", "pull secret second"]);
    assert_eq!(users(&keyring, "a.io/team/x"), ["a.io/team", "a.io", "a.io"]);
}

#[test]
fn a_location_that_is_only_the_start_of_a_name_is_told_apart() {
    let mut keyring = Keyring::default();
    keyring.add(&config(["a.io/team", "b.io/team/", "c.io", "*.d.io/te"], "p"), &secret("s"));
    for (image, stretched) in [
        ("a.io/team/x", false),
        ("a.io/team", false),
        ("a.io/team-b/x", true),
        ("b.io/team/x", false),
        ("c.io/team", false),
        ("x.d.io/team", true),
    ] {
        let found = keyring.look_up(&ImageRef::parse(image).unwrap());
        assert_eq!(
            found.iter().map(|candidate| candidate.stretched).collect::<Vec<_>>(),
            [stretched],
            "{image}"
        );
    }
}

#[test]
fn an_entry_without_a_user_is_asked_anonymously_in_its_place() {
    let mut keyring = Keyring::default();
    let config = DockerConfig::from_config_json(br#"{"auths":{"https://index.docker.io/v1/":{}}}"#).unwrap();
    keyring.add(&config, &secret("s"));
    assert_eq!(users(&keyring, "nginx"), ["-"]);
    assert_eq!(users(&keyring, "ghcr.io/x"), Vec::<String>::new());
}
