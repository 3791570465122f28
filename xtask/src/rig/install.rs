//! Installs tagpin in a rig by its chart, as an admin would, with the addresses of this rig's registries.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::registries::{self, PRIVATE_HOST};
use super::state::State;
use super::tags::Tag;
use crate::image::{self, Profile};
use crate::workspace;

/// Makes the image of tagpin, pushes it, and returns its repository and digest.
pub(super) fn load(state: &State, profile: Profile) -> Result<(String, String)> {
    let image = image::make(profile)?;
    let repository = "docker.io/tagpin/tagpin";
    let tag: Tag = format!("{repository}:{}", env!("CARGO_PKG_VERSION")).parse()?;
    tag.push(state, &image.layout)?;
    Ok((repository.to_owned(), image.digest))
}

/// Returns the chart's values for this rig: the image, and the registries as its nodes have them.
fn values(state: &State, repository: &str, digest: &str) -> Result<Value> {
    let read = |file: PathBuf| fs::read_to_string(&file).with_context(|| file.display().to_string());
    Ok(json!({
        "image": { "repository": repository, "digest": digest },
        "pullSecrets": { "mode": "cluster" },
        "registries": [
            {
                "match": "docker.io",
                "resolveFrom": "mirrors-only",
                "allowPrivate": true,
                "notFoundIsProof": true,
            },
            {
                "match": PRIVATE_HOST,
                "allowPrivate": true,
                "tls": { "caFile": "/etc/tagpin/ca/private.pem" },
            },
            {
                "match": registries::hiding_authority(),
                "allowPrivate": true,
                "tls": { "caFile": "/etc/tagpin/ca/private.pem" },
            },
        ],
        "registriesFile": { "format": "k3s", "content": read(state.registries_yaml())? },
        "extraCAs": [ { "name": "private", "content": read(state.private_registry("ca.crt"))? } ],
    }))
}

/// Writes the values, and returns the commands in the order in which a person would type them.
pub(super) fn commands(state: &State, profile: Profile, more: &[String]) -> Result<Vec<Vec<String>>> {
    let (repository, digest) = load(state, profile)?;
    // JSON is YAML.
    let file = state.root().join("values.json");
    fs::write(&file, serde_json::to_vec_pretty(&values(state, &repository, &digest)?)?)?;
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut helm = words("helm upgrade --install tagpin charts/tagpin");
    helm.extend(words("--namespace tagpin-system --create-namespace --wait --timeout 120s --values"));
    helm.push(file.display().to_string());
    helm.extend(more.iter().cloned());
    Ok(vec![
        helm,
        // The leader fills the webhook configurations once it serves.
        words(
            "kubectl wait validatingwebhookconfiguration/tagpin --for=jsonpath={.webhooks[0].name}=validate.tagpin.dev --timeout=60s",
        ),
        words(
            "kubectl wait mutatingwebhookconfiguration/zz-tagpin --for=jsonpath={.webhooks[0].name}=pin.tagpin.dev --timeout=60s",
        ),
    ])
}

/// Runs the commands inside the rig, and prints each of them first.
pub(super) fn run(inside: impl Fn(&[String]) -> Result<Command>, commands: &[Vec<String>]) -> Result<()> {
    for words in commands {
        println!("$ {}", words.join(" "));
        let mut command = inside(words)?;
        let done = command.current_dir(workspace::root()).status().context("run it inside the rig")?;
        if !done.success() {
            bail!("that failed: {done}");
        }
    }
    Ok(())
}
