//! The programs of the folders in `tests/rig`, built if they are not in the cache.

use std::path::PathBuf;
use std::process::Command;

/// Returns the folder with the programs of such a folder, or with a program that Debian packages as a service.
pub(crate) fn part(name: &str) -> PathBuf {
    let mut xtask = Command::new(env!("CARGO"));
    xtask.args(["run", "--quiet", "--package", "xtask", "--", "part", name]);
    // Removes the variables that cargo set for this crate: they would make cargo rebuild many dependencies, now and the
    // next time.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            xtask.env_remove(&name);
        }
    }
    let built = xtask.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let said = String::from_utf8(built.stdout).unwrap();
    PathBuf::from(said.lines().last().unwrap())
}
