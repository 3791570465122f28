//! Makes a machine out of fresh namespaces: mounts, network, kernel settings. The code runs inside them as PID 1,
//! before any component. Everything that it makes ends with the namespaces, so nothing has to be undone.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};

use super::cgroups;
use super::node::Node;
use super::state::{State, write};
use crate::command::run;

/// Settings that the kubelet would change for the whole machine. Inside, the kubelet finds the values that it wants.
const TUNED: &[(&str, &str)] = &[
    ("/proc/sys/vm/overcommit_memory", "1"),
    ("/proc/sys/vm/panic_on_oom", "0"),
    ("/proc/sys/kernel/panic", "10"),
    ("/proc/sys/kernel/panic_on_oops", "1"),
    ("/proc/sys/kernel/keys/root_maxkeys", "1000000"),
    ("/proc/sys/kernel/keys/root_maxbytes", "25000000"),
];

/// Turns the namespaces that this process was started in into `node`.
pub(crate) fn prepare(state: &State, node: Node, nodes: u8) -> Result<()> {
    run("hostname", [node.name()])?;
    mounts(state, node).context("mounts")?;
    network(node, nodes).context("network")?;
    cgroups::create(&format!("{}/{}", state.cgroup(), node.name())).context("cgroups")
}

fn mounts(state: &State, node: Node) -> Result<()> {
    let var = state.var(&node.name());
    for folder in ["lib/kine", "log", "cache", "tmp"] {
        fs::create_dir_all(var.join(folder))?;
    }
    if !var.join("run").exists() {
        symlink("/run", var.join("run"))?;
    }
    // Without this, mounts would leak out if the tree of / is shared.
    run("mount", ["--make-rprivate", "/"])?;
    run("mount", [Path::new("--bind"), &var, Path::new("/var")])?;
    run("mount", ["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])?;
    fs::create_dir_all("/run/lock")?;
    bind(&state.etc("resolv.conf"), Path::new("/etc/resolv.conf"))?;
    for (setting, value) in TUNED {
        if fs::read_to_string(setting).is_ok_and(|now| now.trim() != *value) {
            let file = Path::new("/run/tuned").join(setting.trim_start_matches('/'));
            write(&file, format!("{value}\n").as_bytes())?;
            bind(&file, Path::new(setting))?;
        }
    }
    Ok(())
}

/// Mounts `file` at `place`. The place may be a link into the /run that has just been covered.
fn bind(file: &Path, place: &Path) -> Result<()> {
    let mut place = place.to_path_buf();
    while let Ok(target) = fs::read_link(&place) {
        place = place.parent().unwrap_or(Path::new("/")).join(target);
    }
    if !place.exists() {
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        File::create(&place)?;
    }
    run("mount", [Path::new("--bind"), file, &place])
}

fn network(node: Node, nodes: u8) -> Result<()> {
    run("ip", ["link", "set", "lo", "up"])?;
    write(Path::new("/proc/sys/net/ipv4/ip_forward"), b"1")?;
    if !node.is_first() {
        return Ok(());
    }
    // A bridge is used because not every kernel has dummy devices.
    run("ip", ["link", "add", "rig0", "type", "bridge"])?;
    run("ip", ["address", "add", &format!("{}/24", node.address()), "dev", "rig0"])?;
    run("ip", ["link", "set", "rig0", "up"])?;
    run("ip", ["route", "add", "default", "dev", "rig0"])?;
    Node::all(nodes).skip(1).try_for_each(attach)
}

/// Makes the network of another machine: a namespace with a cable into the bridge of the first machine.
fn attach(node: Node) -> Result<()> {
    let (name, cable) = (node.name(), format!("cable{}", node.number()));
    run("ip", ["netns", "add", &name])?;
    run("ip", ["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
    run("ip", ["link", "set", &cable, "master", "rig0", "up"])?;
    run("ip", ["-n", &name, "address", "add", &format!("{}/24", node.address()), "dev", "eth0"])?;
    run("ip", ["-n", &name, "link", "set", "eth0", "up"])?;
    run("ip", ["-n", &name, "route", "add", "default", "via", &Node::FIRST.address().to_string()])?;
    run("ip", ["route", "add", &node.pods(), "via", &node.address().to_string()])
}
