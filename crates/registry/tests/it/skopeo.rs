//! skopeo, an independent client: it pushes images, and reads digests.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::distribution::{OCI_INDEX, OCI_MANIFEST, digest_of};

/// A folder with an image for two platforms to push; each name has another image.
pub(super) struct Layout(TempDir);

impl Layout {
    pub(super) fn of(name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        let blob = |value: &Value| {
            let text = value.to_string();
            let digest = digest_of(text.as_bytes());
            let hex = digest.strip_prefix("sha256:").unwrap();
            fs::write(folder.path().join("blobs/sha256").join(hex), &text).unwrap();
            (digest, text.len())
        };
        let manifests = ["amd64", "arm64"].map(|architecture| {
            let (digest, size) = blob(&json!({
                "architecture": architecture, "os": "linux", "author": name, "rootfs": { "type": "layers", "diff_ids": [] },
            }));
            let config = json!({
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": size,
            });
            let (digest, size) = blob(&json!({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [],
            }));
            json!({
                "mediaType": OCI_MANIFEST, "digest": digest, "size": size,
                "platform": { "os": "linux", "architecture": architecture },
            })
        });
        let (digest, size) =
            blob(&json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests }));
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{ "mediaType": OCI_INDEX, "digest": digest, "size": size }],
        });
        fs::write(folder.path().join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())
            .unwrap();
        fs::write(folder.path().join("index.json"), index.to_string()).unwrap();
        Self(folder)
    }

    /// Pushes the image as `oci` or as `v2s2` (Docker's format), and returns the digest that skopeo reads.
    pub(super) fn push(&self, image: &str, format: &str, credentials: Option<&str>) -> String {
        let said = self.0.path().join(format!("digest-{format}"));
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--all", "--dest-tls-verify=false", "--format", format]);
        skopeo.arg("--digestfile").arg(&said);
        if let Some(credentials) = credentials {
            skopeo.args(["--dest-creds", credentials]);
        }
        run(skopeo.arg(format!("oci:{}", self.0.path().display())).arg(format!("docker://{image}")));
        fs::read_to_string(said).unwrap()
    }
}

/// Returns the digest of the tag.
pub(super) fn digest(image: &str, credentials: Option<&str>) -> String {
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["inspect", "--raw", "--tls-verify=false"]);
    if let Some(credentials) = credentials {
        skopeo.args(["--creds", credentials]);
    }
    digest_of(&run(skopeo.arg(format!("docker://{image}"))))
}

fn run(skopeo: &mut Command) -> Vec<u8> {
    let output = skopeo.output().expect("skopeo is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
