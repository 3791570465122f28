//! Tests of the image of tagpin, made with and without a container engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking and say why they are skipped"
)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use serde_json::Value;

#[test]
fn the_dockerfile_makes_the_same_image_as_cargo_xtask_image() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        drop(writeln!(std::io::stderr(), "skipped: building an image needs root"));
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
    let _ = fs::remove_dir_all(&scratch);
    let cache = machines_cache();
    run(Command::new(env!("CARGO_BIN_EXE_xtask")).arg("image"));
    let made = root.join("target/image");

    let buildah = || {
        let mut buildah = Command::new("buildah");
        buildah.args(["--storage-driver", "vfs", "--root"]).arg(scratch.join("store"));
        buildah.arg("--runroot").arg(scratch.join("run"));
        // buildah keeps a cache. A user chooses its place by XDG_DATA_HOME, but as root it would be the machine's own
        // cache.
        buildah.env("_CONTAINERS_ROOTLESS_UID", "65534").env("XDG_DATA_HOME", &scratch);
        buildah
    };
    let mut build = buildah();
    build.args(["bud", "--isolation", "chroot", "--tag", "tagpin", "--file"]).arg(root.join("Dockerfile"));
    run(build.arg(made.join("rootfs")));
    let layout = scratch.join("oci");
    run(buildah().args(["push", "tagpin"]).arg(format!("oci:{}:image", layout.display())));

    let (ours, theirs) = (Image::open(&made.join("oci"), &scratch), Image::open(&layout, &scratch));
    let names: Vec<&str> = ours.files.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["etc/ssl/certs/ca-certificates.crt", "tagpin"]);
    assert!(ours.files == theirs.files, "the files differ in content or mode");
    for setting in ["User", "Entrypoint"] {
        assert_eq!(ours.config["config"][setting], theirs.config["config"][setting], "{setting}");
    }
    assert_eq!(ours.config["config"]["User"], "65532:65532");
    assert_eq!(machines_cache(), cache, "the machine's own cache was written");
    // The root is empty, so the program must not need a loader.
    let program = Command::new("chroot").arg(&ours.rootfs).args(["/tagpin", "--version"]).output().unwrap();
    assert!(program.status.success(), "{program:?}");
}

/// Returns the time of the last change of the cache that buildah and skopeo keep for root, if there is one.
fn machines_cache() -> Option<SystemTime> {
    fs::metadata("/var/lib/containers/cache/blob-info-cache-v1.boltdb").ok()?.modified().ok()
}

/// The unpacked image of an OCI layout.
struct Image {
    rootfs: PathBuf,
    config: Value,
    /// Name, mode and content of every file, sorted by name.
    files: Vec<(String, u32, Vec<u8>)>,
}

impl Image {
    fn open(layout: &Path, scratch: &Path) -> Self {
        let blob = |descriptor: &Value| {
            layout.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
        };
        let json = |file: PathBuf| -> Value { serde_json::from_slice(&fs::read(file).unwrap()).unwrap() };
        let manifest = json(blob(&json(layout.join("index.json"))["manifests"][0]));
        let parent = layout.parent().unwrap().file_name().unwrap().to_str().unwrap();
        let rootfs = scratch.join(format!("unpacked-{parent}-{}", manifest["config"]["size"]));
        fs::create_dir_all(&rootfs).unwrap();
        for layer in manifest["layers"].as_array().unwrap() {
            run(Command::new("tar").arg("-xzf").arg(blob(layer)).arg("-C").arg(&rootfs));
        }
        let mut files = Vec::new();
        collect(&rootfs, &rootfs, &mut files);
        files.sort();
        Self { config: json(blob(&manifest["config"])), rootfs, files }
    }
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, u32, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            files.push((name, mode, fs::read(&path).unwrap()));
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
