//! Runs other programs. An error names the command, and has what the command wrote to standard error.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `program` to its end and returns what it printed.
pub(crate) fn output<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Result<String> {
    output_of(Command::new(program).args(args))
}

/// Runs `program` to its end.
pub(crate) fn run<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Result<()> {
    output(program, args).map(drop)
}

/// Runs a prepared command to its end and returns what it printed.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("`{shown}` could not be started; is it installed?"))?;
    if !output.status.success() {
        bail!("`{shown}` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Removes the variables that cargo sets about this crate. Some build scripts read them (ring's): a cargo that is
/// started with them takes these scripts for changed, and builds half of the dependencies anew.
pub(crate) fn as_from_a_shell(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
    command
}

/// Replaces this process by the command, which takes over the exit code, the terminal and the signals. Returns only an
/// error.
pub(crate) fn become_it(mut command: Command) -> anyhow::Error {
    let shown = shown(&command);
    anyhow::Error::new(command.exec()).context(format!("`{shown}` could not be started"))
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}
