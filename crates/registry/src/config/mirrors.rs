//! Mirrors as the nodes of a cluster have them, in the file or the folder that the nodes read, mounted for us.
//! What only nodes can use is a warning; what would make us ask somebody else than the nodes do is an error.

use std::path::Path;
use std::sync::Arc;

use crate::config::file::{ConfigError, Files};
use crate::config::mirrors::certs_d::CertsD;
use crate::config::mirrors::k3s::K3s;
use crate::credential::Candidate;
use crate::profile::endpoint::Endpoint;
use crate::profile::tls::Tls;

mod certs_d;
mod hosts_toml;
mod hub;
mod k3s;

/// What the nodes' files say.
#[derive(Debug, Default)]
pub(crate) enum NodeMirrors {
    /// There are none.
    #[default]
    None,
    /// `registries.yaml` of k3s and RKE2.
    K3s(K3s),
    /// The folder `certs.d` of containerd.
    CertsD(CertsD),
}

impl NodeMirrors {
    /// Reads `registries.yaml`.
    pub(crate) fn k3s(files: &Files, file: &Path) -> Result<Self, ConfigError> {
        K3s::load(files, file).map(Self::K3s)
    }

    /// Reads a folder `certs.d`.
    pub(crate) fn certs_d(files: &Files, folder: &Path) -> Result<Self, ConfigError> {
        CertsD::load(files, folder).map(Self::CertsD)
    }

    /// What the files say that has no effect here, or that its author may not expect.
    pub(crate) fn warnings(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::K3s(k3s) => k3s.warnings(),
            Self::CertsD(folder) => folder.warnings(),
        }
    }

    /// How connections are secured, host by host, where the files say so.
    pub(crate) fn secured(&self) -> Vec<&Tls> {
        match self {
            Self::None => Vec::new(),
            Self::K3s(k3s) => k3s.secured().collect(),
            Self::CertsD(folder) => folder.secured().collect(),
        }
    }

    /// Whether any registry has a mirror.
    pub(crate) fn names_any(&self) -> bool {
        match self {
            Self::None => false,
            Self::K3s(k3s) => k3s.names_any(),
            Self::CertsD(folder) => folder.names_any(),
        }
    }

    /// The mirrors of a registry, in order.
    pub(crate) fn mirrors(&self, registry: &str) -> Vec<Endpoint> {
        match self {
            Self::None => Vec::new(),
            Self::K3s(k3s) => k3s.mirrors(registry),
            Self::CertsD(folder) => folder.mirrors(registry).to_vec(),
        }
    }

    /// Where the nodes find the registry itself when its mirrors have not what they look for, if not at its own name.
    pub(crate) fn server(&self, registry: &str) -> Option<&Endpoint> {
        match self {
            Self::None | Self::K3s(_) => None,
            Self::CertsD(folder) => folder.server(registry),
        }
    }

    /// How connections to a registry at its own name are secured.
    pub(crate) fn registry_tls(&self, registry: &str) -> Option<Tls> {
        match self {
            Self::None => None,
            Self::K3s(k3s) => k3s.registry_tls(registry),
            Self::CertsD(folder) => folder.registry_tls(registry),
        }
    }

    /// How connections to exactly this host are secured, whichever registry it mirrors.
    pub(crate) fn tls(&self, host: &str) -> Option<Tls> {
        match self {
            Self::None => None,
            Self::K3s(k3s) => k3s.tls(host),
            // There each mirror says it itself.
            Self::CertsD(folder) => folder.own_tls(host),
        }
    }

    /// The credential of exactly this host.
    pub(crate) fn candidate(&self, host: &str) -> Option<&Arc<Candidate>> {
        match self {
            Self::None | Self::CertsD(_) => None,
            Self::K3s(k3s) => k3s.candidate(host),
        }
    }
}
