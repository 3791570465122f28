//! The paths of this repository and of its build results.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command;

/// Returns the root of the repository.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// Returns the folder for what is slow to build and does not change with the sources of tagpin.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(cache) = env::var_os("TAGPIN_CACHE") {
        return Ok(PathBuf::from(cache));
    }
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => {
            PathBuf::from(env::var_os("HOME").context("neither TAGPIN_CACHE nor HOME is set")?).join(".cache")
        }
    };
    Ok(base.join("tagpin"))
}

/// Builds the test (`test`) or the bench (`bench`) of this name, and returns the path that cargo prints.
pub(crate) fn binary(kind: &str, name: &str) -> Result<PathBuf> {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(root());
    build.args([
        kind,
        "--package",
        "tagpin",
        &format!("--{kind}"),
        name,
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    let output = command::as_from_a_shell(&mut build)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cargo {kind} --no-run"))?;
    if !output.status.success() {
        bail!("the {kind} {name} does not build");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message.pointer("/target/name").and_then(Value::as_str) == Some(name))
        .filter_map(|message| message.get("executable").and_then(Value::as_str).map(PathBuf::from))
        .next_back()
        .with_context(|| format!("cargo did not say where the {kind} {name} is"))
}
