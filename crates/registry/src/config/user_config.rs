//! The credentials of the person at the command line: `auths` of a docker configuration file. Credential helpers are
//! not run.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::config::file::{self as config_file, ConfigError, Files};
use crate::credential::{Candidate, Source};
use crate::credentials::docker_config::DockerConfig;
use crate::credentials::keyring::Keyring;
use crate::credentials::provider::{Credentials, Held};
use crate::profile::endpoint::RegistryProfile;
use tagpin_domain::asker::Asker;
use tagpin_domain::image::ImageRef;

/// The credentials of a file, or none.
#[derive(Debug, Default)]
pub struct UserConfig {
    keyring: Keyring,
    names_helpers: bool,
}

impl UserConfig {
    /// Returns the path that docker uses: `config.json` in the folder of `DOCKER_CONFIG`, or else in `.docker` of the
    /// home.
    #[must_use]
    pub fn path(docker_config: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
        let given = docker_config.filter(|folder| !folder.as_os_str().is_empty());
        given.or_else(|| home.map(|home| home.join(".docker"))).map(|folder| folder.join("config.json"))
    }

    /// Reads a file; a file that does not exist holds no credentials.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or is not a docker configuration.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        if !file.exists() {
            return Ok(Self::default());
        }
        let config = DockerConfig::from_persons_json(&Files::default().read_named(file)?)
            .map_err(|error| config_file::mistake(file, None, "", error.to_string()))?;
        let mut keyring = Keyring::default();
        keyring.add(&config, &Source::UserConfig(file.display().to_string()));
        Ok(Self { keyring, names_helpers: config.names_helpers() })
    }

    /// Returns true if the file names helpers, so that docker may have credentials that are not used here.
    #[must_use]
    pub const fn names_helpers(&self) -> bool {
        self.names_helpers
    }

    /// Returns the credentials for this image; anonymous if there is none.
    #[must_use]
    pub fn of(&self, image: &ImageRef) -> Vec<Candidate> {
        let mut candidates = self.keyring.look_up(image);
        if candidates.is_empty() {
            candidates.push(Candidate::anonymous());
        }
        candidates
    }
}

#[async_trait]
impl Credentials for UserConfig {
    async fn candidates(&self, _asker: &Asker, image: &ImageRef, _deadline: Instant) -> Held {
        self.of(image).into()
    }

    fn at_hand(&self, _asker: &Asker, image: &ImageRef, _profile: &RegistryProfile) -> Option<Held> {
        Some(self.of(image).into())
    }
}
