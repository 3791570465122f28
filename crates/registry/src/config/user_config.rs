//! The credentials of the person at the command line: the files of docker and Podman, and the credential helpers that
//! they name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::file::{self as config_file, ConfigError, Files};
use crate::config::helper::{CredentialHelpers, HelperError, HelperName};
use crate::credential::{Candidate, Credential, Source};
use crate::credentials::docker_config::DockerConfig;
use crate::credentials::keyring::Keyring;
use crate::credentials::provider::{Credentials, Held};
use crate::profile::endpoint::RegistryProfile;
use tagpin_domain::asker::Asker;
use tagpin_domain::image::ImageRef;

/// Maximum time of one helper. It never takes more than half of the time that the person allows for all.
const LIMIT: Duration = Duration::from_secs(10);

/// The credentials of a person, or none.
#[derive(Default)]
pub struct UserConfig {
    files: Vec<UserFile>,
    helpers: Option<Arc<dyn CredentialHelpers>>,
    /// The answers of helpers so far.
    answers: Mutex<Vec<Answered>>,
}

/// One file.
struct UserFile {
    path: String,
    config: DockerConfig,
    keyring: Keyring,
}

/// A helper, the registry that it was asked for, and its answer.
type Answered = (HelperName, String, Result<Option<Credential>, HelperError>);

/// The credentials of a person for one image.
pub struct OwnCredentials {
    /// The credentials to try, in order; anonymous if there is none.
    pub candidates: Vec<Candidate>,
    /// The helpers that failed, each with the file that names it.
    pub failed: Vec<HelperFailure>,
}

/// A helper that gave no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} gave no credential for {registry}: {error} (named by {file})", .program.as_ref().map_or("a credential helper", String::as_str))]
pub struct HelperFailure {
    /// The name of the program; none if the file names none that can be run.
    program: Option<String>,
    registry: String,
    file: String,
    error: HelperError,
}

impl UserConfig {
    /// Returns the files that docker and Podman read, in the order in which they count: `config.json` in the folder of
    /// `DOCKER_CONFIG`, or else in `.docker` of the home; then `REGISTRY_AUTH_FILE`, or else `containers/auth.json` in
    /// the folders of `XDG_RUNTIME_DIR` and `XDG_CONFIG_HOME` (`.config` of the home).
    #[must_use]
    pub fn paths(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
        let variable = |name| variable(name).filter(|value| !value.as_os_str().is_empty());
        let home = |folder: &str| variable("HOME").map(|home| home.join(folder));
        let docker = variable("DOCKER_CONFIG").or_else(|| home(".docker"));
        let mut files: Vec<PathBuf> = docker.map(|folder| folder.join("config.json")).into_iter().collect();
        match variable("REGISTRY_AUTH_FILE") {
            Some(file) => files.push(file),
            None => {
                let config = variable("XDG_CONFIG_HOME").or_else(|| home(".config"));
                let folders = variable("XDG_RUNTIME_DIR").into_iter().chain(config);
                files.extend(folders.map(|folder| folder.join("containers/auth.json")));
            }
        }
        files
    }

    /// Reads these files; a file that does not exist holds no credentials. Helpers are run when they are needed.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, or is not a docker configuration.
    pub fn load(files: &[PathBuf], helpers: Arc<dyn CredentialHelpers>) -> Result<Self, ConfigError> {
        let existing = files.iter().filter(|file| file.exists());
        let files = existing.map(|file| UserFile::load(file)).collect::<Result<_, _>>()?;
        Ok(Self { files, helpers: Some(helpers), answers: Mutex::default() })
    }

    /// Returns the credentials for this image. The helper for its registry comes before the entries of the same file,
    /// and an earlier file before a later one.
    pub async fn of(&self, image: &ImageRef, deadline: Instant) -> OwnCredentials {
        let (mut candidates, mut failed) = (Vec::<Candidate>::new(), Vec::new());
        for file in &self.files {
            match self.ask_helper_of(file, image, deadline).await {
                Ok(given) => Candidate::add_new(&mut candidates, given),
                Err(failure) => failed.push(failure),
            }
            Candidate::add_new(&mut candidates, file.keyring.look_up(image));
        }
        if candidates.is_empty() {
            candidates.push(Candidate::anonymous());
        }
        OwnCredentials { candidates, failed }
    }

    /// Returns the same credentials if no helper has to be run for it.
    #[must_use]
    pub fn at_hand(&self, image: &ImageRef) -> Option<Vec<Candidate>> {
        if self.files.iter().any(|file| file.config.helper(image.domain()).is_some()) {
            return None;
        }
        let mut candidates = Vec::new();
        for file in &self.files {
            Candidate::add_new(&mut candidates, file.keyring.look_up(image));
        }
        if candidates.is_empty() {
            candidates.push(Candidate::anonymous());
        }
        Some(candidates)
    }

    async fn ask_helper_of(
        &self,
        file: &UserFile,
        image: &ImageRef,
        deadline: Instant,
    ) -> Result<Option<Candidate>, HelperFailure> {
        let Some((helper, registry)) = file.config.helper(image.domain()) else { return Ok(None) };
        let failure = |program: Option<&HelperName>, error| HelperFailure {
            program: program.map(ToString::to_string),
            registry: image.domain().to_owned(),
            file: file.path.clone(),
            error,
        };
        let helper = HelperName::parse(helper).map_err(|error| failure(None, error))?;
        let credential = self.ask(&helper, registry, deadline).await;
        let credential = credential.map_err(|error| failure(Some(&helper), error))?;
        Ok(credential.map(|credential| Candidate::new(credential, Source::UserConfig(helper.to_string()))))
    }

    /// Asks a helper, once for each registry.
    async fn ask(
        &self,
        helper: &HelperName,
        registry: &str,
        deadline: Instant,
    ) -> Result<Option<Credential>, HelperError> {
        let Some(helpers) = &self.helpers else { return Ok(None) };
        let asked = self
            .answers
            .lock()
            .iter()
            .find_map(|(of, about, answer)| (of == helper && about == registry).then(|| answer.clone()));
        if let Some(answer) = asked {
            return answer;
        }
        let limit = (deadline.saturating_duration_since(Instant::now()) / 2).min(LIMIT);
        let answer = helpers.get(helper, registry, limit).await.and_then(|answer| answer.credential());
        self.answers.lock().push((helper.clone(), registry.to_owned(), answer.clone()));
        answer
    }
}

impl UserFile {
    fn load(file: &Path) -> Result<Self, ConfigError> {
        let config = DockerConfig::from_persons_json(&Files::default().read_named(file)?)
            .map_err(|error| config_file::mistake(file, None, "", error.to_string()))?;
        let (mut keyring, path) = (Keyring::default(), file.display().to_string());
        keyring.add(&config, &Source::UserConfig(path.clone()));
        Ok(Self { path, config, keyring })
    }
}

#[async_trait]
impl Credentials for UserConfig {
    async fn candidates(&self, _asker: &Asker, image: &ImageRef, deadline: Instant) -> Held {
        self.of(image, deadline).await.candidates.into()
    }

    fn at_hand(&self, _asker: &Asker, image: &ImageRef, _profile: &RegistryProfile) -> Option<Held> {
        Some(self.at_hand(image)?.into())
    }
}
