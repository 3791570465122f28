//! The Go programs of a rig. They are built once into the cache, with everything that goes into them as the key.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

use super::state::State;
use crate::{command, packages, workspace};

/// A Go module below `tests/rig` and how it is built.
struct Part {
    module: &'static str,
    cgo: bool,
    tags: &'static str,
    /// The module whose version the programs report, and the flags that pass it to them.
    version: Option<Version>,
    /// The packages to build: the module's own program, or its `tool` dependencies.
    target: &'static str,
    /// The names of the program, if it answers to several.
    names: &'static [&'static str],
    /// True if a rig starts the programs. Otherwise they are for tests that need no cluster.
    runs: bool,
    /// Duration of the build on a machine of two cores when nothing is cached.
    cold: &'static str,
}

/// A version that is passed to the linker.
struct Version {
    module: &'static str,
    flags: fn(&str) -> String,
}

const PARTS: &[Part] = &[
    Part {
        module: "kubernetes",
        cgo: false,
        tags: "",
        version: Some(Version { module: "k8s.io/kubernetes", flags: kubernetes_version }),
        target: ".",
        names: &[
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            "kubelet",
            "kubectl",
        ],
        runs: true,
        cold: "4 minutes",
    },
    Part {
        module: "containerd",
        cgo: false,
        tags: "no_btrfs,no_devmapper,no_zfs,no_aufs",
        version: Some(Version { module: "github.com/containerd/containerd/v2", flags: containerd_version }),
        target: "tool",
        names: &[],
        runs: true,
        cold: "40 seconds",
    },
    Part {
        module: "kine",
        cgo: true,
        tags: "",
        version: None,
        target: "tool",
        names: &[],
        runs: true,
        cold: "70 seconds",
    },
    Part {
        module: "helm",
        cgo: false,
        tags: "",
        version: None,
        target: "tool",
        names: &[],
        runs: true,
        cold: "90 seconds",
    },
    Part {
        module: "hiding",
        cgo: false,
        tags: "",
        version: None,
        target: ".",
        names: &[],
        runs: true,
        cold: "20 seconds",
    },
    Part {
        module: "crane",
        cgo: false,
        tags: "",
        version: None,
        target: "tool",
        names: &[],
        runs: false,
        cold: "30 seconds",
    },
    Part {
        module: "oracle",
        cgo: false,
        tags: "",
        version: None,
        target: ".",
        names: &[],
        runs: false,
        cold: "60 seconds",
    },
    Part {
        module: "distribution",
        cgo: false,
        tags: "",
        version: None,
        target: ".",
        names: &[],
        runs: false,
        cold: "60 seconds",
    },
];

/// Builds what is not in the cache, and links every program into the rig's `bin`.
pub(crate) fn ensure(state: &State) -> Result<()> {
    let bin = state.bin();
    fs::create_dir_all(&bin)?;
    for part in PARTS.iter().filter(|part| part.runs) {
        let built = part.ensure()?;
        for entry in fs::read_dir(&built)? {
            let program = entry?.path();
            let own = program.file_name().context("a program without a name")?.to_string_lossy().into_owned();
            let names = if part.names.is_empty() { vec![own.as_str()] } else { part.names.to_vec() };
            for name in names {
                link(&program, &bin.join(name))?;
            }
        }
    }
    for (name, program) in packages::programs_of_services()? {
        link(&program, &bin.join(name))?;
    }
    Ok(())
}

/// Builds one part if it is not in the cache, and returns the folder with its programs.
pub(crate) fn folder(module: &str) -> Result<PathBuf> {
    let part = PARTS.iter().find(|part| part.module == module);
    part.with_context(|| format!("`{module}` is no part of the rig"))?.ensure()
}

/// Returns the version of Go that builds a module. Fails if it is older than the module needs.
fn go(module: &Path) -> Result<String> {
    let needed = required(&module.join("go.mod"), "go")?;
    let (major, minor) = numbers(&needed);
    let advice = format!(
        "the rig's Kubernetes is built from Go modules: install Go {major}.{minor} or newer (https://go.dev/dl)"
    );
    // In the folder of a module, Go 1.21 or newer names the version that it would switch to.
    let asked = command::output_of(Command::new("go").current_dir(module).args(["env", "GOVERSION"]));
    let version = asked.with_context(|| advice.clone())?.trim().to_owned();
    if numbers(&version) < (major, minor) {
        bail!("{advice}; the one on the path is {version}");
    }
    Ok(version)
}

/// Returns the first two numbers of a version: 1 and 26 of `go1.26.6`.
fn numbers(version: &str) -> (u32, u32) {
    let digits = version.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let mut numbers = digits.map(|digits| digits.parse().unwrap_or(u32::MAX));
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

impl Part {
    fn ensure(&self) -> Result<PathBuf> {
        let source = workspace::root().join("tests/rig").join(self.module);
        let go = go(&source)?;
        let flags = self.flags(&source)?;
        let home = workspace::cache()?.join("rig");
        let built = home.join(format!("{}-{}", self.module, self.key(&source, &flags, &go)?));
        if built.exists() {
            return Ok(built);
        }
        fs::create_dir_all(&home)?;
        // Two rigs that start at the same time build only once.
        let lock = File::create(home.join(format!("{}.lock", self.module)))?;
        lock.lock()?;
        if built.exists() {
            return Ok(built);
        }
        println!("building {} (once; about {} when nothing is cached)", self.module, self.cold);
        let started = Instant::now();
        let unfinished = built.with_extension("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir_all(&unfinished)?;
        let mut build = Command::new("go");
        build.current_dir(&source).env("CGO_ENABLED", if self.cgo { "1" } else { "0" });
        build.arg("build").args(&flags).arg("-o").arg(format!("{}/", unfinished.display())).arg(self.target);
        command::output_of(&mut build)?;
        fs::rename(&unfinished, &built)?;
        println!("built {} in {} s", self.module, started.elapsed().as_secs());
        Ok(built)
    }

    fn flags(&self, source: &Path) -> Result<Vec<String>> {
        let mut linker = "-s -w".to_owned();
        if let Some(Version { module, flags }) = &self.version {
            linker = format!("{linker} {}", flags(&required(&source.join("go.mod"), module)?));
        }
        let mut flags = vec!["-trimpath".to_owned(), "-ldflags".to_owned(), linker];
        if !self.tags.is_empty() {
            flags.extend(["-tags".to_owned(), self.tags.to_owned()]);
        }
        Ok(flags)
    }

    /// Returns a hash of everything that decides the result of the build.
    fn key(&self, source: &Path, flags: &[String], go: &str) -> Result<String> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(source)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        files.sort();
        let mut hash = Sha256::new();
        hash.update(format!("{go}\n{}\n{flags:?}\n{}\n", self.cgo, self.target));
        for file in files {
            let content = fs::read(&file).with_context(|| format!("{}", file.display()))?;
            hash.update(format!("{:?} {}\n", file.file_name(), content.len()));
            hash.update(content);
        }
        Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Returns the version that a `go.mod` requires of a module.
fn required(go_mod: &Path, module: &str) -> Result<String> {
    let text = fs::read_to_string(go_mod).with_context(|| format!("{}", go_mod.display()))?;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some(module)
            && let Some(version) = words.next()
        {
            return Ok(version.to_owned());
        }
    }
    bail!("{} does not require {module}", go_mod.display())
}

fn kubernetes_version(version: &str) -> String {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let package = "k8s.io/component-base/version";
    format!("-X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}")
}

fn containerd_version(version: &str) -> String {
    format!("-X github.com/containerd/containerd/v2/version.Version={version}")
}

/// Points `link` at `target`. A link that exists is replaced.
fn link(target: &Path, link: &Path) -> Result<()> {
    let fresh = link.with_extension("new");
    let _ = fs::remove_file(&fresh);
    symlink(target, &fresh)?;
    fs::rename(&fresh, link).with_context(|| format!("{}", link.display()))
}
