//! The software bill of materials: what is in the published binary, as CycloneDX 1.5 in JSON. `cargo tree` says which
//! crates, Cargo.lock which bytes each was built from. It holds no time and no path, so that the same tree has the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{command, workspace};

/// Rust's name of what the image is built for.
const TARGETS: [(&str, &str); 2] =
    [("x86_64", "x86_64-unknown-linux-gnu"), ("aarch64", "aarch64-unknown-linux-gnu")];

/// One crate of the binary.
#[derive(Debug, Default)]
struct Built {
    licences: String,
    needs: BTreeSet<String>,
}

/// Writes target/sbom/tagpin.cdx.json.
pub(crate) fn write() -> Result<ExitCode> {
    let document = document()?;
    let folder = workspace::root().join("target/sbom");
    fs::create_dir_all(&folder)?;
    let file = folder.join("tagpin.cdx.json");
    fs::write(&file, format!("{document:#}\n")).with_context(|| format!("write {}", file.display()))?;
    let count = document.get("components").and_then(Value::as_array).map_or(0, Vec::len);
    println!("{count} crates: {}", file.display());
    Ok(ExitCode::SUCCESS)
}

fn document() -> Result<Value> {
    let target = TARGETS.iter().find(|(architecture, _)| *architecture == std::env::consts::ARCH);
    let (_, target) = target.with_context(|| format!("no image is built for {}", std::env::consts::ARCH))?;
    let mut tree = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What only builds (macros, build scripts) is not in the binary.
    tree.args([
        "tree",
        "--locked",
        "--package",
        "tagpin",
        "--edges",
        "normal,no-proc-macro",
        "--target",
        target,
    ]);
    tree.args(["--prefix", "depth", "--format", "|{p}|{l}"]).current_dir(workspace::root());
    let built = read(&command::output_of(&mut tree)?)?;
    let lock = fs::read_to_string(workspace::root().join("Cargo.lock"))?;
    describe(&built, &checksums(&lock))
}

/// Reads `cargo tree --prefix depth --format '|{p}|{l}'`: crates by `name version`, each with what it needs.
fn read(tree: &str) -> Result<BTreeMap<String, Built>> {
    let mut built = BTreeMap::<String, Built>::new();
    let mut above: Vec<String> = Vec::new();
    for line in tree.lines() {
        let mut parts = line.splitn(3, '|');
        let (Some(depth), Some(package), Some(licences)) = (parts.next(), parts.next(), parts.next()) else {
            anyhow::bail!("`cargo tree` says {line:?}");
        };
        let mut words = package.split(' ');
        let (Some(name), Some(version)) =
            (words.next(), words.next().and_then(|word| word.strip_prefix('v')))
        else {
            anyhow::bail!("`cargo tree` names a crate {package:?}");
        };
        let package = format!("{name} {version}");
        let depth: usize = depth.parse().with_context(|| format!("the depth of {line:?}"))?;
        ensure!(depth <= above.len(), "`cargo tree` skips a level at {line:?}");
        above.truncate(depth);
        if let Some(parent) = above.last().and_then(|parent| built.get_mut(parent)) {
            parent.needs.insert(package.clone());
        }
        // One that was shown before has a star and nothing below it.
        let licences = licences.trim_end_matches(" (*)");
        // As it was written before SPDX expressions: MIT/Apache-2.0.
        let licences: Vec<&str> = licences.split('/').map(str::trim).collect();
        built.entry(package.clone()).or_default().licences = licences.join(" OR ");
        above.push(package);
    }
    Ok(built)
}

/// The SHA-256 of each crate's archive, by `name version`.
fn checksums(lock: &str) -> BTreeMap<String, String> {
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
        line.and_then(|line| line.strip_suffix('"')).map(str::to_owned)
    };
    let blocks = lock.split("[[package]]");
    blocks
        .filter_map(|block| {
            let package = format!("{} {}", value(block, "name")?, value(block, "version")?);
            Some((package, value(block, "checksum")?))
        })
        .collect()
}

fn describe(built: &BTreeMap<String, Built>, checksums: &BTreeMap<String, String>) -> Result<Value> {
    let purl = |package: &str| format!("pkg:cargo/{}", package.replacen(' ', "@", 1));
    let mut components = Vec::new();
    let mut itself = None;
    for (package, Built { licences, .. }) in built {
        let (name, version) = package.split_once(' ').context("a crate without a version")?;
        ensure!(!licences.is_empty(), "{package} says nothing of its licence");
        let component = |kind: &str, hashes: Value| {
            json!({
                "type": kind, "bom-ref": purl(package), "name": name, "version": version, "purl": purl(package),
                "licenses": [ { "expression": licences } ], "hashes": hashes,
            })
        };
        if name == "tagpin" {
            itself = Some(component("application", json!([])));
            continue;
        }
        let checksum = checksums.get(package).with_context(|| format!("{package} is not in Cargo.lock"))?;
        components.push(component("library", json!([ { "alg": "SHA-256", "content": checksum } ])));
    }
    let dependencies: Vec<Value> = built
        .iter()
        .map(|(package, Built { needs, .. })| {
            let needs: Vec<String> = needs.iter().map(|needed| purl(needed)).collect();
            json!({ "ref": purl(package), "dependsOn": needs })
        })
        .collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": itself.context("tagpin is not in its own tree")? },
        "components": components,
        "dependencies": dependencies,
    }))
}
