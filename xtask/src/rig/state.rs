//! The folder of one rig. Everything that a rig keeps is in it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::workspace;

/// The folder of one rig.
#[derive(Clone, Debug)]
pub(crate) struct State {
    root: PathBuf,
}

/// The settings of the last `up`. A later `up` without arguments uses them again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// Number of nodes, including the node of the control plane.
    pub(crate) nodes: u8,
}

impl State {
    /// Returns the folder of the rig `name` below `home`, and does not create it.
    pub(crate) fn named(home: &Path, name: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 20 || !name.chars().all(plain) {
            bail!("a rig's name is 1 to 20 of a-z, 0-9 and '-'; `{name}` is not");
        }
        let home = std::path::absolute(home).context("the folder of the rigs")?;
        let root = home.join(name);
        // The rig mounts its own /var and /run over these two, so that nothing below them can be seen from inside.
        for folder in [&root, &workspace::root(), &workspace::cache()?] {
            if ["/var", "/run"].iter().any(|covered| folder.starts_with(covered)) {
                bail!(
                    "{} cannot be seen from inside a rig, which has its own /var and /run; \
                     move it, or set TAGPIN_RIG_HOME or TAGPIN_CACHE",
                    folder.display()
                );
            }
        }
        Ok(Self { root })
    }

    /// Returns the folder that a supervisor was started with.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folder that holds the folders of all rigs.
    pub(crate) fn home(&self) -> &Path {
        self.root.parent().unwrap_or(&self.root)
    }

    /// Returns the rig's name.
    pub(crate) fn name(&self) -> &OsStr {
        self.root.file_name().unwrap_or_default()
    }

    pub(crate) fn exists(&self) -> bool {
        self.shape_file().exists()
    }

    /// Takes the lock that a command holds while it changes what runs.
    pub(crate) fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.root).with_context(|| format!("{}", self.root.display()))?;
        let lock = File::create(self.root.join("lock")).context("the rig's lock file")?;
        lock.lock().context("waiting for another command on this rig")?;
        Ok(lock)
    }

    pub(crate) fn shape(&self) -> Result<Shape> {
        let file = self.shape_file();
        let text = fs::read(&file).with_context(|| format!("{}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{}", file.display()))
    }

    pub(crate) fn write_shape(&self, shape: &Shape) -> Result<()> {
        write(&self.shape_file(), &serde_json::to_vec(shape)?)
    }

    fn shape_file(&self) -> PathBuf {
        self.root.join("rig.json")
    }

    /// Returns the folder that links kubectl, helm and the components by name.
    pub(crate) fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// Returns the path of a settings file, which is written anew at every start.
    pub(crate) fn etc(&self, file: &str) -> PathBuf {
        self.root.join("etc").join(file)
    }

    /// Returns the path of a settings file of one node.
    pub(crate) fn node_etc(&self, node: &str, file: &str) -> PathBuf {
        self.root.join("etc").join(node).join(file)
    }

    /// Returns the folder for static pods. The kubelet of that node runs each manifest in it.
    pub(crate) fn manifests(&self, node: &str) -> PathBuf {
        self.root.join("manifests").join(node)
    }

    /// Returns the path of a key or certificate, which is made at the first start.
    pub(crate) fn pki(&self, file: &str) -> PathBuf {
        self.root.join("pki").join(file)
    }

    /// Returns the path of the administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// Returns the path of the file with the mirrors of the rig in k3s' format, for tagpin.
    pub(crate) fn registries_yaml(&self) -> PathBuf {
        self.root.join("registries.yaml")
    }

    /// Returns the path of a file that clients of the private registry need: `ca.crt`, `username` or `password`.
    pub(crate) fn private_registry(&self, file: &str) -> PathBuf {
        self.root.join("private-registry").join(file)
    }

    /// Returns the path of a log: one for each component of each machine, and `audit.log`.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// Returns the folder with the OCI layouts of the test images.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Returns the folder that a machine sees as /var.
    pub(crate) fn var(&self, node: &str) -> PathBuf {
        self.root.join("data").join(node)
    }

    /// Returns the cgroup of this rig, which has the cgroups of all its containers below it. No two rigs share one.
    pub(crate) fn cgroup(&self) -> String {
        let digest = Sha256::digest(self.root.as_os_str().as_encoded_bytes());
        let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("tagpin-rig-{short}")
    }
}

/// Writes a file and the folders above it.
pub(crate) fn write(file: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    fs::write(file, content).with_context(|| format!("{}", file.display()))
}
