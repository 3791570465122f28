//! `tagpin tags` as a process, against the registry of the distribution project.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::distribution::{Access, OCI_MANIFEST, Pusher, Registry, Release, on_each_release};

/// Runs `tagpin tags` with only a home directory in its environment.
fn tags(home: &Path, args: &[&str]) -> Output {
    let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    tagpin.arg("tags").args(args).env_clear().env("HOME", home).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Creates a home directory whose configuration of registries leads to this registry.
fn home(registry: &Registry) -> (TempDir, String) {
    let home = TempDir::new().unwrap();
    let authority = registry.authority();
    let file = home.path().join("registries.yaml");
    let entry = format!(
        "registries:\n- match: '{authority}'\n  allowPrivate: true\n  resolveFrom: mirrors-only\n  mirrors: [{{ url: 'http://{authority}' }}]\n"
    );
    std::fs::write(&file, entry).unwrap();
    let option = format!("--registries={}", file.display());
    (home, option)
}

on_each_release!(it_lists_versions_newest_first_with_digests_on_demand, without_a_list_it_says_why,);

async fn it_lists_versions_newest_first_with_digests_on_demand(release: Release) {
    let registry = Registry::start(release, &Access::Open);
    let old = registry.push_image("team/app", "1.9.0", OCI_MANIFEST, &Pusher::Anyone).await;
    let new = registry.push_image("team/app", "1.10.0", OCI_MANIFEST, &Pusher::Anyone).await;
    registry.push_image("team/app", "latest", OCI_MANIFEST, &Pusher::Anyone).await;
    let (home, file) = home(&registry);
    let image = format!("{}/team/app", registry.authority());

    let output = tags(home.path(), &[&image, &file]);
    assert_eq!(text(&output.stdout), "1.10.0\n1.9.0\nlatest\n");
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));

    let output = tags(home.path(), &[&image, &file, "--matching=1.*", "--digests"]);
    assert_eq!(text(&output.stdout), format!("1.10.0  {new}\n1.9.0   {old}\n"));
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));

    let output = tags(home.path(), &[&image, &file, "--matching=1.9.?", "--digests", "--output=json"]);
    let expected = json!({
        "repository": image, "outcome": "Present", "tags": [ { "tag": "1.9.0", "digest": old } ], "whole": true,
        "problem": null, "remedy": null, "retryAfterSeconds": null,
    });
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), expected);

    let output = tags(home.path(), &[&image, &file, "--matching=2.*"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), ""));
    assert_eq!(text(&output.stderr), "note: no tags\n");
}

async fn without_a_list_it_says_why(release: Release) {
    let registry = Registry::start(release, &Access::Open);
    let (home, file) = home(&registry);
    let missing = format!("{}/team/none", registry.authority());
    let output = tags(home.path(), &[&missing, &file, "--output=json"]);
    assert_eq!(output.status.code(), Some(3));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["outcome"], "RepositoryMissingOrPrivate");

    // The registry shows every repository to everybody, and its entry says so.
    let entries = home.path().join("registries.yaml");
    let entry = std::fs::read_to_string(&entries).unwrap();
    std::fs::write(&entries, format!("{entry}  notFoundIsProof: true\n")).unwrap();
    let output = tags(home.path(), &[&missing, &file]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(
        said.starts_with(&format!("image \"{missing}\": {missing} does not exist [RepositoryNotFound]\n")),
        "{said}"
    );

    // An entry that says so keeps a registry from being asked.
    let offline = home.path().join("offline.yaml");
    std::fs::write(&offline, "registries: [{ match: 'localhost:1', offline: true }]\n").unwrap();
    let file = format!("--registries={}", offline.display());
    let output = tags(home.path(), &["localhost:1/team/app", "--output=json", &file]);
    assert_eq!(output.status.code(), Some(3));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["outcome"], "Offline");
    assert!(answer["remedy"].as_str().unwrap().contains("localhost:1"), "{answer}");

    for (args, says) in [
        (["nginx:1.29", "--digests"], "write the name alone (nginx)"),
        (["Nginx", "--digests"], "read the name"),
        (["nginx", "--matching={1"], "read --matching"),
        (["nginx", "--registries=/does/not/exist"], "/does/not/exist"),
    ] {
        let output = tags(home.path(), &args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(says), "{args:?}: {}", text(&output.stderr));
    }
}
