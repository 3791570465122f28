//! Programs of the Go modules below `tests/rig`, built when they are not in the cache.

use std::path::PathBuf;
use std::process::Command;

/// The folder with the programs of a module.
pub(crate) fn part(module: &str) -> PathBuf {
    let mut xtask = Command::new(env!("CARGO"));
    let built = xtask.args(["run", "--quiet", "--package", "xtask", "--", "part", module]).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let said = String::from_utf8(built.stdout).unwrap();
    PathBuf::from(said.lines().last().unwrap())
}
