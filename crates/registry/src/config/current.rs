//! The configuration in force: the newest one that could be read. A later mistake leaves it in force and is only
//! reported.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::file::ConfigError;
use super::registries::Registries;
use crate::credentials::operator::{OperatorCredential, OperatorCredentials};
use crate::profile::endpoint::{Profiles, RegistryProfile};
use crate::profile::network::Network;
use crate::profile::proxy::{NoProxy, ProxyWay};

/// Holds the configuration, and replaces it when its files change.
#[derive(Debug)]
pub struct Current {
    file: Option<PathBuf>,
    /// Addresses of the cluster, which no range of `privateNetworks` may hold.
    cluster: Vec<IpAddr>,
    registries: ArcSwap<Registries>,
    /// The proxy that is used if the configuration names none, and the hosts that are asked without it.
    proxy: Option<(Arc<ProxyWay>, NoProxy)>,
}

/// The result of reading the files again.
#[derive(Debug)]
pub enum Reloaded {
    /// The files have not changed.
    Same,
    /// The new configuration is in force.
    Changed(Arc<Registries>),
    /// The files cannot be used, so the configuration in force stays.
    Refused(ConfigError),
}

impl Current {
    /// Reads the file and those that it names. Without a file, every registry has its default profile.
    ///
    /// # Errors
    /// Returns the errors of [`Registries::load`].
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_inside(file, Vec::new())
    }

    /// Reads the same for a replica in a cluster. These addresses of pods and Services must be in no range of
    /// `privateNetworks`: registries are not asked there without an entry.
    ///
    /// # Errors
    /// Returns the errors of [`Registries::load`], and one for a range that holds such an address.
    pub fn load_inside(file: Option<&Path>, cluster: Vec<IpAddr>) -> Result<Self, ConfigError> {
        let registries = file.map(|file| read(file, &cluster)).transpose()?.unwrap_or_default();
        Ok(Self {
            file: file.map(Path::to_owned),
            cluster,
            registries: ArcSwap::from_pointee(registries),
            proxy: None,
        })
    }

    /// Uses this proxy if the configuration names none.
    #[must_use]
    pub fn through(self, proxy: ProxyWay, no_proxy: NoProxy) -> Self {
        Self { proxy: Some((Arc::new(proxy), no_proxy)), ..self }
    }

    /// Returns the configuration in force.
    #[must_use]
    pub fn get(&self) -> Arc<Registries> {
        self.registries.load_full()
    }

    /// Reads the files again.
    pub fn reload(&self) -> Reloaded {
        let Some(file) = &self.file else { return Reloaded::Same };
        match read(file, &self.cluster) {
            Err(error) => Reloaded::Refused(error),
            Ok(registries) if registries.is_like(&self.registries.load()) => Reloaded::Same,
            Ok(registries) => {
                let registries = Arc::new(registries);
                self.registries.store(Arc::clone(&registries));
                Reloaded::Changed(registries)
            }
        }
    }
}

fn read(file: &Path, cluster: &[IpAddr]) -> Result<Registries, ConfigError> {
    let registries = Registries::load(file)?;
    registries.keep_out_of(file, cluster)?;
    Ok(registries)
}

impl OperatorCredentials for Current {
    fn credential(&self, domain: &str) -> Option<OperatorCredential> {
        self.registries.load().credential(domain)
    }
}

impl Profiles for Current {
    fn profile(&self, domain: &str) -> Arc<RegistryProfile> {
        self.registries.load().profile(domain)
    }

    fn network(&self) -> Arc<Network> {
        let network = self.registries.load().network();
        match &self.proxy {
            Some((proxy, no_proxy)) if network.proxy.is_none() => {
                let (proxy, no_proxy) = (Some(Arc::clone(proxy)), no_proxy.clone());
                Arc::new(Network { proxy, no_proxy, ..Network::clone(&network) })
            }
            _ => network,
        }
    }
}

/// Creates a configuration that never changes.
impl From<Registries> for Current {
    fn from(registries: Registries) -> Self {
        Self { file: None, cluster: Vec::new(), registries: ArcSwap::from_pointee(registries), proxy: None }
    }
}
