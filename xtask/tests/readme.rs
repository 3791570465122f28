//! Tests that type the commands of README.md that need no cluster, as they are written there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

#[path = "../../tests/readme/blocks.rs"]
mod blocks;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use self::blocks::{Block, Place};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[test]
fn every_block_of_the_readme_is_typed_or_says_why_not() {
    for Block { key, place, .. } in blocks::all(ROOT) {
        if let Place::Nowhere(reason) = place {
            assert!(!reason.is_empty(), "{key}");
        }
    }
}

#[test]
fn the_image_is_where_the_readme_pushes_it_from_and_holds_the_command() {
    // This makes the image as `make image` does, but with another profile.
    let made = xtask(&["image"]);
    let home = TempDir::new().unwrap();
    let registry = Registry::start();
    let settings = home.path().join(".config/containers");
    fs::create_dir_all(&settings).unwrap();
    let plain = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.host);
    fs::write(settings.join("registries.conf"), plain).unwrap();

    let here = |block: &Block| matches!(block.place, Place::Offline | Place::Both);
    for block in blocks::all(ROOT).into_iter().filter(here) {
        match block.key {
            "skopeo copy" => {
                let text = block.with(&[("registry.example.com", &registry.host)]);
                // The commands after this one need a cluster.
                typed(home.path(), text.split_once("\nhelm install").unwrap().0);
                let image = format!("docker://{}/tools/tagpin:{}", registry.host, env!("CARGO_PKG_VERSION"));
                let digest =
                    typed(home.path(), &format!("skopeo inspect --format '{{{{.Digest}}}}' {image}"));
                assert_eq!(Some(digest.trim()), made.lines().next());
            }
            "install target/image" => {
                typed(home.path(), &block.with(&[("/usr/local/bin/", &home.path().display().to_string())]));
                let version = typed(home.path(), "tagpin --version");
                assert_eq!(version.trim(), format!("tagpin {}", env!("CARGO_PKG_VERSION")));
            }
            "source <(tagpin completions bash)" => {
                let complete =
                    "COMP_WORDS=(tagpin res); COMP_CWORD=1; _tagpin tagpin res tagpin; echo ${COMPREPLY[@]}";
                // The script reads variables that may be unset.
                let said = typed(home.path(), &format!("set +u\n{}{complete}", block.text));
                assert_eq!(said.trim(), "resolve");
            }
            other => panic!("nothing is checked after {other}"),
        }
    }
}

/// Runs commands in the root of the repository, with this folder as home and first on the path, and returns their
/// output.
#[track_caller]
fn typed(home: &Path, text: &str) -> String {
    let mut bash = Command::new("bash");
    let path = format!("{}:{}", home.display(), std::env::var("PATH").unwrap());
    bash.args(["-euo", "pipefail", "-c", text]).current_dir(ROOT).env("HOME", home).env("PATH", path);
    // skopeo keeps a cache. The cache of a user is in the home, but that of root would be the machine's own.
    bash.env("_CONTAINERS_ROOTLESS_UID", "65534").env("XDG_DATA_HOME", home);
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns what `cargo xtask WORDS` prints.
fn xtask(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A registry without TLS on a port of this machine that the system chose.
struct Registry {
    child: Child,
    host: String,
    _folder: TempDir,
}

impl Registry {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let config = folder.path().join("config.yml");
        let data = folder.path().join("data").display().to_string();
        let text = format!(
            "version: 0.1\nlog: {{ level: info }}\nstorage: {{ filesystem: {{ rootdirectory: {data} }} }}\n\
             http: {{ addr: '127.0.0.1:0' }}\n"
        );
        fs::write(&config, text).unwrap();
        let programs = xtask(&["part", "docker-registry"]);
        let mut registry = Command::new(Path::new(programs.lines().last().unwrap()).join("docker-registry"));
        registry.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = registry.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let port = lines.by_ref().find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
            Some(rest.chars().take_while(char::is_ascii_digit).collect::<String>())
        });
        thread::spawn(move || lines.for_each(drop));
        Self { child, host: format!("127.0.0.1:{}", port.expect("it listens")), _folder: folder }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
