//! Fetches the programs of the distribution that the rig and the tests need, when they are missing.
//!
//! A package whose installation would start a service is not installed. Its programs are unpacked into the cache
//! instead.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::rig::python;
use crate::{command, workspace};

/// A program and the Debian package that brings it.
struct Needed {
    /// The name of a program on the path, or a file.
    program: &'static str,
    package: &'static str,
    supply: Supply,
}

/// The way in which a missing package is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Supply {
    /// The package is installed. Nothing in it starts by itself.
    Installed,
    /// The package is unpacked into the cache, because an installation would start and enable its services.
    Unpacked,
}

const fn installed(program: &'static str, package: &'static str) -> Needed {
    Needed { program, package, supply: Supply::Installed }
}

const fn unpacked(program: &'static str, package: &'static str) -> Needed {
    Needed { program, package, supply: Supply::Unpacked }
}

const NEEDED: &[Needed] = &[
    installed("runc", "runc"),
    installed("/usr/lib/cni/ptp", "containernetworking-plugins"),
    installed("skopeo", "skopeo"),
    unpacked("docker-registry", "docker-registry"),
    installed("busybox", "busybox-static"),
    installed("nft", "nftables"),
    installed("ip", "iproute2"),
    installed("dnsmasq", "dnsmasq-base"),
    installed("buildah", "buildah"),
    installed("htpasswd", "apache2-utils"),
    installed("strip", "binutils"),
    installed("pigz", "pigz"),
    installed("cc", "gcc"),
    installed("/usr/include/stdio.h", "libc6-dev"),
    installed("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
    installed("unshare", "util-linux"),
    installed("tinyproxy", "tinyproxy-bin"),
    unpacked("prometheus", "prometheus"),
    unpacked("promtool", "prometheus"),
];

/// Fetches the missing packages. Prints nothing if none is missing.
pub(crate) fn ensure() -> Result<()> {
    let [install, unpack] = missing()?;
    let all = [install.clone(), unpack.clone()].concat().join(" ");
    if all.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!("this machine lacks (by their Debian names) {all}; install them and try again");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("this machine lacks the Debian packages {all}: fetching them needs root");
    }
    command::output("apt-get", ["update", "-qq"])?;
    if !install.is_empty() {
        println!("installing {}", install.join(" "));
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&install);
        command::output_of(&mut apt)?;
    }
    for package in unpack {
        println!("unpacking {package} into the cache");
        self::unpack(package)?;
    }
    match missing()?.concat() {
        left if left.is_empty() => Ok(()),
        left => bail!("still missing after the installation: {}", left.join(" ")),
    }
}

/// Returns the full path of a program: on the path of the system's administrator, or else in the cache.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    if let Some(found) = find(name) {
        return Ok(found);
    }
    let cached = NEEDED.iter().find(|needed| needed.program == name).map(Needed::cached).transpose()?;
    cached.flatten().with_context(|| format!("`{name}` is not installed: `cargo xtask packages` fetches it"))
}

/// Returns the programs that may be in the cache only, each with its name and its full path. Links are followed.
pub(crate) fn programs_of_services() -> Result<Vec<(&'static str, PathBuf)>> {
    let services = NEEDED.iter().filter(|needed| needed.supply == Supply::Unpacked);
    services.map(|needed| Ok((needed.program, fs::canonicalize(program(needed.program)?)?))).collect()
}

/// Returns true for a program that may be in the cache only.
pub(crate) fn is_of_a_service(name: &str) -> bool {
    NEEDED.iter().any(|needed| needed.program == name && needed.supply == Supply::Unpacked)
}

impl Needed {
    fn is_missing(&self) -> Result<bool> {
        Ok(find(self.program).is_none() && self.cached()?.is_none())
    }

    /// Returns the path of the program in the cache, if it is there.
    fn cached(&self) -> Result<Option<PathBuf>> {
        if self.supply == Supply::Installed {
            return Ok(None);
        }
        Ok(Some(folder(self.package)?.join("usr/bin").join(self.program)).filter(|file| file.is_file()))
    }
}

/// Returns the missing packages: those to install, and those to unpack.
fn missing() -> Result<[Vec<&'static str>; 2]> {
    let mut packages = [Vec::new(), Vec::new()];
    let [install, unpack] = &mut packages;
    for needed in NEEDED {
        let wanted = if needed.supply == Supply::Unpacked { &mut *unpack } else { &mut *install };
        if !wanted.contains(&needed.package) && needed.is_missing()? {
            wanted.push(needed.package);
        }
    }
    if python::interpreter().is_none() {
        install.push("python3-venv");
    }
    Ok(packages)
}

/// Returns the folder of the cache for the files of a package. Each release of the distribution has another one.
fn folder(package: &str) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    hash.update(env::consts::ARCH);
    hash.update(fs::read("/etc/os-release").unwrap_or_default());
    let key: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(workspace::cache()?.join("debian").join(format!("{package}-{key}")))
}

/// Downloads a package that the distribution signed, and unpacks it into the cache. No script of the package runs.
fn unpack(package: &str) -> Result<()> {
    let folder = folder(package)?;
    let home = folder.parent().unwrap_or(&folder);
    fs::create_dir_all(home).with_context(|| format!("{}", home.display()))?;
    let lock = File::create(home.join(format!("{package}.lock")))?;
    lock.lock()?;
    if folder.exists() {
        return Ok(());
    }
    let unfinished = folder.with_extension("unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    fs::create_dir_all(&unfinished)?;
    let mut download = Command::new("apt-get");
    command::output_of(download.current_dir(&unfinished).args(["download", "-qq", package]))?;
    let archive = fs::read_dir(&unfinished)?.next().context("apt-get downloaded nothing")??.path();
    command::run("dpkg-deb", [Path::new("--extract"), &archive, &unfinished])?;
    fs::remove_file(&archive)?;
    fs::rename(&unfinished, &folder).with_context(|| format!("{}", folder.display()))
}

fn find(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(PathBuf::from(program)).filter(|file| file.exists());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    // The tools of administrators are not on every user's path.
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    env::split_paths(&path)
        .chain(more.iter().map(|folder| Path::new(folder).to_path_buf()))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Collects the installed packages that `package` needs, itself included. Packages that every Debian has are left
    /// out.
    fn closure(package: &str, found: &mut BTreeSet<String>) {
        let query = ["--show", "--showformat=${Status}|${Priority}|${Pre-Depends}, ${Depends}", package];
        let Ok(answer) = command::output("dpkg-query", query) else { return };
        let mut fields = answer.split('|');
        let everywhere = ["required", "important"];
        if fields.next() != Some("install ok installed")
            || fields.next().is_none_or(|priority| everywhere.contains(&priority))
            || !found.insert(package.to_owned())
        {
            return;
        }
        for word in fields.flat_map(|rest| rest.split([',', '|'])) {
            let name = word.split_whitespace().next().unwrap_or_default();
            closure(name.split(':').next().unwrap_or_default(), found);
        }
    }

    #[test]
    fn no_package_that_is_installed_starts_anything() {
        let mut packages = BTreeSet::new();
        let installed = NEEDED.iter().filter(|needed| needed.supply == Supply::Installed);
        installed.for_each(|needed| closure(needed.package, &mut packages));
        let mut starters = Vec::new();
        for package in &packages {
            for script in ["postinst", "preinst", "triggers"] {
                let listed = command::output("dpkg-query", ["--control-path", package, script]);
                let Ok(file) = listed else { continue };
                let text = fs::read_to_string(file.trim()).unwrap_or_default();
                // debhelper writes these words where a first installation starts a service, or has it started at boot.
                if ["_dh_action=start", "update-rc.d", "systemctl start", "systemctl enable"]
                    .iter()
                    .any(|words| text.contains(words))
                {
                    starters.push(package);
                }
            }
        }
        assert!(starters.is_empty(), "of {packages:?} these start services, so unpack them: {starters:?}");
    }
}
