//! Writes OCI image layouts. The same input gives the same digests on any machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::command;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A folder in the layout of OCI images that holds one image or one index of images.
pub(crate) struct Layout {
    folder: PathBuf,
}

/// A blob in a layout, as manifests refer to it.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor(Value);

/// A layer: the packed files, and the digest of the unpacked archive.
#[derive(Clone)]
pub(crate) struct Layer {
    packed: Vec<u8>,
    unpacked_digest: String,
}

/// The settings with which a container of an image starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Start {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) user: String,
    pub(crate) stop_signal: Option<&'static str>,
}

/// The effort for compression.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effort {
    Fast,
    Best,
}

impl Layer {
    /// Packs `paths` of `folder`, owned by root, and dated to the start of 1970.
    pub(crate) fn of(folder: &Path, paths: &[&str], effort: Effort) -> Result<Self> {
        let tar = folder.with_extension("tar");
        let mut pack = Command::new("tar");
        pack.args(["--create", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"]);
        pack.args(["--mode=u+rwX,go+rX,go-w", "--format=ustar"]);
        pack.arg("--file").arg(&tar).arg("--directory").arg(folder).args(paths);
        command::output_of(&mut pack)?;
        let unpacked_digest = digest(&fs::read(&tar)?);
        let (program, level) = match effort {
            Effort::Fast => ("gzip", "--fast"),
            // The search of zopfli takes a minute and saves 3 %. Its output is in gzip's format.
            Effort::Best => ("pigz", "-11"),
        };
        let gzip = Command::new(program)
            .args(["--no-name", "--stdout", level])
            .stdin(File::open(&tar)?)
            .stderr(Stdio::inherit())
            .output()
            .context(program)?;
        if !gzip.status.success() {
            bail!("{program} failed ({})", gzip.status);
        }
        fs::remove_file(&tar)?;
        Ok(Self { packed: gzip.stdout, unpacked_digest })
    }

    /// Returns the number of bytes to download.
    pub(crate) fn size(&self) -> u64 {
        self.packed.len() as u64
    }
}

impl Descriptor {
    /// Returns the digest: `sha256:...`
    pub(crate) fn digest(&self) -> &str {
        self.0.get("digest").and_then(Value::as_str).unwrap_or_default()
    }

    /// Adds the platform that the image is for.
    pub(crate) fn on(mut self, os: &str, architecture: &str) -> Self {
        self.set("platform", json!({ "os": os, "architecture": architecture }));
        self
    }

    pub(crate) fn annotated(mut self, annotations: Value) -> Self {
        self.set("annotations", annotations);
        self
    }

    fn set(&mut self, key: &str, value: Value) {
        if let Some(fields) = self.0.as_object_mut() {
            fields.insert(key.to_owned(), value);
        }
    }
}

impl Layout {
    /// Creates an empty layout. Deletes what was at `folder`.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder.join("blobs/sha256"))?;
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(Self { folder: folder.to_path_buf() })
    }

    /// Adds an image of these layers, and returns its descriptor.
    pub(crate) fn image(&self, architecture: &str, start: &Start, layers: &[&Layer]) -> Result<Descriptor> {
        let mut run = json!({
            "User": start.user,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": start.entrypoint,
            "Cmd": start.command,
        });
        if let (Some(signal), Some(fields)) = (start.stop_signal, run.as_object_mut()) {
            fields.insert("StopSignal".to_owned(), json!(signal));
        }
        let unpacked: Vec<&str> = layers.iter().map(|layer| layer.unpacked_digest.as_str()).collect();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": run,
            "rootfs": { "type": "layers", "diff_ids": unpacked },
        });
        let layers = layers.iter().map(|layer| self.blob(LAYER, &layer.packed));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let config = self.blob(CONFIG, &serde_json::to_vec(&config)?)?;
        self.manifest(&config, &layers)
    }

    /// Adds a manifest of blobs that are in the layout, and returns its descriptor.
    pub(crate) fn manifest(&self, config: &Descriptor, layers: &[Descriptor]) -> Result<Descriptor> {
        let layers: Vec<&Value> = layers.iter().map(|layer| &layer.0).collect();
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config.0, "layers": layers });
        self.blob(MANIFEST, &serde_json::to_vec(&manifest)?)
    }

    /// Adds an index of manifests that are in the layout, and returns its descriptor.
    pub(crate) fn index(&self, manifests: &[Descriptor]) -> Result<Descriptor> {
        let manifests: Vec<&Value> = manifests.iter().map(|manifest| &manifest.0).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        self.blob(INDEX, &serde_json::to_vec(&index)?)
    }

    pub(crate) fn blob(&self, media_type: &str, content: &[u8]) -> Result<Descriptor> {
        let digest = digest(content);
        let file = self.folder.join("blobs").join(digest.replace(':', "/"));
        fs::write(&file, content).with_context(|| format!("{}", file.display()))?;
        Ok(Descriptor(json!({ "mediaType": media_type, "digest": digest, "size": content.len() })))
    }

    /// Makes `top` the image of the layout, and returns its digest.
    pub(crate) fn finish(self, top: Descriptor) -> Result<String> {
        let digest = top.digest().to_owned();
        let top = top.annotated(json!({ "org.opencontainers.image.ref.name": "image" }));
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [top.0] });
        fs::write(self.folder.join("index.json"), serde_json::to_vec(&index)?)?;
        Ok(digest)
    }
}

/// Returns the architecture of this machine by the name that images use.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digest(content: &[u8]) -> String {
    let hash: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hash}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, SystemTime};

    use super::*;

    /// The names of the files, in an order in which no folder lists them.
    const FILES: [&str; 8] =
        ["etc/m", "etc/c", "tagpin", "etc/z", "etc/a/1", "etc/k", "etc/b", "etc/deep/er/file"];

    /// Returns the digest of an image of these files with this date and these modes, and the digest of its unpacked
    /// layer.
    fn image_of<'a>(
        files: impl Iterator<Item = &'a &'a str>,
        date: SystemTime,
        mode: u32,
    ) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("rootfs");
        for name in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(date).unwrap();
        }
        let layer = Layer::of(&root, &["etc", "tagpin"], Effort::Best).unwrap();
        let layout = Layout::create(&folder.path().join("oci")).unwrap();
        let top = layout.image("amd64", &Start::default(), &[&layer]).unwrap();
        (layout.finish(top).unwrap(), layer.unpacked_digest)
    }

    #[test]
    fn the_same_files_give_the_same_digest_whenever_and_wherever_they_were_written() {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let one = image_of(FILES.iter(), SystemTime::now(), 0o755);
        assert_eq!(one, image_of(FILES.iter().rev(), then, 0o775));
        // Folders list their files in different orders. The layer is sorted by name, so its digest is always this one.
        assert_eq!(one.1, "sha256:f3f45153b50fd4a0d6f871949cae9b07eba0c35519b6e109df677a87dbd0bcd9");
        assert_ne!(one, image_of(FILES.iter().skip(1), then, 0o755));
    }
}
