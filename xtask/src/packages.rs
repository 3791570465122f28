//! Programs of the distribution that the rig needs, installed when they are missing.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::rig::python;

/// A program (a name to be found on the path, or a file) and the Debian package that brings it.
const NEEDED: &[(&str, &str)] = &[
    ("runc", "runc"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("skopeo", "skopeo"),
    ("docker-registry", "docker-registry"),
    ("busybox", "busybox-static"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("dnsmasq", "dnsmasq-base"),
    ("buildah", "buildah"),
    ("htpasswd", "apache2-utils"),
    ("strip", "binutils"),
    ("pigz", "pigz"),
    ("cc", "gcc"),
    ("/usr/include/stdio.h", "libc6-dev"),
    ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
    ("unshare", "util-linux"),
    ("promtool", "prometheus"),
];

/// Installs what is missing; says nothing and does nothing when all is there.
pub(crate) fn ensure() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!("this machine lacks (by their Debian names) {}; install them and try again", missing.join(" "));
    }
    println!("installing {}", missing.join(" "));
    command::output("apt-get", ["update", "-qq"])?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing);
    command::output_of(&mut install)?;
    match self::missing() {
        left if left.is_empty() => Ok(()),
        left => bail!("still missing after the installation: {}", left.join(" ")),
    }
}

/// The full path of a program, as the system's administrator would find it.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    find(name).with_context(|| format!("`{name}` is not installed"))
}

fn missing() -> Vec<&'static str> {
    let programs = NEEDED.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package);
    programs.chain(python::interpreter().is_none().then_some("python3-venv")).collect()
}

fn find(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(PathBuf::from(program)).filter(|file| file.exists());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    // Administrators' tools are not on everybody's path.
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    env::split_paths(&path)
        .chain(more.iter().map(|folder| Path::new(folder).to_path_buf()))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
