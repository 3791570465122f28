//! Mirrors of containerd: a folder `certs.d` that has a folder for each registry with a `hosts.toml`
//! (`core/remotes/docker/config/hosts.go`, containerd 2.4). Without that file, the certificates in the folder are
//! used.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::hosts_toml::{self, Hosts};
use crate::config::file::{ConfigError, Files, mistake};
use crate::profile::endpoint::Endpoint;
use crate::profile::tls::{CaBundle, ClientCertificate, Tls};

/// Name of the folder for every registry without one of its own.
const DEFAULT: &str = "_default";

/// The settings of a folder `certs.d`.
#[derive(Debug, Default)]
pub(crate) struct CertsD {
    /// The settings by the name of the folder, in lower case.
    folders: BTreeMap<String, Hosts>,
    warnings: Vec<String>,
}

impl CertsD {
    /// Reads every folder.
    pub(super) fn load(files: &Files, root: &Path) -> Result<Self, ConfigError> {
        let mut this = Self::default();
        for folder in files.folder(root)? {
            // Kubernetes swaps the content of a volume by `..data` and the like.
            let name =
                folder.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with(".."));
            let Some(name) = name.filter(|_| files.is_folder(&folder)) else { continue };
            let hosts = this.folder(files, &folder)?;
            this.folders.insert(name.to_ascii_lowercase(), hosts);
        }
        Ok(this)
    }

    /// Reads the folder of one registry.
    fn folder(&mut self, files: &Files, folder: &Path) -> Result<Hosts, ConfigError> {
        let file = folder.join("hosts.toml");
        let text = match files.read(&file) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(cause) => return Err(ConfigError::Read { file, cause }),
        };
        if text.is_empty() {
            let tls = beside(files, folder)?;
            return Ok(Hosts { tls: (tls != Tls::default()).then_some(tls), ..Hosts::default() });
        }
        let Ok(text) = std::str::from_utf8(&text) else {
            return Err(mistake(&file, None, "", "is not UTF-8"));
        };
        hosts_toml::read(files, &file, text, &mut self.warnings)
    }

    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns all TLS settings.
    pub(super) fn secured(&self) -> impl Iterator<Item = &Tls> {
        self.folders.values().flat_map(|hosts| {
            let endpoints = hosts.mirrors.iter().chain(&hosts.server).map(|endpoint| &endpoint.tls);
            endpoints.chain(hosts.tls.as_ref().filter(|_| hosts.server.is_none()))
        })
    }

    /// Returns true if any registry has a mirror.
    pub(super) fn names_any(&self) -> bool {
        self.folders.values().any(|hosts| !hosts.mirrors.is_empty())
    }

    pub(super) fn mirrors(&self, registry: &str) -> &[Endpoint] {
        self.of(registry).map_or(&[], |hosts| &hosts.mirrors)
    }

    pub(super) fn server(&self, registry: &str) -> Option<&Endpoint> {
        self.of(registry)?.server.as_ref()
    }

    pub(super) fn registry_tls(&self, registry: &str) -> Option<Tls> {
        self.of(registry)?.tls.clone()
    }

    /// Returns the settings of the folder for this very host. `_default` is for registries and not for mirrors.
    pub(super) fn own_tls(&self, host: &str) -> Option<Tls> {
        names(host).find_map(|name| self.folders.get(&name))?.tls.clone()
    }

    fn of(&self, registry: &str) -> Option<&Hosts> {
        names(registry).chain([DEFAULT.to_owned()]).find_map(|name| self.folders.get(&name))
    }
}

/// Returns the folders that a registry may have, in the order of the search.
fn names(registry: &str) -> impl Iterator<Item = String> {
    let with_port = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    with_port.into_iter().chain([registry.to_owned()])
}

/// Reads certificates as docker does: `*.crt` are authorities, `*.cert` with its `*.key` is a client certificate.
fn beside(files: &Files, folder: &Path) -> Result<Tls, ConfigError> {
    let (mut authorities, mut own) = (Vec::new(), None);
    for path in files.folder(folder)? {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => {
                authorities.extend(files.read_named(&path)?);
                authorities.push(b'\n');
            }
            Some("cert") if own.is_none() => own = Some(client(files, &path)?),
            _ => {}
        }
    }
    let ca = (!authorities.is_empty()).then(|| CaBundle::parse(&authorities)).transpose();
    let ca = ca.map_err(|error| mistake(folder, None, "*.crt", error.to_string()))?;
    Ok(Tls { ca, client: own, ..Tls::default() })
}

/// Reads a client certificate, whose key may be in its own file.
fn client(files: &Files, certificate: &Path) -> Result<Arc<ClientCertificate>, ConfigError> {
    let chain = files.read_named(certificate)?;
    let key: PathBuf = certificate.with_extension("key");
    let key = if files.has(&key) { files.read_named(&key)? } else { chain.clone() };
    let own = ClientCertificate::parse(&chain, &key);
    own.map(Arc::new).map_err(|error| mistake(certificate, None, "", error.to_string()))
}
