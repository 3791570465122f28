//! Runs the cluster tests on a rig of their own, or on the cluster of `KUBECONFIG`. On a rig, the tests that kill whole
//! machines run last.

use std::env;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use super::entry::inside;
use super::install;
use super::power::{down, up};
use super::state::State;
use crate::image::Profile;
use crate::workspace;

/// Value for the chart that the tests need, by which namespaces can opt out of the baseline.
const VALUES: &str = r#"baseline.namespaceSelector={"matchExpressions":[{"key":"tagpin-test/baseline","operator":"NotIn","values":["off"]}]}"#;

/// Runs `tests/cluster` and then `tests/machines.rs` with these arguments of a test binary.
pub(super) fn run(state: &State, keep: bool, arguments: &[String]) -> Result<ExitCode> {
    if env::var_os("TAGPIN_RIG").is_none() && env::var_os("KUBECONFIG").is_some_and(|file| !file.is_empty()) {
        println!("on the cluster of KUBECONFIG; what only the rig allows is skipped");
        let tests = workspace::binary("test", "cluster")?;
        let done = Command::new(tests).args(arguments).status().context("the cluster tests")?;
        return Ok(code(done.success()));
    }
    // A drain needs a second node. A rig that exists already stays as it is.
    up(state, if state.exists() { None } else { Some(2) })?;
    let mut more = vec!["--set-json".to_owned(), VALUES.to_owned()];
    // A test deletes a replica, and requests that are on their way to it must not wait for the whole drain.
    more.extend(["--set".to_owned(), "drainSeconds=7".to_owned()]);
    install::run(|words| inside(state, words), &install::commands(state, Profile::Dev, &more)?)?;
    let tests = workspace::binary("test", "cluster")?;
    let mut words = vec![tests.display().to_string(), "--test-threads=4".to_owned()];
    words.extend(arguments.iter().cloned());
    let mut command = inside(state, &words)?;
    command.current_dir(workspace::root()).env("TAGPIN_XTASK", env::current_exe()?);
    let done = command.status().context("the cluster tests")?;
    let passed = done.success() && machines(state, arguments)?;
    if passed && !keep {
        down(state, true)?;
    } else {
        println!("the rig stays up: cargo xtask rig --name {} exec", state.name().display());
    }
    Ok(code(passed))
}

/// Runs the tests of machines. They run outside of the rig, because they end everything inside it.
fn machines(state: &State, arguments: &[String]) -> Result<bool> {
    let mut command = Command::new(workspace::binary("test", "machines")?);
    command.arg("--test-threads=1").args(arguments);
    command.current_dir(workspace::root()).env("TAGPIN_XTASK", env::current_exe()?);
    command.env("TAGPIN_RIG", state.name()).env("TAGPIN_RIG_HOME", state.home());
    Ok(command.status().context("the tests of machines")?.success())
}

fn code(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
