//! Docker configurations, as pull secrets and `~/.docker/config.json` hold them.
//!
//! From a secret, exactly the fields of the kubelet are read (`pkg/credentialprovider/config.go`, Kubernetes 1.36): only
//! `auths`, and of each entry only `username`, `password` and `auth`. Of a person's file, tokens are read too, as
//! docker does. The names of credential helpers are read, and nothing is run here.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::credential::Credential;
use tagpin_domain::image::DOCKER_HUB;

/// The credentials of one docker configuration, by the location that each was written for.
#[derive(Debug, Default)]
pub struct DockerConfig {
    auths: BTreeMap<String, Credential>,
    /// The helper for all registries without one of their own (`credsStore`).
    store: Option<String>,
    /// Helpers by registry (`credHelpers`).
    helpers: BTreeMap<String, String>,
    holds_tokens: bool,
}

/// Names of Docker Hub in docker configurations.
const HUB_NAMES: [&str; 3] = ["https://index.docker.io/v1/", "index.docker.io", DOCKER_HUB];

/// The program whose rules are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// The kubelet, which ignores tokens.
    Kubelet,
    /// Docker.
    Docker,
}

/// The reason why a text is not a docker configuration. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DockerConfigError {
    /// The text is not JSON, has another shape, or has an `auth` that is not base64 of `user:password`. The kubelet
    /// then refuses the whole configuration.
    #[error(
        "not a docker configuration: write JSON with auths, each with username and password, or with auth in base64"
    )]
    Malformed,
}

impl DockerConfig {
    /// Reads `.dockerconfigjson` of a secret of type `kubernetes.io/dockerconfigjson`.
    ///
    /// # Errors
    /// Returns an error if the kubelet would refuse it.
    pub fn from_config_json(bytes: &[u8]) -> Result<Self, DockerConfigError> {
        Self::read(bytes, Reader::Kubelet)
    }

    /// Reads a person's `config.json`. A token counts before user and password, as for docker.
    ///
    /// # Errors
    /// Returns an error if the kubelet would refuse it.
    pub(crate) fn from_persons_json(bytes: &[u8]) -> Result<Self, DockerConfigError> {
        Self::read(bytes, Reader::Docker)
    }

    fn read(bytes: &[u8], reader: Reader) -> Result<Self, DockerConfigError> {
        let mut config = Self::default();
        for (key, value) in lower_case(read(&String::from_utf8_lossy(bytes))?) {
            match key.as_str() {
                "auths" => {
                    for (location, entry) in auths(value)? {
                        config.holds_tokens |= entry.token.is_some();
                        config.auths.insert(location, entry.credential(reader));
                    }
                }
                "httpheaders" => drop(read::<BTreeMap<String, Option<String>>>(value)?),
                // The kubelet ignores these fields, whatever they hold.
                "credsstore" => config.store = read(value).ok().flatten(),
                "credhelpers" => config.helpers = read(value).ok().flatten().unwrap_or_default(),
                _ => {}
            }
        }
        Ok(config)
    }

    /// Reads `.dockercfg` of a secret of type `kubernetes.io/dockercfg`, which is the bare map.
    ///
    /// # Errors
    /// Returns an error if the kubelet would refuse it.
    pub fn from_dockercfg(bytes: &[u8]) -> Result<Self, DockerConfigError> {
        let mut config = Self::default();
        for (location, entry) in auths(&String::from_utf8_lossy(bytes))? {
            config.holds_tokens |= entry.token.is_some();
            config.auths.insert(location, entry.credential(Reader::Kubelet));
        }
        Ok(config)
    }

    /// Returns the locations as written, in byte order, each with its credential.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Credential)> {
        self.auths.iter().map(|(location, credential)| (location.as_str(), credential))
    }

    /// Returns true if it holds identity or registry tokens, which the kubelet does not use.
    #[must_use]
    pub(crate) const fn holds_tokens(&self) -> bool {
        self.holds_tokens
    }

    /// Returns the registries that have a credential helper of their own, as written.
    pub(super) fn helped(&self) -> impl Iterator<Item = &str> {
        self.helpers.iter().filter(|(_, helper)| !helper.is_empty()).map(|(registry, _)| registry.as_str())
    }

    /// Returns true if it names a credential helper for all other registries.
    pub(super) fn has_store(&self) -> bool {
        self.store.as_ref().is_some_and(|store| !store.is_empty())
    }

    /// Returns the name of the credential helper for a registry, and the registry as that helper knows it.
    pub(crate) fn helper<'a>(&'a self, domain: &'a str) -> Option<(&'a str, &'a str)> {
        let names = names(domain);
        let own = names.iter().find_map(|name| Some((self.helpers.get(*name)?.as_str(), *name)));
        let store = || Some((self.store.as_deref()?, names.first().copied()?));
        // As for docker, an empty name means that the credentials are in the file.
        own.or_else(store).filter(|(helper, _)| !helper.is_empty())
    }
}

/// Returns the names of a registry in docker configurations; docker writes the first one.
pub(super) fn names(domain: &str) -> Vec<&str> {
    if domain == DOCKER_HUB { HUB_NAMES.to_vec() } else { vec![domain] }
}

/// A JSON object. Go ignores the case of keys and reads `null` as absent, and so does this module.
type Object<'a> = BTreeMap<String, &'a RawValue>;

fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<Option<T>, DockerConfigError> {
    serde_json::from_str(json).map_err(|_| DockerConfigError::Malformed)
}

fn lower_case<'a>(object: Option<Object<'a>>) -> impl Iterator<Item = (String, &'a str)> {
    object.unwrap_or_default().into_iter().map(|(key, value)| (key.to_ascii_lowercase(), value.get()))
}

/// One entry of `auths`.
struct Entry {
    password: Credential,
    token: Option<Credential>,
}

impl Entry {
    fn credential(self, reader: Reader) -> Credential {
        match self.token {
            Some(token) if reader == Reader::Docker => token,
            _ => self.password,
        }
    }
}

fn auths(json: &str) -> Result<BTreeMap<String, Entry>, DockerConfigError> {
    let entries = read::<Object<'_>>(json)?.unwrap_or_default();
    entries.into_iter().map(|(location, value)| Ok((location, entry(value.get())?))).collect()
}

fn entry(json: &str) -> Result<Entry, DockerConfigError> {
    let (mut username, mut password, mut auth) = (String::new(), String::new(), String::new());
    let mut token = None;
    for (key, value) in lower_case(read(json)?) {
        let field = match key.as_str() {
            "username" => &mut username,
            "password" => &mut password,
            "auth" => &mut auth,
            "email" => &mut String::new(),
            "identitytoken" | "registrytoken" => {
                // The kubelet ignores these fields, whatever they hold.
                let text = read::<String>(value).ok().flatten().filter(|text| !text.is_empty());
                token = token.or(text.map(|text| match key.as_str() {
                    "identitytoken" => Credential::Identity(text.into()),
                    _ => Credential::Registry(text.into()),
                }));
                continue;
            }
            _ => continue,
        };
        *field = read(value)?.unwrap_or_default();
    }
    if auth.is_empty() {
        return Ok(Entry { password: Credential::basic(username, password.into()), token });
    }
    let password = decode_auth(&auth).ok_or(DockerConfigError::Malformed)?;
    Ok(Entry { password, token })
}

/// Decodes `auth`: base64 with or without padding; line breaks and trailing bits are ignored.
pub(crate) fn decode_auth(field: &str) -> Option<Credential> {
    let padding = if field.trim().ends_with('=') {
        DecodePaddingMode::RequireCanonical
    } else {
        DecodePaddingMode::RequireNone
    };
    let config =
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true).with_decode_padding_mode(padding);
    let joined = field.replace(['\r', '\n'], "");
    let decoded = GeneralPurpose::new(&STANDARD, config).decode(joined).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(Credential::basic(username.to_owned(), password.into()))
}

#[cfg(test)]
mod tests;
