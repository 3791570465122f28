//! The cgroups that a rig's containers are in. They are the only part of a running rig that its namespaces do not end.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A mounted hierarchy of cgroups.
struct Hierarchy {
    mount: PathBuf,
    /// True for the only hierarchy of version 2, false for each of several hierarchies of version 1.
    unified: bool,
}

/// Makes the cgroup `path` in each hierarchy, ready for containers.
pub(crate) fn create(path: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let mut above = hierarchy.mount.clone();
        for name in path.split('/') {
            if hierarchy.unified && above.join("cgroup.subtree_control").exists() {
                delegate(&above)?;
            }
            let below = above.join(name);
            if !below.exists() {
                fs::create_dir(&below).with_context(|| format!("{}", below.display()))?;
            }
            // A new cpuset of version 1 is empty, and no process can run in an empty cpuset.
            for setting in ["cpuset.cpus", "cpuset.mems"] {
                if !hierarchy.unified && below.join(setting).exists() {
                    fs::write(below.join(setting), fs::read(above.join(setting))?)?;
                }
            }
            above = below;
        }
    }
    Ok(())
}

/// Removes the cgroup `path` and all cgroups below it, once their processes are gone.
pub(crate) fn remove(path: &str) -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(10);
    for hierarchy in hierarchies()? {
        let root = hierarchy.mount.join(path);
        while let Err(error) = remove_tree(&root) {
            if Instant::now() > limit {
                bail!("{} is still in use: {error}", root.display());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Removes a tree of cgroups from the leaves up. Fails while a process is in one of them.
fn remove_tree(root: &Path) -> std::io::Result<()> {
    if !root.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(root)
}

/// Enables every controller for the cgroups below this one (version 2 only).
fn delegate(cgroup: &Path) -> Result<()> {
    let controllers = fs::read_to_string(cgroup.join("cgroup.controllers"))?;
    let wanted: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    fs::write(cgroup.join("cgroup.subtree_control"), wanted.join(" "))
        .with_context(|| format!("{} cannot hand its controllers on", cgroup.display()))
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut found = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        if let (Some(mount), Some(kind @ ("cgroup" | "cgroup2"))) = (fields.next(), fields.next()) {
            found.push(Hierarchy { mount: PathBuf::from(mount), unified: kind == "cgroup2" });
        }
    }
    if found.is_empty() {
        bail!("no cgroup hierarchy is mounted: containers need one at /sys/fs/cgroup");
    }
    // Beside hierarchies of version 1, the unified hierarchy is mounted without controllers, for accounting only.
    if found.iter().any(|hierarchy| !hierarchy.unified) {
        found.iter_mut().for_each(|hierarchy| hierarchy.unified = false);
    }
    Ok(found)
}
