//! Builds the published binary.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the binary of the published image. Cargo builds binaries of its own for a bench, but those share the profile
/// and the features of the bench; this one is the file that users run.
pub(crate) fn binary() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut xtask = Command::new(env!("CARGO"));
    xtask.current_dir(root).args(["run", "--quiet", "--package", "xtask", "--"]);
    let made = xtask.args(["image", "--profile", "release"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    root.join("target/image/rootfs/tagpin")
}
