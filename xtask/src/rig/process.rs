//! Finds, starts and ends a running rig. Its state is read from the kernel, so no file can be wrong about it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::cgroups;
use super::probe::until;
use super::state::State;

/// Time limit for the kernel to end every process of a machine.
const GONE: Duration = Duration::from_secs(10);

/// Returns the process identifier of this rig's supervisor, if it runs. The supervisor is PID 1 of its namespaces.
pub(crate) fn find(state: &State) -> Result<Option<i32>> {
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        if let Some(pid) =
            process.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok())
            && is_supervisor(&process, state)
        {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// Returns the process identifier of this rig's supervisor, or an error with the command that starts the rig.
pub(crate) fn running(state: &State) -> Result<i32> {
    root_only()?;
    find(state)?.context("this rig is down: `cargo xtask rig up` starts it")
}

/// Fails with a plain sentence for a user who is not root. The kernel would only say that something is not permitted.
pub(crate) fn root_only() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("a rig needs root: it makes namespaces, mounts and containers");
    }
    Ok(())
}

/// Starts the supervisor in namespaces of its own, so that it outlives this process.
pub(crate) fn start(state: &State) -> Result<()> {
    let log = state.log("supervisor");
    fs::create_dir_all(log.parent().unwrap_or(Path::new("/")))?;
    let log = File::options().create(true).append(true).open(&log)?;
    let mut command = Command::new("setsid");
    command.arg("unshare");
    command.args(["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(std::env::current_exe()?).arg("supervise").arg(state.root()).arg("1");
    command.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("setsid unshare")?;
    Ok(())
}

/// Kills PID 1 of the rig, and every process, mount and interface with it. Returns true if the rig was running.
pub(crate) fn end(state: &State) -> Result<bool> {
    let running = find(state)?;
    if let Some(pid) = running.and_then(Pid::from_raw) {
        // The kernel ends PID 1 last, and `unshare`, which waits for it, after that.
        let last = [Some(pid.as_raw_nonzero().get()), field(pid.as_raw_nonzero().get(), "PPid:")];
        kill_process(pid, Signal::KILL).context("ending the supervisor")?;
        for process in last.into_iter().flatten() {
            if !until(GONE, || ended(process)) {
                bail!("process {process} does not end");
            }
        }
    }
    cgroups::remove(&state.cgroup())?;
    Ok(running.is_some())
}

fn is_supervisor(process: &Path, state: &State) -> bool {
    // The command line is `xtask supervise FOLDER 1`, and the process is the first one of its PID namespace.
    let Ok(line) = fs::read(process.join("cmdline")) else { return false };
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let Some(rest) = words.get(1..4) else { return false };
    if rest != [b"supervise".as_slice(), state.root().as_os_str().as_encoded_bytes(), b"1"] {
        return false;
    }
    let pid = process.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    pid.and_then(|pid: i32| field(pid, "NSpid:")) == Some(1)
}

/// Returns true if the process is gone, or dead and waiting for its parent to notice.
fn ended(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_none_or(|state| state == 'Z' || state == 'X')
}

/// Returns the last number in a line of a process's status.
fn field(pid: i32, name: &str) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next_back()?.parse().ok()
}
