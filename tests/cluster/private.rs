//! Private repositories: tagpin answers for pods that have the pull secret, and tells others nothing.

use serde_json::{Value, json};

use crate::support::manifests::{container, deployment, pod, pod_with};
use crate::support::release::{OtherValues, helm};
use crate::support::rig::{self, Rig};
use crate::support::{LIMIT, Namespace, alone, image, kubectl, kubectl_with, undisturbed, wait_for};

const IMAGE: &str = "private.registry.test/team/api:1.0.0";

/// The same image behind a gateway that answers 404 to those who have no password.
const HIDDEN: &str = "hiding.registry.test:8443/team/api:1.0.0";

fn secret(rig: &Rig, namespace: &Namespace) {
    secret_with(&rig.private_registry("password"), rig, namespace);
}

fn secret_with(password: &str, rig: &Rig, namespace: &Namespace) {
    secret_for(IMAGE, password, rig, namespace);
}

fn secret_for(image: &str, password: &str, rig: &Rig, namespace: &Namespace) {
    let server = format!("--docker-server={}", image.split('/').next().unwrap());
    let user = format!("--docker-username={}", rig.private_registry("username"));
    let password = format!("--docker-password={password}");
    namespace
        .kubectl(&["create", "secret", "docker-registry", "pull", &server, &user, &password])
        .succeeded();
}

fn with_secret(name: &str) -> String {
    with_secret_and(name, IMAGE)
}

fn with_secret_and(name: &str, image: &str) -> String {
    pod_with(
        name,
        &format!("{{ imagePullSecrets: [ {{ name: pull }} ], containers: [ {} ] }}", container("app", image)),
    )
}

#[test]
fn with_its_pull_secret_a_private_image_is_pinned_and_runs() {
    let Some(rig) = rig::here("has a private registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("private");
    secret(&rig, &namespace);
    namespace.apply(&with_secret("api")).succeeded();
    assert!(image(&namespace.get("pod", "api")).starts_with(&format!("{IMAGE}@sha256:")));
    namespace.wait("pod/api", "condition=Ready");
}

#[test]
fn the_service_accounts_pull_secret_counts() {
    let Some(rig) = rig::here("has a private registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("account");
    secret(&rig, &namespace);
    let patch = r#"{"imagePullSecrets":[{"name":"pull"}]}"#;
    namespace.kubectl(&["patch", "serviceaccount", "default", "-p", patch]).succeeded();
    wait_for("the pin", LIMIT, || {
        namespace.kubectl(&["delete", "pod", "api", "--ignore-not-found", "--grace-period=0", "--force"]);
        namespace.apply(&pod("api", IMAGE)).succeeded();
        image(&namespace.get("pod", "api")).starts_with(&format!("{IMAGE}@sha256:")).then_some(())
    });
}

#[test]
fn an_account_that_is_made_with_its_workload_counts_and_a_missing_one_is_not_taken_for_one_without_secrets() {
    let Some(rig) = rig::here("has a private registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("new-account");
    secret(&rig, &namespace);
    let account = |name: &str| {
        format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{ name: {name} }}\nimagePullSecrets: [ {{ name: pull }} ]\n"
        )
    };
    let workload = |name: &str| {
        let named = format!("serviceAccountName: {name}, terminationGracePeriodSeconds");
        deployment(name, IMAGE, 1).replace("terminationGracePeriodSeconds", &named)
    };
    let pinned = |name: &str| {
        let pods = namespace.pods_when(&format!("app={name}"), 1);
        assert!(image(&pods[0]).starts_with(&format!("{IMAGE}@sha256:")), "{pods:?}");
    };
    let both = namespace.apply(&format!("{}---\n{}", account("robot"), workload("robot")));
    assert!(!both.err.contains("Repository") && !both.err.contains("Unavailable"), "{both:?}");
    both.succeeded();
    pinned("robot");

    let early = namespace.apply(&workload("early"));
    let unknown = "the pull secrets of the service account are not known";
    assert!(early.err.contains("RegistryUnavailable") && early.err.contains(unknown), "{early:?}");
    early.succeeded();
    namespace.apply(&account("early")).succeeded();
    pinned("early");
}

/// The name of a Secret with a file of registries.
const NODES_FILE: &str = "nodes-registries";

/// A Secret beside tagpin with the file of registries that the release has, and with the password of the private registry;
/// it is deleted when this is dropped.
struct NodesFile;

impl NodesFile {
    fn new(rig: &Rig) -> Self {
        let values = helm(&["get", "values", "tagpin", "--output", "json"]).succeeded();
        let values: Value = serde_json::from_str(&values).unwrap();
        let mirrors = values["registriesFile"]["content"].as_str().unwrap();
        let host = IMAGE.split('/').next().unwrap();
        let [user, password] = ["username", "password"].map(|file| rig.private_registry(file));
        let auth = json!({ host: { "auth": { "username": user, "password": password } } });
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": NODES_FILE, "namespace": "tagpin-system" },
            "stringData": { "registries.yaml": format!("{mirrors}\nconfigs: {auth}\n") },
        });
        kubectl_with(&["apply", "-f", "-"], &secret.to_string()).succeeded();
        Self
    }
}

impl Drop for NodesFile {
    fn drop(&mut self) {
        drop(kubectl(&["-n", "tagpin-system", "delete", "secret", NODES_FILE]));
    }
}

#[test]
fn the_password_in_a_secret_with_the_nodes_file_counts_for_pods_without_one() {
    let Some(rig) = rig::here("has a private registry") else { return };
    let _cluster = alone();
    let namespace = Namespace::new("nodes-file");
    let before = namespace.apply(&pod("before", IMAGE));
    assert!(before.err.contains("RepositoryMissingOrPrivate"), "{before:?}");
    before.succeeded();
    assert_eq!(image(&namespace.get("pod", "before")), IMAGE);

    let _file = NodesFile::new(&rig);
    let secret = format!("registriesFile.secret.name={NODES_FILE},registriesFile.secret.key=registries.yaml");
    let _values = OtherValues::set(&format!("registriesFile.content=,{secret}"));
    let mut number = 0;
    wait_for("the password of the file to be used", LIMIT, || {
        number += 1;
        let name = format!("after-{number}");
        namespace.apply_again(&pod(&name, IMAGE));
        image(&namespace.get("pod", &name)).starts_with(&format!("{IMAGE}@sha256:")).then_some(())
    });
    // The mirrors of the file count as before.
    namespace.apply(&pod("public", "web:1.4.2")).succeeded();
    assert!(image(&namespace.get("pod", "public")).contains("@sha256:"));
}

#[test]
fn without_it_the_answer_is_the_declared_outcome_and_tells_nothing() {
    let Some(rig) = rig::here("has a private registry") else { return };
    let _cluster = undisturbed();
    let holder = Namespace::new("holder");
    secret(&rig, &holder);
    holder.apply(&with_secret("api")).succeeded();
    assert!(image(&holder.get("pod", "api")).contains("@sha256:"));

    // A pod in another namespace names the same pull secret, which does not exist there.
    let other = Namespace::new("other");
    let existing = other.apply(&with_secret("api"));
    assert!(existing.err.contains("RepositoryMissingOrPrivate"), "{existing:?}");
    existing.succeeded();
    assert_eq!(image(&other.get("pod", "api")), IMAGE);
    let missing = other.apply(&with_secret("none").replace("1.0.0", "0.0.0-none"));
    assert!(missing.err.contains("RepositoryMissingOrPrivate"), "{missing:?}");
    missing.succeeded();
}

#[test]
fn a_pull_secret_that_is_rotated_counts_within_a_minute() {
    let Some(rig) = rig::here("has a private registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("rotated");
    secret_with("of-last-year", &rig, &namespace);
    let refused = namespace.apply(&with_secret("before"));
    assert!(refused.err.contains("CredentialsRejected") && refused.err.contains("pull"), "{refused:?}");
    refused.succeeded();
    assert_eq!(image(&namespace.get("pod", "before")), IMAGE);

    namespace.kubectl(&["delete", "secret", "pull"]).succeeded();
    secret(&rig, &namespace);
    let mut number = 0;
    wait_for("the new password to be used", LIMIT, || {
        number += 1;
        let name = format!("after-{number}");
        namespace.apply_again(&with_secret(&name));
        image(&namespace.get("pod", &name)).starts_with(&format!("{IMAGE}@sha256:")).then_some(())
    });
}

#[test]
fn a_registry_that_hides_images_refuses_none_until_it_shows_the_repository() {
    let Some(rig) = rig::here("has a registry that hides images") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("hidden");
    for (name, image) in [("unseen", HIDDEN.to_owned()), ("unseen-typo", HIDDEN.replace("1.0.0", "9.9.9"))] {
        let unseen = namespace.apply(&pod(name, &image));
        assert!(unseen.err.contains("RepositoryMissingOrPrivate"), "{unseen:?}");
        unseen.succeeded();
        assert_eq!(self::image(&namespace.get("pod", name)), image);
    }
    secret_for(HIDDEN, &rig.private_registry("password"), &rig, &namespace);
    namespace.apply(&with_secret_and("seen", HIDDEN)).succeeded();
    assert!(image(&namespace.get("pod", "seen")).starts_with(&format!("{HIDDEN}@sha256:")));
    namespace.wait("pod/seen", "condition=Ready");
    let typo = namespace.apply(&with_secret_and("seen-typo", &HIDDEN.replace("1.0.0", "9.9.9")));
    assert!(typo.err.contains("TagNotFound"), "{typo:?}");
    assert!(!typo.ok, "{typo:?}");
}
