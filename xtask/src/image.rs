//! The image of tagpin: one static binary and the certificate authorities it trusts, in an
//! otherwise empty root. Made without a container engine; the Dockerfile makes the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::oci::{Effort, Layer, Layout, Start, architecture};
use crate::{command, workspace};

/// The certificate authorities of this machine, where every TLS library looks for them.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Make the image of tagpin from this tree, in target/image
#[derive(Args)]
pub(crate) struct Image {
    /// How it is built: dev shares everything with the tests, release is what is published
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// An image that was made.
pub(crate) struct Made {
    /// Its OCI layout
    pub(crate) layout: PathBuf,
    pub(crate) digest: String,
    /// What a node downloads, in bytes
    pub(crate) compressed: u64,
    /// The stripped binary, in bytes
    pub(crate) binary: u64,
}

impl Image {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let made = make(self.profile)?;
        println!("{}", made.digest);
        println!("  binary      {}", mebibytes(made.binary));
        println!("  compressed  {}", mebibytes(made.compressed));
        println!("  OCI layout  {}", made.layout.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// Builds the binary and makes the image. `target/image/rootfs` is what is in it, and the
/// context for the Dockerfile.
pub(crate) fn make(profile: Profile) -> Result<Made> {
    let folder = workspace::root().join("target/image");
    let rootfs = folder.join("rootfs");
    let binary = rootfs.join("tagpin");
    if rootfs.exists() {
        fs::remove_dir_all(&rootfs)?;
    }
    fs::create_dir_all(rootfs.join(AUTHORITIES).parent().unwrap_or(&rootfs))?;
    strip(&build(profile)?, &binary)?;
    fs::copy(Path::new("/").join(AUTHORITIES), rootfs.join(AUTHORITIES))
        .with_context(|| format!("/{AUTHORITIES}; Debian has it in the package ca-certificates"))?;
    let effort = match profile {
        Profile::Dev => Effort::Fast,
        Profile::Release => Effort::Best,
    };
    // Two layers: the authorities change with the distribution, the binary with every build.
    let authorities = Layer::of(&rootfs, &["etc"], effort)?;
    let program = Layer::of(&rootfs, &["tagpin"], effort)?;
    let layout = folder.join("oci");
    let image = Layout::create(&layout)?;
    let start =
        Start { entrypoint: vec!["/tagpin".to_owned()], user: "65532:65532".to_owned(), ..Start::default() };
    let top = image.image(architecture(), &start, &[&authorities, &program])?;
    Ok(Made {
        digest: image.finish(top)?,
        compressed: authorities.size() + program.size(),
        binary: fs::metadata(&binary)?.len(),
        layout,
    })
}

/// Runs cargo and returns where it put the binary.
fn build(profile: Profile) -> Result<PathBuf> {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(workspace::root());
    build.args([
        "build",
        "--package",
        "tagpin",
        "--bin",
        "tagpin",
        "--message-format=json-render-diagnostics",
    ]);
    if profile == Profile::Release {
        build.arg("--release");
    }
    let output = command::as_from_a_shell(&mut build)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo build")?;
    if !output.status.success() {
        bail!("tagpin does not build");
    }
    let built = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message.get("executable").and_then(Value::as_str).map(PathBuf::from))
        .next_back();
    built.context("cargo did not say where the binary is")
}

fn strip(binary: &Path, stripped: &Path) -> Result<()> {
    command::run("strip", [Path::new("-o"), stripped, binary])
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    let tenths = bytes * 10 / (1024 * 1024);
    format!("{}.{} MiB ({bytes} bytes)", tenths / 10, tenths % 10)
}
