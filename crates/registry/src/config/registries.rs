//! The operator's configuration of registries: the file with `registries:` and `registriesFile:`.
//!
//! It says where and how registries are asked. What follows from an answer is for policies. Two files may describe
//! one registry: an entry of `registries` wins, and what it leaves out (mirrors, certificates, a credential) is taken
//! from the file of the nodes. The file of the nodes alone never changes who is asked; `resolveFrom` does.

use std::hash::RandomState;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::defaults::Defaults;
use super::entry::{Entry, EntryCredential};
use super::file::{self, ConfigError, Elsewhere, Files};
use super::mirrors::NodeMirrors;
use super::reader::Reader;
use super::text::{Typed, TypedFormat};
use crate::credentials::operator::{OperatorCredential, OperatorCredentials};
use crate::profile::cloud_host::is_cloud_registry;
use crate::profile::endpoint::{Endpoint, Identity, Profiles, RegistryProfile, ResolveFrom};
use crate::profile::host::{authority, normal};
use crate::profile::network::Network;
use crate::profile::not_found::NotFound;
use crate::profile::tls::Tls;
use crate::wire::guard::is_closed;
use quick_cache::UnitWeighter;
use quick_cache::sync::DefaultLifecycle;

/// Maximum number of hosts whose profiles are cached.
const BUILT: usize = 512;

/// The configuration of all registries.
#[derive(Debug)]
pub struct Registries {
    entries: Vec<Entry>,
    nodes: NodeMirrors,
    /// The profiles that were requested; most look-ups end here.
    built: Profiled,
    warnings: Vec<String>,
    defaults: Defaults,
    /// The fingerprint of the files.
    fingerprint: u64,
}

/// Profiles by host.
type Profiled = quick_cache::sync::Cache<Box<str>, Arc<RegistryProfile>, UnitWeighter, RandomState>;

impl Default for Registries {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            nodes: NodeMirrors::default(),
            built: Profiled::with(
                BUILT,
                BUILT as u64,
                UnitWeighter,
                RandomState::new(),
                DefaultLifecycle::default(),
            ),
            warnings: Vec::new(),
            defaults: Defaults::default(),
            fingerprint: 0,
        }
    }
}

impl Registries {
    /// Reads the configuration, the file of the nodes, and the certificates that they name.
    ///
    /// # Errors
    /// Returns an error for a file that cannot be read, for a key that is unknown or has no effect, and for an
    /// invalid value.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::read(file, &Files::default())
    }

    /// Reads the configuration from files of another machine. A file that is not among them does not exist.
    ///
    /// # Errors
    /// Returns the errors of [`Registries::load`].
    pub fn load_elsewhere(file: &Path, files: Elsewhere) -> Result<Self, ConfigError> {
        Self::read(file, &Files::elsewhere(files))
    }

    /// Returns an error if a range of `privateNetworks` holds one of these addresses of the cluster.
    pub(super) fn keep_out_of(&self, file: &Path, cluster: &[IpAddr]) -> Result<(), ConfigError> {
        for (index, net) in self.defaults.network.own.iter().flat_map(|own| own.iter()).enumerate() {
            if let Some(address) = cluster.iter().find(|address| net.contains(**address)) {
                let key = format!("defaults.privateNetworks[{index}]");
                let problem = format!(
                    "holds {address}, an address of the cluster's own: write ranges without those of pods and Services"
                );
                return Err(file::mistake(file, None, key, problem));
            }
        }
        Ok(())
    }

    fn read(file: &Path, files: &Files) -> Result<Self, ConfigError> {
        let typed: Typed = file::parse(file, &files.read_named(file)?)?;
        let defaults = Defaults::read(file, files, typed.defaults)?;
        let mut registries = Self { defaults, ..Self::default() };
        if let Some(typed) = typed.registries_file {
            let path = file::beside(file, &typed.path.value);
            registries.nodes = match typed.format {
                TypedFormat::K3s => NodeMirrors::k3s(files, &path)?,
                TypedFormat::CertsD => NodeMirrors::certs_d(files, &path)?,
            };
        }
        for (index, typed) in typed.registries.into_iter().enumerate() {
            let key = format!("registries[{index}]");
            let reader = Reader { file, files, at: typed.pattern.referenced, key };
            let pattern = reader.pattern(&typed.pattern.value)?;
            reader.reachable(&pattern, &registries.entries)?;
            let entry = reader.entry(pattern, typed)?;
            registries.warnings.extend(reader.warnings(&entry));
            registries.entries.push(entry);
            let last = registries.entries.last();
            if let Some(problem) = last.and_then(|entry| registries.without_mirrors(entry)) {
                return Err(reader.wrong("resolveFrom", problem));
            }
            if last.is_some_and(|entry| registries.proves_nothing(entry)) {
                let problem = "has no effect: only the mirrors of this entry are asked; write it to a mirror";
                return Err(reader.wrong("notFoundIsProof", problem));
            }
        }
        registries.fingerprint = files.fingerprint();
        registries.warnings.extend(registries.nodes.warnings().iter().cloned());
        let unused = registries.unused_credentials();
        registries.warnings.extend(unused);
        let closed = registries.closed_hosts();
        registries.warnings.extend(closed);
        Ok(registries)
    }

    /// Returns the warnings about settings that are allowed but may surprise their author.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the `match` of each entry, in order.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| &*entry.pattern.typed)
    }

    /// Returns the number of hosts whose certificates are not verified.
    #[must_use]
    pub fn unverified(&self) -> usize {
        let entries = self.entries.iter().filter_map(|entry| entry.tls.as_ref());
        entries.chain(self.nodes.secured()).filter(|tls| tls.unverified).count()
    }

    /// Returns true if the other configuration was read from the same files with the same content.
    pub(super) const fn is_like(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }

    fn unused_credentials(&self) -> Vec<String> {
        let unused = |entry: &&Entry| {
            let named = entry.credentials.is_some() && !entry.pattern.has_star();
            named && !self.build(&entry.pattern.domain()).shows_credentials()
        };
        let said = |entry: &Entry| {
            let typed = &entry.pattern.typed;
            format!("the credentials of {typed} are never used, because only its mirrors are asked")
        };
        self.entries.iter().filter(unused).map(said).collect()
    }

    /// Returns a warning for each registry and mirror with a literal private address that no entry allows.
    fn closed_hosts(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (index, entry) in self.entries.iter().enumerate().filter(|(_, entry)| !entry.offline) {
            let profile = self.build(&entry.pattern.domain());
            for endpoint in profile.authorities().filter(|host| is_closed(host, &self.defaults.network)) {
                let what = if endpoint.is_mirror { "mirror" } else { "registry" };
                warnings.push(format!(
                    "registries[{index}]: the {what} {} has a private address: add allowPrivate: true to the entry \
                     match: \"{}\"",
                    endpoint.root(),
                    entry.pattern.typed
                ));
            }
        }
        warnings
    }

    /// Returns true if a registry of this entry has a mirror that says which digest a tag names.
    fn asks_mirrors(&self, entry: &Entry) -> bool {
        match entry.mirrors.as_slice() {
            [] if entry.pattern.has_star() => self.nodes.names_any(),
            [] => self.build(&entry.pattern.domain()).mirrors.iter().any(|mirror| mirror.resolves),
            own => own.iter().any(|mirror| mirror.endpoint.resolves),
        }
    }

    /// Returns what is wrong with an entry that asks mirrors and has none. The entry must be the last one.
    fn without_mirrors(&self, entry: &Entry) -> Option<&'static str> {
        if entry.resolve_from == ResolveFrom::Upstream || self.asks_mirrors(entry) {
            return None;
        }
        Some(if entry.mirrors.is_empty() {
            "asks mirrors, but neither this entry nor registriesFile names a mirror that resolves tags: write \
             mirrors: [{ url: … }]"
        } else {
            "asks mirrors, but none of them has the capability resolve: add it to one, or write resolveFrom: upstream"
        })
    }

    /// Returns true if an entry calls a 404 of its registry a proof, and only other hosts are asked. The entry must be
    /// the last one.
    fn proves_nothing(&self, entry: &Entry) -> bool {
        entry.not_found_is_proof
            && entry.resolve_from == ResolveFrom::MirrorsOnly
            && !entry.mirrors.is_empty()
            && self.build(&entry.pattern.domain()).authorities().all(|endpoint| endpoint.is_mirror)
    }

    fn entry(&self, domain: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.pattern.covers(domain))
    }

    fn build(&self, domain: &str) -> RegistryProfile {
        let mut profile = RegistryProfile::of(domain);
        let entry = self.entry(domain);
        let itself = profile.upstream.as_ref().map(|upstream| authority(upstream.root()));
        let server = self.nodes.server(domain);
        let elsewhere = server.filter(|server| itself.as_ref() != Some(&authority(server.root())));
        if let Some(upstream) = &mut profile.upstream {
            match server.filter(|_| elsewhere.is_none()) {
                Some(server) => {
                    *upstream = server.clone();
                    upstream.not_found = NotFound::of(domain);
                }
                None => upstream.tls = self.nodes.registry_tls(domain).unwrap_or_default(),
            }
            if let Some(tls) = entry.and_then(|entry| entry.tls.clone()) {
                upstream.tls = tls;
            }
            upstream.allow_private = entry.is_some_and(|entry| entry.allow_private);
            upstream.in_private_network = is_verified_cloud(upstream);
        }
        profile.tag_ttl = self.defaults.tag_ttl.unwrap_or(profile.tag_ttl);
        profile.operators_credential =
            entry.is_some_and(|entry| entry.credentials.is_some()) || self.nodes.candidate(domain).is_some();
        let Some(entry) = entry else { return profile };
        profile.label = entry.pattern.typed.clone();
        profile.entry = Some(Arc::clone(&entry.pattern.typed));
        profile.offline = entry.offline;
        profile.resolve_from = entry.resolve_from;
        profile.confirm = entry.confirm;
        profile.pull_through = Arc::clone(&entry.pull_through);
        if let Some(upstream) = &mut profile.upstream {
            upstream.trusted_realms = Arc::clone(&entry.trusted_realms);
            if entry.not_found_is_proof {
                upstream.not_found = NotFound::Proof;
            }
        }
        let mirror = |mut mirror: Endpoint, shows_pull_secrets: bool| {
            let host = authority(mirror.root());
            mirror.allow_private = entry.allow_private;
            mirror.trusted_realms = Arc::clone(&entry.trusted_realms);
            // A registry over plain http is written as a mirror of itself, so it may see its own credentials.
            let is_itself = itself.as_ref() == Some(&host);
            if mirror.tls == Tls::default() {
                mirror.tls = self.mirror_tls(entry, &host, is_itself);
            }
            if entry.not_found_is_proof && (is_itself || entry.mirrors.is_empty()) {
                mirror.not_found = NotFound::Proof;
            } else if is_itself && mirror.not_found == NotFound::IfShown {
                mirror.not_found = NotFound::of(domain);
            }
            mirror.is_mirror = !is_itself;
            if !is_itself {
                mirror.namespace = Some(domain.to_owned());
                mirror.identity = match self.nodes.candidate(&host) {
                    _ if shows_pull_secrets => Identity::Asker,
                    Some(own) => Identity::Own(Arc::clone(own)),
                    None => Identity::Anonymous,
                };
            }
            mirror
        };
        profile.mirrors = match entry.mirrors.as_slice() {
            [] => {
                let mirrors = self.nodes.mirrors(domain).into_iter().chain(elsewhere.cloned());
                let of_nodes = |mut endpoint: Endpoint| {
                    endpoint.in_private_network = true;
                    mirror(endpoint, false)
                };
                mirrors.map(of_nodes).collect()
            }
            own => own.iter().map(|own| mirror(own.endpoint.clone(), own.shows_pull_secrets)).collect(),
        };
        if elsewhere.is_some()
            && entry.mirrors.is_empty()
            && entry.resolve_from == ResolveFrom::MirrorsThenUpstream
        {
            // The nodes ask another server in place of the registry, and never the registry itself.
            profile.upstream = None;
        }
        profile
    }

    /// Returns the settings for the host of the mirror, or else the authorities of the registry that it mirrors.
    fn mirror_tls(&self, entry: &Entry, host: &str, is_itself: bool) -> Tls {
        let of_host = || self.nodes.tls(host).or_else(|| self.entry(host)?.tls.clone());
        match &entry.tls {
            Some(tls) if is_itself => tls.clone(),
            tls => of_host().or_else(|| Some(tls.as_ref()?.for_others())).unwrap_or_default(),
        }
    }
}

/// Returns true for the registry of a cloud that is reached over verified TLS. Its name is proof enough that a private
/// address is one in the cloud's own network.
fn is_verified_cloud(upstream: &Endpoint) -> bool {
    let root = upstream.root();
    let host = root.host_str().filter(|_| root.scheme() == "https" && root.port().is_none());
    !upstream.tls.unverified && host.is_some_and(is_cloud_registry)
}

impl OperatorCredentials for Registries {
    fn credential(&self, domain: &str) -> Option<OperatorCredential> {
        let domain = normal(domain);
        let given = self.entry(&domain).and_then(|entry| Some((entry, entry.credentials.as_ref()?)));
        let Some((entry, credential)) = given else {
            return self.nodes.candidate(&domain).cloned().map(OperatorCredential::Given);
        };
        let entry = Arc::clone(&entry.pattern.typed);
        Some(match credential {
            EntryCredential::Secret(secret) => OperatorCredential::Secret { secret: secret.clone(), entry },
            EntryCredential::Cloud(access) => OperatorCredential::Cloud { access: access.clone(), entry },
        })
    }
}

impl Profiles for Registries {
    fn profile(&self, domain: &str) -> Arc<RegistryProfile> {
        let domain = normal(domain);
        self.built.get(&*domain).unwrap_or_else(|| {
            let profile = Arc::new(self.build(&domain));
            self.built.insert(domain.into(), Arc::clone(&profile));
            profile
        })
    }

    fn network(&self) -> Arc<Network> {
        Arc::clone(&self.defaults.network)
    }
}
