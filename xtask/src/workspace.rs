//! Where things of this repository are, and where what was built is kept.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// What is slow to build and does not change with the sources of tagpin.
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
