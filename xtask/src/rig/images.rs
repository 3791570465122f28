//! The test images: tiny, made from the distribution's busybox, and one of each shape that a registry serves.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::json;

use super::registries::PRIVATE_HOST;
use super::state::{State, write};
use crate::oci::{Descriptor, Effort, Layer, Layout, Start, architecture};
use crate::{command, packages};

/// A test image, and the references that it is pushed under.
pub(crate) struct TestImage {
    shape: Shape,
    content: &'static str,
    /// The references: `host/repository:tag`.
    pub(crate) references: Vec<String>,
}

/// The shape of the image that a reference leads to.
#[derive(Clone, Copy)]
enum Shape {
    /// One manifest; serves `content` over HTTP on port 8080
    Web,
    /// One manifest; sleeps, and has a shell
    Tool,
    /// One manifest; holds every pod's namespaces
    Pause,
    /// An index for amd64 and arm64
    Multi,
    /// An index with this machine's architecture, and an attestation about it as build tools push it
    Attested,
}

/// Returns every image that a new rig holds.
pub(crate) fn all() -> Vec<TestImage> {
    let image = |shape, content, references: &[&str]| TestImage {
        shape,
        content,
        references: references.iter().map(|reference| (*reference).to_owned()).collect(),
    };
    vec![
        image(Shape::Pause, "pause", &[super::registries::PAUSE]),
        image(Shape::Web, "web 1.4.1", &["docker.io/library/web:1.4.1"]),
        image(Shape::Web, "web 1.4.2", &["docker.io/library/web:1.4.2", "docker.io/library/web:latest"]),
        image(Shape::Web, "moving v1", &["docker.io/library/moving:1.0.0"]),
        image(Shape::Multi, "multi 2.0.1", &["docker.io/library/multi:2.0.1"]),
        image(Shape::Attested, "attested 1.0.0", &["docker.io/library/attested:1.0.0"]),
        image(Shape::Tool, "sidecar 1.0.0", &["docker.io/library/sidecar:1.0.0"]),
        image(Shape::Tool, "tool 1.0.0", &["docker.io/library/tool:1.0.0"]),
        image(Shape::Web, "api 1.0.0", &[&format!("{PRIVATE_HOST}/team/api:1.0.0")]),
    ]
}

/// Builds images in a folder of its own, which is deleted with the workshop. The files that all images share are packed
/// once.
pub(crate) struct Workshop {
    folder: PathBuf,
    base: Layer,
}

impl Workshop {
    pub(crate) fn open(state: &State) -> Result<Self> {
        // Each process has its own folder, because tests move tags at the same time.
        let folder = state.images().join(std::process::id().to_string());
        let rootfs = folder.join("base");
        for below in ["bin", "tmp", "etc"] {
            fs::create_dir_all(rootfs.join(below))?;
        }
        let busybox = packages::program("busybox")?;
        // The image holds nothing else, so a dynamically linked busybox would fail there as "not found".
        let headers = command::output("readelf", ["--program-headers".as_ref(), busybox.as_os_str()])?;
        if headers.contains("INTERP") {
            bail!("{} is not static: install busybox-static", busybox.display());
        }
        fs::copy(busybox, rootfs.join("bin/busybox"))?;
        for name in [
            "sh", "httpd", "sleep", "wget", "cat", "ls", "echo", "env", "id", "true", "false", "nslookup",
            "date",
        ] {
            symlink("busybox", rootfs.join("bin").join(name))?;
        }
        Ok(Self { base: Layer::of(&rootfs, &["."], Effort::Fast)?, folder })
    }

    /// Builds a test image. Returns its layout, which exists for as long as the workshop, and the digest that its tags
    /// lead to.
    pub(crate) fn build(&self, image: &TestImage) -> Result<(PathBuf, String)> {
        self.make(image.shape, image.content)
    }

    /// Builds a web server with this content, which a tag can be moved to.
    pub(crate) fn web(&self, content: &str) -> Result<(PathBuf, String)> {
        self.make(Shape::Web, content)
    }

    fn make(&self, shape: Shape, content: &str) -> Result<(PathBuf, String)> {
        let name: String = content.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let page = self.page(&name, content)?;
        let folder = self.folder.join(&name);
        let layout = Layout::create(&folder)?;
        let single = |architecture: &str| layout.image(architecture, &shape.start(), &[&self.base, &page]);
        let top = match shape {
            Shape::Web | Shape::Tool | Shape::Pause => single(architecture())?,
            Shape::Multi => layout
                .index(&[single("amd64")?.on("linux", "amd64"), single("arm64")?.on("linux", "arm64")])?,
            Shape::Attested => {
                let image = single(architecture())?.on("linux", architecture());
                let attestation = attestation(&layout, &image)?;
                layout.index(&[image, attestation])?
            }
        };
        Ok((folder, layout.finish(top)?))
    }

    /// Makes the layer in which one image differs from another.
    fn page(&self, name: &str, content: &str) -> Result<Layer> {
        let rootfs = self.folder.join(format!("{name}-page"));
        write(&rootfs.join("www/index.html"), format!("{content}\n").as_bytes())?;
        let layer = Layer::of(&rootfs, &["."], Effort::Fast)?;
        fs::remove_dir_all(&rootfs)?;
        Ok(layer)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // Files that stay behind are deleted with the rig's folder.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Shape {
    fn start(self) -> Start {
        let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect();
        let (entrypoint, command) = match self {
            Self::Web | Self::Multi | Self::Attested => {
                (words(&["/bin/httpd", "-f", "-p", "8080", "-h", "/www"]), Vec::new())
            }
            Self::Tool => (Vec::new(), words(&["/bin/sleep", "2000000000"])),
            Self::Pause => (words(&["/bin/sleep", "2000000000"]), Vec::new()),
        };
        // As PID 1 of its container busybox ignores SIGTERM, and a test would have to wait.
        Start { entrypoint, command, user: "65532:65532".to_owned(), stop_signal: Some("SIGKILL") }
    }
}

/// Makes the manifest that BuildKit adds to an index: it is for no platform, and says how `image` was made.
fn attestation(layout: &Layout, image: &Descriptor) -> Result<Descriptor> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": "https://slsa.dev/provenance/v0.2",
        "subject": [{ "name": "attested", "digest": { "sha256": image.digest().trim_start_matches("sha256:") } }],
        "predicate": { "builder": { "id": "" }, "buildType": "https://mobyproject.org/buildkit@v1" },
    });
    let layer = layout.blob("application/vnd.in-toto+json", &serde_json::to_vec(&statement)?)?;
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer.digest()] },
    });
    let config = layout.blob("application/vnd.oci.image.config.v1+json", &serde_json::to_vec(&config)?)?;
    let layer = layer.annotated(json!({ "in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2" }));
    let about = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image.digest(),
    });
    Ok(layout.manifest(&config, &[layer])?.on("unknown", "unknown").annotated(about))
}
