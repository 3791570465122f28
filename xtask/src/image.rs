//! Makes the image of tagpin: one static binary and the certificate authorities that it trusts, in an otherwise empty
//! root. This needs no container engine. The Dockerfile makes the same image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::oci::{Effort, Layer, Layout, Start, architecture};
use crate::{command, workspace};

/// The certificate authorities of this machine. Every TLS library looks for them at this path.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Make the image of tagpin from this tree, as an OCI layout in target/image/oci
#[derive(Args)]
pub(crate) struct Image {
    /// The build profile: dev shares everything with the tests, release is published
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
    /// Make it once more, from a copy of this tree in another folder, and fail unless both are the same
    #[arg(long)]
    twice: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// The result of making an image.
pub(crate) struct Made {
    /// The folder of the OCI layout.
    pub(crate) layout: PathBuf,
    pub(crate) digest: String,
    /// Number of bytes that a node downloads.
    pub(crate) compressed: u64,
    /// Size of the stripped binary in bytes.
    pub(crate) binary: u64,
}

impl Image {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let made = make(self.profile)?;
        println!("{}", made.digest);
        println!("  binary      {}", mebibytes(made.binary));
        println!("  compressed  {}", mebibytes(made.compressed));
        println!("  OCI layout  {}", made.layout.display());
        if self.twice {
            println!("once more, from a copy in another folder");
            let again = elsewhere(self.profile)?;
            ensure!(again == made.digest, "made again it is {again}: the image cannot be reproduced");
            println!("{again}: the same");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes the image from a copy of this tree in another folder, with nothing built before, and returns its digest.
fn elsewhere(profile: Profile) -> Result<String> {
    let root = workspace::root();
    let folder = std::env::temp_dir().join(format!("tagpin-again-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let copied = || -> Result<String> {
        let files = command::output_of(Command::new("git").current_dir(&root).args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        for file in files.lines().filter(|file| root.join(file).is_file()) {
            let to = folder.join(file);
            fs::create_dir_all(to.parent().unwrap_or(&folder))?;
            fs::copy(root.join(file), &to).with_context(|| file.to_owned())?;
        }
        Ok(make_of(&folder, profile)?.digest)
    };
    let digest = copied();
    fs::remove_dir_all(&folder)?;
    digest
}

/// Builds the binary and makes the image. `target/image/rootfs` has the files of the image, and is the context for the
/// Dockerfile.
pub(crate) fn make(profile: Profile) -> Result<Made> {
    make_of(&workspace::root(), profile)
}

fn make_of(root: &Path, profile: Profile) -> Result<Made> {
    let folder = root.join("target/image");
    let rootfs = folder.join("rootfs");
    let binary = rootfs.join("tagpin");
    if rootfs.exists() {
        fs::remove_dir_all(&rootfs)?;
    }
    fs::create_dir_all(rootfs.join(AUTHORITIES).parent().unwrap_or(&rootfs))?;
    strip(&build(root, profile)?, &binary)?;
    if profile == Profile::Release {
        names_no_folder_of(&fs::read(&binary)?, root)?;
    }
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

/// Returns the folders of the building machine, each with the path that replaces it in what is published.
fn folders(root: &Path) -> Result<[(PathBuf, &'static str); 2]> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?)
            .join(".cargo"),
    };
    Ok([(home, "/cargo"), (root.to_path_buf(), "/tagpin")])
}

/// Fails if the binary names a folder of the machine that built it, because another machine would build another binary.
fn names_no_folder_of(binary: &[u8], root: &Path) -> Result<()> {
    for (folder, _) in folders(root)? {
        let name = folder.as_os_str().as_encoded_bytes();
        ensure!(
            !binary.windows(name.len()).any(|window| window == name),
            "the binary names {}: it cannot be reproduced elsewhere",
            folder.display()
        );
    }
    Ok(())
}

/// Runs cargo, and returns the path of the binary.
fn build(root: &Path, profile: Profile) -> Result<PathBuf> {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(root);
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
        let flags: Vec<String> = folders(root)?
            .iter()
            .map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display()))
            .collect();
        // Cargo joins these flags to those of .cargo/config.toml.
        build
            .arg("--config")
            .arg(format!("target.'cfg(all())'.rustflags={}", serde_json::to_string(&flags)?));
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
