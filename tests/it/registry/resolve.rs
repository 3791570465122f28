//! `tagpin resolve` as a process, against Debian's `docker-registry`.

use std::path::Path;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tempfile::TempDir;

use super::debian::{Access, OCI_INDEX, OCI_MANIFEST, Pusher, Registry};
use super::support::AUTHORITY;

/// Runs it with a home and nothing else in its environment.
fn resolve(home: &Path, args: &[&str]) -> Output {
    let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    tagpin.arg("resolve").args(args).env_clear().env("HOME", home).output().unwrap()
}

fn stdout(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.is_empty(), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// A home with a configuration of registries in `registries.yaml`.
fn home(registries: &str) -> TempDir {
    let home = TempDir::new().unwrap();
    std::fs::write(home.path().join("registries.yaml"), registries).unwrap();
    std::fs::write(home.path().join("ca.pem"), &AUTHORITY.ca).unwrap();
    home
}

fn plain(registry: &Registry) -> TempDir {
    let authority = registry.authority();
    home(&format!(
        "registries:\n- match: '{authority}'\n  allowPrivate: true\n  resolveFrom: mirrors-only\n  mirrors: [{{ url: 'http://{authority}' }}]\n"
    ))
}

fn config(home: &TempDir) -> String {
    format!("--registries={}", home.path().join("registries.yaml").display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_what_was_asked_answered_and_chosen() {
    let registry = Registry::start(&Access::Open);
    let digest = registry.push_index("team/app", "1.4.6", OCI_INDEX, &Pusher::Anyone).await;
    let home = plain(&registry);
    let image = format!("{}/team/app:1.4.6", registry.authority());

    let output = resolve(home.path(), &[&image, &config(&home)]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert_eq!(text.lines().last(), Some(format!("{image}@{digest}").as_str()));
    assert!(text.contains(&format!("HEAD {}/v2/team/app/manifests/1.4.6: 200", registry.url())), "{text}");

    let answer = json(&resolve(home.path(), &[&image, &config(&home), "--output=json"]));
    assert_eq!(answer["outcome"], "Present");
    assert_eq!(answer["reference"], image);
    assert_eq!(answer["image"], image);
    assert_eq!(answer["digest"], digest);
    assert_eq!(answer["pinned"], format!("{image}@{digest}"));
    assert_eq!(answer["didYouMean"], Value::Array(Vec::new()));
    let steps = answer["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert_eq!(steps[0]["step"], "request");
    assert_eq!(steps[0]["method"], "HEAD");
    assert_eq!(steps[0]["status"], 200);
    assert_eq!(steps[1]["step"], "endpoint");
    assert_eq!(steps[1]["outcome"], "Present");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_tag_is_a_violation_with_what_to_type_instead() {
    let registry = Registry::start(&Access::Open);
    registry.push_image("team/app", "1.4.6", OCI_MANIFEST, &Pusher::Anyone).await;
    let home = plain(&registry);
    let image = format!("{}/team/app:1.4.7", registry.authority());

    let output = resolve(home.path(), &[&image, &config(&home)]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    let first = format!(
        "image \"{image}\": tag \"1.4.7\" does not exist in {}/team/app [TagNotFound]",
        registry.authority()
    );
    assert!(text.contains(&first), "{text}");
    assert!(text.contains("did you mean: 1.4.6"), "{text}");

    let missing = format!("{}/team/none:1", registry.authority());
    let output = resolve(home.path(), &[&missing, &config(&home), "--output=json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)["outcome"], "RepositoryNotFound");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_persons_own_credentials_are_used_and_never_shown() {
    const PASSWORD: &str = "not-to-be-shown";
    let registry = Registry::start(&Access::Password(PASSWORD));
    let robot = Pusher::Robot(PASSWORD.to_owned());
    let digest = registry.push_image("team/app", "1", OCI_MANIFEST, &robot).await;
    let authority = registry.authority();
    let home = home(&format!(
        "registries:\n- match: '{authority}'\n  allowPrivate: true\n  tls: {{ caFile: ca.pem }}\n"
    ));
    let image = format!("{authority}/team/app:1");

    let stranger = resolve(home.path(), &[&image, &config(&home), "--output=json"]);
    assert_eq!(stranger.status.code(), Some(3));
    assert_eq!(json(&stranger)["outcome"], "RepositoryMissingOrPrivate");

    let encoded = STANDARD.encode(format!("robot:{PASSWORD}"));
    std::fs::create_dir(home.path().join(".docker")).unwrap();
    let docker = home.path().join(".docker/config.json");
    std::fs::write(&docker, format!(r#"{{"auths":{{"{authority}":{{"auth":"{encoded}"}}}}}}"#)).unwrap();
    for format in ["text", "json"] {
        let output = resolve(home.path(), &[&image, &config(&home), "--output", format]);
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains(&digest) && text.contains(&docker.display().to_string()), "{text}");
        assert!(!text.contains(PASSWORD) && !text.contains(&encoded), "{text}");
    }
}

#[test]
fn what_is_not_asked_says_so_and_how_to_ask_it() {
    let home = home("registries: []\n");
    for (image, outcome, remedy) in [
        ("localhost:1/app:1", "Offline", r#"match: "localhost:1", allowPrivate: true"#),
        ("127.0.0.1:1/app:1", "RegistryForbidden", r#"match: "127.0.0.1", allowPrivate: true"#),
        ("169.254.169.254/app:1", "RegistryForbidden", "169.254.169.254"),
        ("[::1]:1/app:1", "RegistryForbidden", "[::1]"),
    ] {
        let output = resolve(home.path(), &[image, "--output=json"]);
        let answer = json(&output);
        assert_eq!(output.status.code(), Some(3), "{image}");
        assert_eq!(answer["outcome"], outcome, "{image}");
        assert!(answer["remedy"].as_str().unwrap().contains(remedy), "{image}: {answer}");
    }
}

#[test]
fn what_no_node_could_pull_is_wrong_use() {
    let home = home("");
    for image in ["Nginx", "nginx:tag with spaces", "https://nginx", ""] {
        let output = resolve(home.path(), &[image]);
        assert_eq!(output.status.code(), Some(2), "{image}");
        assert!(output.stdout.is_empty(), "{image}");
    }
    let output = resolve(home.path(), &["nginx", "--registries=/does/not/exist"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/does/not/exist"));
}

#[test]
fn a_reference_with_a_digest_needs_no_registry() {
    let home = home("");
    let image = format!("nowhere.invalid/app:1@sha256:{}", "a".repeat(64));
    let output = resolve(home.path(), &[&image]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output).lines().last(), Some(image.as_str()));
}
