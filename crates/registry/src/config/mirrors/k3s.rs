//! Mirrors of the nodes of a k3s cluster: the file `registries.yaml`.
//!
//! It is read as k3s turns it into `hosts.toml` of containerd (`pkg/agent/containerd/config.go`): a registry has the
//! mirrors of exactly its own name, or else those of `*`. The file is made for nodes, so a setting that only nodes
//! can use is a warning. A setting that would make tagpin ask another server than the nodes do (a rewrite that cannot
//! be read) is an error.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use regex::Regex;
use serde::Deserialize;
use serde::de::IgnoredAny;
use url::{Host, Url};

use super::hub;
use crate::config::file::{self as config_file, ConfigError, Files};
use crate::credential::{Candidate, Credential, Source};
use crate::credentials::docker_config::decode_auth;
use crate::profile::endpoint::{Endpoint, EndpointError, Rewrite};
use crate::profile::host::{DOCKER_HUB_HOST, normal};
use crate::profile::tls::{CaBundle, ClientCertificate, PemError, Tls};
use tagpin_domain::image::DOCKER_HUB;

const EVERY: &str = "*";

/// The settings of the file.
#[derive(Debug, Default)]
pub(crate) struct K3s {
    mirrors: BTreeMap<String, Vec<Endpoint>>,
    hosts: BTreeMap<String, HostConfig>,
    warnings: Vec<String>,
}

/// The settings for one host, a registry or a mirror.
#[derive(Debug, Default)]
struct HostConfig {
    tls: Option<Tls>,
    candidate: Option<Arc<Candidate>>,
}

type Others = BTreeMap<String, IgnoredAny>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Typed {
    mirrors: Option<BTreeMap<String, Option<TypedMirror>>>,
    configs: Option<BTreeMap<String, Option<TypedConfig>>>,
    #[serde(flatten)]
    others: Others,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TypedMirror {
    endpoint: Option<Vec<String>>,
    rewrite: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    others: Others,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TypedConfig {
    auth: Option<TypedAuth>,
    tls: Option<TypedTls>,
    #[serde(flatten)]
    others: Others,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TypedAuth {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
    identity_token: Option<String>,
    #[serde(flatten)]
    others: Others,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TypedTls {
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    insecure_skip_verify: Option<bool>,
    #[serde(flatten)]
    others: Others,
}

impl K3s {
    /// Reads the file and the certificates that it names; those that are only on the nodes are warnings.
    pub(super) fn load(files: &Files, file: &Path) -> Result<Self, ConfigError> {
        let typed: Typed = config_file::parse_of_nodes(file, &files.read_named(file)?)?;
        let mut nodes = Self::default();
        nodes.unknown("", &typed.others);
        for (host, config) in typed.configs.unwrap_or_default() {
            let config = nodes.config(files, &host, config.unwrap_or_default());
            nodes.hosts.insert(normal(&host).into_owned(), config);
        }
        for (registry, mirror) in typed.mirrors.unwrap_or_default() {
            let key = format!("mirrors.{registry}");
            if matches!(registry.as_str(), "index.docker.io" | DOCKER_HUB_HOST) {
                nodes.warn(&key, "nodes do not use this for images of Docker Hub: write docker.io");
            }
            let endpoints = nodes.endpoints(&key, mirror.unwrap_or_default());
            let endpoints =
                endpoints.map_err(|problem| config_file::mistake(file, None, key, problem.to_string()))?;
            nodes.mirrors.insert(normal(&registry).into_owned(), endpoints);
        }
        let place = file.display();
        nodes.warnings.iter_mut().for_each(|warning| *warning = format!("{place}: {warning}"));
        Ok(nodes)
    }

    /// Returns the warnings about settings that have no effect here.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the TLS settings of all hosts that have some.
    pub(super) fn secured(&self) -> impl Iterator<Item = &Tls> {
        self.hosts.values().filter_map(|host| host.tls.as_ref())
    }

    /// Returns true if any registry has a mirror.
    pub(super) fn names_any(&self) -> bool {
        self.mirrors.values().any(|endpoints| !endpoints.is_empty())
    }

    /// Returns the mirrors of a registry, in order.
    pub(super) fn mirrors(&self, registry: &str) -> Vec<Endpoint> {
        self.mirrors.get(registry).or_else(|| self.mirrors.get(EVERY)).cloned().unwrap_or_default()
    }

    /// Returns the TLS settings for a registry; those of `*` if the file does not name the registry.
    pub(super) fn registry_tls(&self, registry: &str) -> Option<Tls> {
        let every = || self.hosts.get(EVERY).filter(|_| !self.mirrors.contains_key(registry));
        self.host(registry).or_else(every)?.tls.clone()
    }

    /// Returns the TLS settings for exactly this host.
    pub(crate) fn tls(&self, host: &str) -> Option<Tls> {
        self.host(host)?.tls.clone()
    }

    /// Returns the credential for exactly this host.
    pub(super) fn candidate(&self, host: &str) -> Option<&Arc<Candidate>> {
        self.host(host)?.candidate.as_ref()
    }

    /// Returns the settings for a host; Docker Hub may be given by the host that serves its API.
    fn host(&self, host: &str) -> Option<&HostConfig> {
        let hub = matches!(host, DOCKER_HUB | DOCKER_HUB_HOST);
        let names = if hub { [DOCKER_HUB_HOST, DOCKER_HUB] } else { [host, host] };
        names.iter().find_map(|name| self.hosts.get(*name))
    }

    fn warn(&mut self, key: &str, problem: impl std::fmt::Display) {
        self.warnings.push(format!("{key}: {problem}"));
    }

    fn unknown(&mut self, key: &str, others: &Others) {
        for other in others.keys() {
            let place = if key.is_empty() { other.clone() } else { format!("{key}.{other}") };
            self.warn(&place, "has no effect: k3s has no such key");
        }
    }

    fn endpoints(&mut self, key: &str, typed: TypedMirror) -> Result<Vec<Endpoint>, InvalidRewrite> {
        self.unknown(key, &typed.others);
        let rewrites = rewrites(typed.rewrite.unwrap_or_default())?;
        if rewrites.len() > 1 {
            self.warn(
                key,
                "has several rewrites: nodes apply any that matches, tagpin applies the first in the order of the keys",
            );
        }
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for written in typed.endpoint.unwrap_or_default() {
            match endpoint(&written) {
                Err(error) => self.warn(key, format_args!("the endpoint {written:?} is ignored: {error}")),
                Ok(endpoint) if endpoints.iter().any(|earlier| earlier.root() == endpoint.root()) => {}
                Ok(mut endpoint) => {
                    endpoint.rewrites.clone_from(&rewrites);
                    endpoints.push(endpoint);
                }
            }
        }
        Ok(endpoints)
    }

    fn config(&mut self, files: &Files, host: &str, typed: TypedConfig) -> HostConfig {
        let key = format!("configs.{host}");
        self.unknown(&key, &typed.others);
        HostConfig {
            tls: typed.tls.map(|tls| self.secure(files, &format!("{key}.tls"), tls)),
            candidate: typed.auth.and_then(|auth| self.auth(&key, host, auth)),
        }
    }

    /// Reads TLS settings as the nodes do, without verification if the file says so. A file that cannot be read is
    /// only on the nodes.
    fn secure(&mut self, files: &Files, key: &str, typed: TypedTls) -> Tls {
        self.unknown(key, &typed.others);
        let unverified = typed.insecure_skip_verify == Some(true);
        if unverified {
            let risk = "the certificate is not verified: anybody on the network path can answer in place of this host";
            self.warn(&format!("{key}.insecure_skip_verify"), risk);
        }
        let ca = typed
            .ca_file
            .filter(|file| !file.is_empty())
            .and_then(|file| self.used(&format!("{key}.ca_file"), &file, authorities(files, &file)));
        let client = match (typed.cert_file, typed.key_file) {
            (Some(certificate), Some(private)) => {
                let own = client_certificate(files, &certificate, &private);
                self.used(&format!("{key}.cert_file"), &certificate, own).map(Arc::new)
            }
            (None, None) => None,
            _ => {
                self.warn(
                    &format!("{key}.cert_file"),
                    "has no effect: a certificate needs its key, and a key its certificate",
                );
                None
            }
        };
        Tls { ca, common: None, ca_only: false, client, unverified }
    }

    fn used<T>(&mut self, key: &str, file: &str, read: Result<T, Unusable>) -> Option<T> {
        read.map_err(|cause| self.warn(key, format_args!("{file} is not used: {cause}"))).ok()
    }

    /// Reads a credential as containerd does: the user counts before the token, and the token before `auth`.
    fn auth(&mut self, key: &str, host: &str, typed: TypedAuth) -> Option<Arc<Candidate>> {
        self.unknown(&format!("{key}.auth"), &typed.others);
        let named = typed.username.filter(|username| !username.is_empty());
        let token = typed.identity_token.filter(|token| !token.is_empty());
        let credential = match (named, token, typed.auth.filter(|auth| !auth.is_empty())) {
            (Some(username), ..) => {
                Some(Credential::basic(username, typed.password.unwrap_or_default().into()))
            }
            (None, Some(token), _) => Some(Credential::Identity(token.into())),
            (None, None, Some(auth)) => {
                let decoded = decode_auth(&auth);
                if decoded.is_none() {
                    self.warn(&format!("{key}.auth.auth"), "is ignored: it is not base64 of user:password");
                }
                decoded
            }
            (None, None, None) => None,
        };
        if host == EVERY {
            self.warn(&format!("{key}.auth"), "has no effect: a credential belongs to one host");
            return None;
        }
        let source = Source::Configuration(host.to_owned());
        credential.map(|credential| Arc::new(Candidate::new(credential, source)))
    }
}

/// The reason why a file that the configuration names is not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Pem(#[from] PemError),
}

fn authorities(files: &Files, file: &str) -> Result<CaBundle, Unusable> {
    Ok(CaBundle::parse(&files.read(Path::new(file))?)?)
}

fn client_certificate(files: &Files, chain: &str, key: &str) -> Result<ClientCertificate, Unusable> {
    let (chain, key) = (files.read(Path::new(chain))?, files.read(Path::new(key))?);
    Ok(ClientCertificate::parse(&chain, &key)?)
}

/// The error for a rewrite, whose pattern is given, that no mirror can have.
#[derive(Debug, thiserror::Error)]
#[error("the rewrite {0:?} is not a regular expression that tagpin can read")]
struct InvalidRewrite(String);

fn rewrites(typed: BTreeMap<String, String>) -> Result<Vec<Rewrite>, InvalidRewrite> {
    let rewrite = |(pattern, replacement): (String, String)| match Regex::new(&pattern) {
        Ok(pattern) => Ok(Rewrite { pattern, replacement }),
        Err(_) => Err(InvalidRewrite(pattern)),
    };
    typed.into_iter().map(rewrite).collect()
}

/// Parses the URL of an endpoint. Without a scheme it is https, or http for `localhost` with a port, as in
/// containerd.
fn endpoint(written: &str) -> Result<Endpoint, EndpointError> {
    let url = if written.contains("://") {
        Url::parse(written)
    } else {
        Url::parse(&format!("https://{written}")).and_then(|url| {
            let here = match url.host() {
                Some(Host::Domain(name)) => name == "localhost",
                Some(Host::Ipv4(address)) => address.is_loopback(),
                Some(Host::Ipv6(address)) => address.is_loopback(),
                None => false,
            };
            if here && url.port().is_some() { Url::parse(&format!("http://{written}")) } else { Ok(url) }
        })
    };
    hub::endpoint(url.map_err(|_| EndpointError::Url)?)
}
