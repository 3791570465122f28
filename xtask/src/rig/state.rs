//! The folder of one rig: what is in it and where. Everything that a rig keeps is here.

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

/// What was asked for at the last `up`: a reboot without arguments gives the same again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// How many nodes, the control plane's own included.
    pub(crate) nodes: u8,
}

impl State {
    /// The folder of the rig `name` below `home`; nothing is made yet.
    pub(crate) fn named(home: &Path, name: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 20 || !name.chars().all(plain) {
            bail!("a rig's name is 1 to 20 of a-z, 0-9 and '-'; `{name}` is not");
        }
        let home = std::path::absolute(home).context("the folder of the rigs")?;
        let root = home.join(name);
        // The rig covers these two with its own; what lies below them is out of sight inside.
        for folder in [&root, &workspace::root(), &workspace::cache()?] {
            if ["/var", "/run"].iter().any(|covered| folder.starts_with(covered)) {
                bail!(
                    "{} can not be seen from inside a rig, which has its own /var and /run; \
                     move it, or set TAGPIN_RIG_HOME or TAGPIN_CACHE",
                    folder.display()
                );
            }
        }
        Ok(Self { root })
    }

    /// The folder that a supervisor was started with.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the rigs.
    pub(crate) fn home(&self) -> &Path {
        self.root.parent().unwrap_or(&self.root)
    }

    /// The rig's name.
    pub(crate) fn name(&self) -> &OsStr {
        self.root.file_name().unwrap_or_default()
    }

    pub(crate) fn exists(&self) -> bool {
        self.shape_file().exists()
    }

    /// Held while a command changes what runs.
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

    /// kubectl, helm and the components, by name.
    pub(crate) fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// Settings that are written anew at every start.
    pub(crate) fn etc(&self, file: &str) -> PathBuf {
        self.root.join("etc").join(file)
    }

    /// Settings of one node.
    pub(crate) fn node_etc(&self, node: &str, file: &str) -> PathBuf {
        self.root.join("etc").join(node).join(file)
    }

    /// Static pods: a manifest put here is run by the kubelet of that node.
    pub(crate) fn manifests(&self, node: &str) -> PathBuf {
        self.root.join("manifests").join(node)
    }

    /// Keys and certificates, made at the first start.
    pub(crate) fn pki(&self, file: &str) -> PathBuf {
        self.root.join("pki").join(file)
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// The mirrors of the rig in k3s' format, for tagpin.
    pub(crate) fn registries_yaml(&self) -> PathBuf {
        self.root.join("registries.yaml")
    }

    /// What a client of the private registry needs: `ca.crt`, `username`, `password`.
    pub(crate) fn private_registry(&self, file: &str) -> PathBuf {
        self.root.join("private-registry").join(file)
    }

    /// One log per component and machine, and `audit.log`.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// OCI layouts of the test images.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// What a machine sees as /var.
    pub(crate) fn var(&self, node: &str) -> PathBuf {
        self.root.join("data").join(node)
    }

    /// The cgroup of this rig, below which every container's is: no two rigs share one.
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
