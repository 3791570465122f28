//! The operator's configuration of registries: the file with `registries:` and `registriesFile:`.
//!
//! It says where and how registries are asked, never what follows from an answer: that is policy. Two files may name
//! one registry; what a `registries` entry says wins, and what it leaves out (mirrors, certificates, a credential) is
//! taken from the k3s file. The k3s file alone changes nothing about who is asked: `resolveFrom` decides that.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use crate::registry::config_file::{self, ConfigError};
use crate::registry::credential::Candidate;
use crate::registry::endpoint::{CaBundle, Endpoint, Identity, Profiles, RegistryProfile, ResolveFrom};
use crate::registry::expiring::Expiring;
use crate::registry::keyring::labels_match;
use crate::registry::mirrors::NodeMirrors;

mod text;

/// Hosts whose profiles are kept.
const BUILT: usize = 512;
/// How long: what is configured does not change, so this only tells the hosts that nobody asks for any more.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// Every registry, as the operator sees it.
#[derive(Debug)]
pub struct Registries {
    entries: Vec<Entry>,
    nodes: NodeMirrors,
    /// Profiles that were asked for: most look-ups end here.
    built: Expiring<String, Arc<RegistryProfile>>,
    warnings: Vec<String>,
}

/// A credential that the operator gives for a registry, whoever asks.
#[derive(Debug, Clone, Copy)]
pub enum OperatorCredential<'a> {
    /// In a secret, read when it is needed.
    Secret {
        /// Where it is.
        secret: &'a SecretRef,
        /// The `match` of the entry that names it.
        entry: &'a str,
    },
    /// In the registries file.
    Given(&'a Candidate),
}

/// The name of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretRef {
    /// The secret's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One entry of `registries`, valid.
#[derive(Debug)]
struct Entry {
    pattern: Pattern,
    allow_private: bool,
    ca: Option<CaBundle>,
    offline: bool,
    credentials: Option<SecretRef>,
    resolve_from: ResolveFrom,
    mirrors: Vec<Endpoint>,
}

/// Which hosts an entry is about: labels with `*`, and a port as text.
#[derive(Debug)]
struct Pattern {
    /// As typed: the name of the entry in messages and metrics.
    typed: Arc<str>,
    host: String,
    port: Option<String>,
}

impl Default for Registries {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            nodes: NodeMirrors::default(),
            built: Expiring::new(BUILT),
            warnings: Vec::new(),
        }
    }
}

impl Registries {
    /// Reads the configuration, the k3s file and the certificates that it names.
    ///
    /// # Errors
    /// A file that can not be read, a key that is unknown or has no effect, a value that can not be meant.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let mut registries = text::read(file, &config_file::read(file)?)?;
        registries.warnings.extend(registries.nodes.warnings().iter().cloned());
        let unused = registries.unused_credentials();
        registries.warnings.extend(unused);
        Ok(registries)
    }

    /// What is allowed and yet not what its author may expect, for the log at start.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The operator's own credential for the registry of a reference.
    #[must_use]
    pub fn credential(&self, domain: &str) -> Option<OperatorCredential<'_>> {
        let domain = normal(domain);
        let entry = self.entry(&domain);
        match entry.and_then(|entry| Some((entry, entry.credentials.as_ref()?))) {
            Some((entry, secret)) => Some(OperatorCredential::Secret { secret, entry: &entry.pattern.typed }),
            None => self.nodes.candidate(&domain).map(|given| OperatorCredential::Given(given)),
        }
    }

    fn unused_credentials(&self) -> Vec<String> {
        let unused = |entry: &&Entry| {
            let named = entry.credentials.is_some() && !entry.pattern.has_star();
            named && !self.build(&entry.pattern.domain()).shows_credentials()
        };
        let said = |entry: &Entry| {
            let typed = &entry.pattern.typed;
            format!("the credentials of {typed} are never used: it is asked at its mirrors alone")
        };
        self.entries.iter().filter(unused).map(said).collect()
    }

    fn entry(&self, domain: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.pattern.covers(domain))
    }

    fn build(&self, domain: &str) -> RegistryProfile {
        let mut profile = RegistryProfile::of(domain);
        let entry = self.entry(domain);
        if let Some(upstream) = &mut profile.upstream {
            upstream.ca = entry.and_then(|entry| entry.ca.clone()).or_else(|| self.nodes.registry_ca(domain));
            upstream.allow_private = entry.is_some_and(|entry| entry.allow_private);
        }
        let Some(entry) = entry else { return profile };
        profile.label = entry.pattern.typed.clone();
        profile.offline = entry.offline;
        profile.resolve_from = entry.resolve_from;
        profile.mirrors = match entry.mirrors.as_slice() {
            [] => self.nodes.mirrors(domain),
            mirrors => mirrors.to_vec(),
        };
        let itself = profile.upstream.as_ref().map(|upstream| authority(upstream.root()));
        for mirror in &mut profile.mirrors {
            let host = authority(mirror.root());
            mirror.allow_private = entry.allow_private;
            mirror.ca = self.nodes.ca(&host).or_else(|| entry.ca.clone());
            // A registry over plain http is written as a mirror of itself: it may see its own credentials.
            if itself.as_ref() != Some(&host) {
                mirror.namespace = Some(domain.to_owned());
                mirror.identity = match self.nodes.candidate(&host) {
                    Some(own) => Identity::Own(Arc::clone(own)),
                    None => Identity::Anonymous,
                };
            }
        }
        profile
    }
}

impl Profiles for Registries {
    fn profile(&self, domain: &str) -> Arc<RegistryProfile> {
        let domain = normal(domain);
        let now = Instant::now();
        self.built.get(&*domain, now).unwrap_or_else(|| {
            let profile = Arc::new(self.build(&domain));
            self.built.put(domain.into_owned(), Arc::clone(&profile), now, now + KEPT);
            profile
        })
    }
}

impl Pattern {
    fn covers(&self, domain: &str) -> bool {
        let (host, port) = split(domain);
        self.port.as_deref() == port && labels_match(&self.host, host)
    }

    fn has_star(&self) -> bool {
        self.host.contains('*')
    }

    /// The one host that it is about, when it has no star.
    fn domain(&self) -> String {
        match &self.port {
            None => self.host.clone(),
            Some(port) => format!("{}:{port}", self.host),
        }
    }
}

/// One spelling for one server: DNS knows no case, and 443 is the port of https.
pub(super) fn normal(domain: &str) -> Cow<'_, str> {
    let host = domain.strip_suffix(":443").unwrap_or(domain);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return host.to_ascii_lowercase().into();
    }
    host.into()
}

/// Host and port of a domain; a literal address keeps its brackets.
fn split(domain: &str) -> (&str, Option<&str>) {
    match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    }
}

/// `host:port` of a URL, without the port of its scheme.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        None => host.to_owned(),
        Some(port) => format!("{host}:{port}"),
    }
}
