//! The configuration that is in force: the newest one that could be read. A mistake made later changes nothing but
//! what is said about it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::file::ConfigError;
use super::registries::Registries;
use crate::credentials::operator::{OperatorCredential, OperatorCredentials};
use crate::profile::endpoint::{Profiles, RegistryProfile};

/// Holds the configuration and replaces it when its files change.
#[derive(Debug)]
pub struct Current {
    file: Option<PathBuf>,
    registries: ArcSwap<Registries>,
}

/// What came of reading the files again.
#[derive(Debug)]
pub enum Reloaded {
    /// The files are as they were.
    Same,
    /// What they say now is in force.
    Changed(Arc<Registries>),
    /// They can not be used; what was in force stays.
    Refused(ConfigError),
}

impl Current {
    /// Reads the file and those that it names; without one, every registry is as nobody configured it.
    ///
    /// # Errors
    /// As [`Registries::load`].
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let registries = file.map(Registries::load).transpose()?.unwrap_or_default();
        Ok(Self { file: file.map(Path::to_owned), registries: ArcSwap::from_pointee(registries) })
    }

    /// The configuration in force now.
    #[must_use]
    pub fn get(&self) -> Arc<Registries> {
        self.registries.load_full()
    }

    /// Reads the files again.
    pub fn reload(&self) -> Reloaded {
        let Some(file) = &self.file else { return Reloaded::Same };
        match Registries::load(file) {
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

impl OperatorCredentials for Current {
    fn credential(&self, domain: &str) -> Option<OperatorCredential> {
        self.registries.load().credential(domain)
    }
}

impl Profiles for Current {
    fn profile(&self, domain: &str) -> Arc<RegistryProfile> {
        self.registries.load().profile(domain)
    }
}

/// A configuration that never changes.
impl From<Registries> for Current {
    fn from(registries: Registries) -> Self {
        Self { file: None, registries: ArcSwap::from_pointee(registries) }
    }
}
