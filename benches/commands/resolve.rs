//! Compares `tagpin resolve` with `crane digest` and `skopeo inspect`: one process for each image. All three take each
//! image in turn, so that other work of the machine slows all of them.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::figures::{goal, median};
use crate::program::program;
use crate::published;
use crate::registry::Registry;

const IMAGES: usize = 100;

/// The three commands that give the digest of an image in a registry that speaks plain HTTP.
struct Commands {
    home: TempDir,
    tagpin: PathBuf,
    crane: PathBuf,
}

pub(crate) fn measure() {
    let registry = Registry::start();
    let images = registry.fill(IMAGES);
    let commands = Commands::new(&registry.authority);
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for image in &images {
        let (took, digests): (Vec<f64>, Vec<String>) = commands.all(image).into_iter().map(timed).unzip();
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{image}: {digests:?}");
        for (times, took) in times.iter_mut().zip(took) {
            times.push(took);
        }
    }
    let [tagpin, crane, skopeo] = times;
    let against = |other: &[f64]| median(tagpin.iter().zip(other).map(|(ours, theirs)| ours / theirs));
    let (of_crane, of_skopeo) = (against(&crane), against(&skopeo));
    println!("\nthe digest of {IMAGES} images of a registry on this machine, a process for each");
    println!(
        "  tagpin resolve {:.1} ms, crane digest {:.1} ms, skopeo inspect {:.1} ms",
        median(tagpin.iter().copied()),
        median(crane.iter().copied()),
        median(skopeo.iter().copied())
    );
    goal(
        format_args!("  {of_crane:.2} of crane, {of_skopeo:.2} of skopeo"),
        "at most 1.00 of crane",
        of_crane <= 1.0,
    );
}

impl Commands {
    fn new(authority: &str) -> Self {
        let home = TempDir::new().unwrap();
        let registries = format!(
            "registries:\n- match: '{authority}'\n  allowPrivate: true\n  resolveFrom: mirrors-only\n  mirrors: [{{ \
             url: 'http://{authority}' }}]\n"
        );
        fs::write(home.path().join("registries.yaml"), registries).unwrap();
        Self { home, tagpin: published::binary(), crane: program("crane") }
    }

    fn all(&self, image: &str) -> [Command; 3] {
        let registries = self.home.path().join("registries.yaml");
        let mut tagpin = Command::new(&self.tagpin);
        tagpin.args(["resolve", image, "--registries"]).arg(registries);
        let mut crane = Command::new(&self.crane);
        crane.args(["digest", "--insecure", image]);
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", "--no-tags", "--tls-verify=false", "--format={{.Digest}}"]);
        skopeo.arg(format!("docker://{image}"));
        [tagpin, crane, skopeo].map(|mut command| {
            command.env_clear().env("HOME", self.home.path());
            command.env("PATH", env::var_os("PATH").unwrap_or_default());
            command
        })
    }
}

/// Returns the milliseconds until the process has ended, and the digest that it printed last.
fn timed(mut command: Command) -> (f64, String) {
    let started = Instant::now();
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let took = started.elapsed().as_secs_f64() * 1e3;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().unwrap_or_default();
    let digest = last.rfind("sha256:").and_then(|start| last.get(start..));
    (took, digest.unwrap_or_else(|| panic!("{command:?} printed no digest: {said}")).to_owned())
}
