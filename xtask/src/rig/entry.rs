//! The way into a running rig: gives a command all namespaces and tools of the rig.

use std::env;
use std::process::Command;

use anyhow::Result;

use super::process;
use super::state::State;
use crate::command;

/// Folders for the files of kubectl and helm. They are in the rig's own /var, and not in the developer's home.
const CACHES: &[(&str, &str)] = &[
    ("KUBECACHEDIR", "/var/cache/kubectl"),
    ("HELM_CACHE_HOME", "/var/cache/helm"),
    ("HELM_CONFIG_HOME", "/var/lib/helm/config"),
    ("HELM_DATA_HOME", "/var/lib/helm/data"),
];

/// Returns a command that runs inside the rig: in all its namespaces, in this directory, and with the cluster's tools.
pub(super) fn inside(state: &State, words: &[String]) -> Result<Command> {
    let pid = process::running(state)?;
    let shell = [env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned())];
    let mut path = state.bin().into_os_string();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let mut inside = Command::new("nsenter");
    inside.args(["--target", &pid.to_string(), "--mount", "--net", "--pid", "--ipc", "--uts", "--", "env"]);
    inside.arg(format!("--chdir={}", env::current_dir()?.display()));
    inside.args(if words.is_empty() { &shell } else { words });
    inside.env("PATH", path).env("KUBECONFIG", state.kubeconfig());
    // With these variables `cargo xtask rig` means this rig when it runs inside.
    inside.env("TAGPIN_RIG", state.name()).env("TAGPIN_RIG_HOME", state.home());
    command::as_from_a_shell(&mut inside);
    inside.envs(CACHES.iter().copied());
    // A proxy of this machine cannot be reached from inside.
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        inside.env_remove(proxy).env_remove(proxy.to_lowercase());
    }
    Ok(inside)
}
