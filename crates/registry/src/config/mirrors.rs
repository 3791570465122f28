//! Mirrors of the nodes of a cluster, from the file or folder that the nodes read, mounted into the pod.
//!
//! A setting that only nodes can use is a warning. A setting that would make tagpin ask another server than the nodes
//! do is an error.

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

/// The mirrors that the nodes use.
#[derive(Debug, Default)]
pub(super) enum NodeMirrors {
    /// No mirrors.
    #[default]
    None,
    /// `registries.yaml` of k3s and RKE2.
    K3s(K3s),
    /// The folder `certs.d` of containerd.
    CertsD(CertsD),
}

impl NodeMirrors {
    /// Reads `registries.yaml`.
    pub(super) fn k3s(files: &Files, file: &Path) -> Result<Self, ConfigError> {
        K3s::load(files, file).map(Self::K3s)
    }

    /// Reads a folder `certs.d`.
    pub(super) fn certs_d(files: &Files, folder: &Path) -> Result<Self, ConfigError> {
        CertsD::load(files, folder).map(Self::CertsD)
    }

    /// Returns the warnings about settings that have no effect here, or an unexpected one.
    pub(super) fn warnings(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::K3s(k3s) => k3s.warnings(),
            Self::CertsD(folder) => folder.warnings(),
        }
    }

    /// Returns the TLS settings of all hosts that have some.
    pub(super) fn secured(&self) -> Vec<&Tls> {
        match self {
            Self::None => Vec::new(),
            Self::K3s(k3s) => k3s.secured().collect(),
            Self::CertsD(folder) => folder.secured().collect(),
        }
    }

    /// Returns true if any registry has a mirror.
    pub(super) fn names_any(&self) -> bool {
        match self {
            Self::None => false,
            Self::K3s(k3s) => k3s.names_any(),
            Self::CertsD(folder) => folder.names_any(),
        }
    }

    /// Returns the mirrors of a registry, in order.
    pub(super) fn mirrors(&self, registry: &str) -> Vec<Endpoint> {
        match self {
            Self::None => Vec::new(),
            Self::K3s(k3s) => k3s.mirrors(registry),
            Self::CertsD(folder) => folder.mirrors(registry).to_vec(),
        }
    }

    /// Returns the server that the nodes ask in place of the registry after its mirrors, if there is one.
    pub(super) fn server(&self, registry: &str) -> Option<&Endpoint> {
        match self {
            Self::None | Self::K3s(_) => None,
            Self::CertsD(folder) => folder.server(registry),
        }
    }

    /// Returns the TLS settings for a registry at its own name.
    pub(super) fn registry_tls(&self, registry: &str) -> Option<Tls> {
        match self {
            Self::None => None,
            Self::K3s(k3s) => k3s.registry_tls(registry),
            Self::CertsD(folder) => folder.registry_tls(registry),
        }
    }

    /// Returns the TLS settings for exactly this host, whichever registry it mirrors.
    pub(crate) fn tls(&self, host: &str) -> Option<Tls> {
        match self {
            Self::None => None,
            Self::K3s(k3s) => k3s.tls(host),
            // In certs.d each mirror has settings of its own.
            Self::CertsD(folder) => folder.own_tls(host),
        }
    }

    /// Returns the credential for exactly this host.
    pub(super) fn candidate(&self, host: &str) -> Option<&Arc<Candidate>> {
        match self {
            Self::None | Self::CertsD(_) => None,
            Self::K3s(k3s) => k3s.candidate(host),
        }
    }
}
