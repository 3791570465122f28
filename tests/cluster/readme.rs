//! The commands of README.md that need a cluster, run in the order and the words of the document.

use std::fs;
use std::process::Command;

use regex::Regex;
use tempfile::TempDir;

use self::blocks::{Block, Place};
use crate::support::manifests::pod;
use crate::support::release::{CHART, Release, armed, entries, helm, in_force};
use crate::support::rig::{self, digest};
use crate::support::{Answer, LIMIT, Namespace, alone, kubectl, kubectl_with, run, wait_for};

#[path = "../readme/blocks.rs"]
pub(crate) mod blocks;

/// The registry of the rig that nodes ask for `docker.io`.
const MIRROR: &str = "10.41.0.1:5000";
/// The webhook entry for namespaces that fail closed.
const STRICT: &str = "validate-strict.tagpin.dev";

/// Runs a block in the root of the repository, with a configuration that tells skopeo that the rig's registry has no
/// TLS.
pub(crate) fn typed(text: &str) -> Answer {
    let home = TempDir::new().unwrap();
    let settings = home.path().join(".config/containers");
    fs::create_dir_all(&settings).unwrap();
    let plain = format!("[[registry]]\nlocation = \"{MIRROR}\"\ninsecure = true\n");
    fs::write(settings.join("registries.conf"), plain).unwrap();
    run(Command::new("bash").args(["-euo", "pipefail", "-c", text]).env("HOME", home.path()), "")
}

/// Returns the text without digests, which differ from image to image.
fn without_digests(text: &str) -> String {
    Regex::new("sha256:[0-9a-f]+").unwrap().replace_all(text.trim_end(), "sha256:").into_owned()
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    if rig::here("installs and uninstalls tagpin").is_none() {
        return;
    }
    let _cluster = alone();
    let release = Release::found();
    // Deletes the namespace `shop` of the README, which a failed earlier run may have left.
    kubectl(&["delete", "namespace", "shop", "--ignore-not-found"]).succeeded();
    let shop = Namespace::called("shop");
    let other = Namespace::new("readme");
    // A dry run stores nothing, so that each attempt is a creation.
    let latest = |namespace: &Namespace| {
        namespace.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &pod("web", "web:latest"))
    };
    let on_the_rig = |block: &Block| matches!(block.place, Place::Rig | Place::Both);
    for block in blocks::all(env!("CARGO_MANIFEST_DIR")).into_iter().filter(on_the_rig) {
        match block.key {
            "$ kubectl create deployment web --image=web:latest" => {
                let (command, answer) = block.text.split_once('\n').unwrap();
                let refused = typed(command.strip_prefix("$ ").unwrap()).refused();
                assert_eq!(without_digests(&refused), without_digests(answer));
            }
            "skopeo copy" => {
                helm(&["uninstall", "tagpin", "--wait", "--timeout", "90s"]).succeeded();
                // Nodes ask this mirror for images of docker.io.
                typed(&block.with(&[
                    ("docker://registry.example.com/", &format!("docker://{MIRROR}/")),
                    ("repository=registry.example.com/", "repository=docker.io/"),
                ]))
                .succeeded();
                // The policy may still be in force from before; the API server learns of the webhooks a moment later.
                in_force();
                wait_for("refusals", LIMIT, || latest(&other).err.contains("[TagForbidden]").then_some(()));
                // From here on, tagpin uses the registries of the rig.
                release.install(CHART, &[]);
                armed();
            }
            "apiVersion: tagpin.dev/v1alpha1" => {
                kubectl_with(&["apply", "-f", "-"], &block.text).succeeded();
                shop.wait("imagepolicies.tagpin.dev/releases-only", "condition=Ready");
            }
            "kubectl --namespace tagpin-system exec" => {
                let said = typed(&block.text).succeeded();
                assert!(said.contains(&digest("library/web", "1.4.2")), "{said}");
            }
            "kubectl label namespace shop tagpin.dev/fail-closed=true" => {
                typed(&block.text).succeeded();
                wait_for("the strict entry", LIMIT, || latest(&shop).err.contains(STRICT).then_some(()));
            }
            "kubectl label namespace shop tagpin.dev/break-glass=true" => {
                typed(&block.text).succeeded();
                wait_for("break glass", LIMIT, || latest(&shop).ok.then_some(()));
            }
            "kubectl delete validatingwebhookconfiguration" => {
                latest(&other).refused_with("TagForbidden");
                typed(&block.text).succeeded();
                wait_for("pods as they are written", LIMIT, || latest(&other).ok.then_some(()));
                release.install(CHART, &[]);
            }
            "helm uninstall" => {
                typed(&block.text).succeeded();
                assert_eq!(entries(), Vec::<String>::new());
            }
            "kubectl delete crd" => {
                kubectl(&["get", "clusterimagepolicies.tagpin.dev"]).succeeded();
                typed(&block.text).succeeded();
                assert!(!kubectl(&["get", "clusterimagepolicies.tagpin.dev"]).ok);
            }
            other => panic!("nothing is checked after {other}"),
        }
    }
}

/// Runs the commands in the documents that only read from the cluster.
#[test]
fn the_commands_that_documents_tell_to_look_with_exist() {
    let _cluster = crate::support::undisturbed();
    let command = Regex::new("`(kubectl [^`]+)`").unwrap();
    let looks = Regex::new(r"^kubectl (-n \S+ )?(get|logs|explain) ").unwrap();
    let placeholder = Regex::new(r"\b[A-Z]{3,}\b").unwrap();
    let mut count = 0;
    for document in
        ["README.md", "docs/runbook.md", "docs/registries.md", "docs/metrics.md", "docs/traces.md"]
    {
        let text = fs::read_to_string(document).unwrap();
        for found in command.captures_iter(&text).map(|found| found[1].to_owned()) {
            // The part after a pipe selects lines, and may find none.
            let words = found.split(" | ").next().unwrap();
            if looks.is_match(words) && !placeholder.is_match(words) {
                typed(words).succeeded();
                count += 1;
            }
        }
    }
    assert!(count > 8, "only {count} commands were found");
}
