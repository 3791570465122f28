//! The programs that `xtask` builds or fetches.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the path of a program of the rig or of Debian. The program is built or fetched if it is missing.
pub(crate) fn program(name: &str) -> PathBuf {
    let mut xtask = Command::new(env!("CARGO"));
    let built = xtask.args(["run", "--quiet", "--package", "xtask", "--", "part", name]).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let said = String::from_utf8(built.stdout).unwrap();
    Path::new(said.lines().last().unwrap()).join(name)
}
