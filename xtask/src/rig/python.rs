//! The Python programs that tests start. Each has a virtual environment in the cache, keyed by its list of packages.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};

use crate::{command, workspace};

/// Returns the path of the list of packages for a folder below `tests/rig`.
fn requirements(name: &str) -> PathBuf {
    workspace::root().join("tests/rig").join(name).join("requirements.txt")
}

/// Returns true if a folder below `tests/rig` lists Python packages.
pub(super) fn is_one(name: &str) -> bool {
    requirements(name).is_file()
}

/// Installs the packages if they are not in the cache, and returns the folder with their programs.
pub(super) fn folder(name: &str) -> Result<PathBuf> {
    let python =
        interpreter().context("no Python that can make virtual environments: install python3-venv")?;
    let version = command::output(python, ["--version"])?;
    let list = requirements(name);
    let mut hash = Sha256::new();
    hash.update(&version);
    hash.update(fs::read(&list).with_context(|| format!("{}", list.display()))?);
    let key: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let home = workspace::cache()?.join("rig");
    let built = home.join(format!("{name}-{key}"));
    // Programs in the environment contain its path, so it is made at its final place.
    let (programs, complete) = (built.join("bin"), built.join("complete"));
    if complete.exists() {
        return Ok(programs);
    }
    fs::create_dir_all(&home)?;
    let lock = File::create(home.join(format!("{name}.lock")))?;
    lock.lock()?;
    if complete.exists() {
        return Ok(programs);
    }
    println!("installing {name} (once; about 20 seconds)");
    let started = Instant::now();
    let _ = fs::remove_dir_all(&built);
    command::output_of(Command::new(python).args(["-m", "venv"]).arg(&built))?;
    let mut pip = Command::new(programs.join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--requirement"]).arg(&list);
    command::output_of(&mut pip)?;
    File::create(&complete)?;
    println!("installed {name} in {} s", started.elapsed().as_secs());
    Ok(programs)
}

/// Returns a Python that can make virtual environments. Debian's Python needs a package of its own for that.
pub(crate) fn interpreter() -> Option<&'static str> {
    let able = |python: &&str| command::output(python, ["-c", "import ensurepip, venv"]).is_ok();
    ["python3", "/usr/bin/python3"].into_iter().find(able)
}
