//! Endpoints of a registry: their order, and what may be sent to each.
//!
//! This module knows no configuration format and opens no connection.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use regex::Regex;
use url::{Host, Url};

use crate::credential::Candidate;
use crate::profile::host::{DOCKER_HUB_HOST, split};
use crate::profile::network::Network;
use crate::profile::not_found::NotFound;
use crate::profile::tls::Tls;
use tagpin_domain::image::{DOCKER_HUB, ImageRef};

/// Time for which the digest of a tag is valid, unless the operator sets another.
const TAG_TTL: Duration = Duration::from_secs(60);
/// Time that an endpoint gets alone before the next one is asked beside it.
const HEAD_START: Duration = Duration::from_millis(400);
/// Label of the registries that no entry names; metric labels are bounded.
const OTHER: &str = "other";

/// The properties of a registry that are known before it is asked.
#[derive(Debug, Clone)]
pub struct RegistryProfile {
    /// The `match` of the entry of `registries`, `docker.io`, or `other`: a bounded metric label.
    pub label: Arc<str>,
    /// True if the registry is never asked.
    pub offline: bool,
    /// The endpoints that are asked which digest a tag names.
    pub resolve_from: ResolveFrom,
    /// The registry itself; none if its name is not the host of a URL (a port above 65535).
    pub upstream: Option<Endpoint>,
    /// The mirrors of the registry, in order.
    pub mirrors: Vec<Endpoint>,
    /// Time that an endpoint gets alone before the next one is asked beside it.
    pub head_start: Duration,
    /// The rule for confirming a digest by asking for it.
    pub confirm: Confirm,
    /// True if a single manifest that a tag names for the first time is read, to tell an image from something else.
    pub looks_inside: bool,
    /// Prefixes of the repositories that the registry caches for others. It serves nothing by digest there before
    /// somebody pulled it by tag.
    pub pull_through: Arc<[String]>,
    /// Time for which the digest of a tag is valid; zero asks each time.
    pub tag_ttl: Duration,
    /// True if the operator configures a credential for the registry.
    pub operators_credential: bool,
    /// The `match` of the entry of `registries` that covers the registry.
    pub entry: Option<Arc<str>>,
}

/// The endpoints that are asked which digest a tag names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResolveFrom {
    /// The registry itself. Mirrors are for pulling.
    #[default]
    Upstream,
    /// The mirrors in order, then the registry. The 404 of a mirror proves nothing.
    MirrorsThenUpstream,
    /// The mirrors in order. A tag is missing if the 404 of each of them proves it.
    MirrorsOnly,
}

/// The rule for asking for a digest by digest once a tag named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Confirm {
    /// Never ask.
    #[default]
    Never,
    /// Ask once for each new digest, while the registry's own limit leaves enough pulls for the nodes.
    Auto,
    /// Ask once for each new digest.
    Always,
}

/// A server of the distribution protocol.
#[derive(Debug, Clone)]
pub struct Endpoint {
    root: Url,
    /// The TLS settings of connections to the endpoint.
    pub tls: Tls,
    /// True if the host may be, or resolve to, a private or loopback address. Other hosts that it names (a realm, a
    /// redirect) need an entry of their own.
    pub allow_private: bool,
    /// True if the host may have private addresses without `allow_private`, but not loopback: the registry of a cloud
    /// over verified TLS, or a mirror from the file of the nodes.
    pub in_private_network: bool,
    /// The value of the query parameter `ns`: the registry that a mirror stands for.
    pub namespace: Option<String>,
    /// Rewrites of the repository path; the first one that matches applies.
    pub rewrites: Vec<Rewrite>,
    /// The credentials that the endpoint may see.
    pub identity: Identity,
    /// Headers of the operator, sent with each request to the endpoint.
    pub headers: Arc<[Header]>,
    /// True if the endpoint may say which digest a tag names; otherwise it only serves content.
    pub resolves: bool,
    /// Hosts of token services that may see credentials for this endpoint, besides its own host.
    pub trusted_realms: Arc<[String]>,
    /// The meaning of a 404 of the endpoint.
    pub not_found: NotFound,
    /// True for a mirror of the registry, false for the registry itself.
    pub is_mirror: bool,
}

/// A header. Its value may be a secret and is never printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: HeaderName,
    /// The value.
    pub value: HeaderValue,
}

/// The credentials that an endpoint may see.
#[derive(Debug, Clone)]
pub enum Identity {
    /// The credentials of the asker: for the registry itself.
    Asker,
    /// No credentials: for a mirror.
    Anonymous,
    /// A credential from the operator: for a mirror with a password.
    Own(Arc<Candidate>),
}

/// A rewrite of repository paths, as in the `rewrite` of k3s.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// The expression that is searched in the path.
    pub pattern: Regex,
    /// The replacement; `$1` and `${1}` are groups.
    pub replacement: String,
}

/// The reason why a text is not an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The text is not a URL with scheme and host.
    #[error("the endpoint is not a URL; write it as https://host:port")]
    Url,
    /// The scheme is neither http nor https.
    #[error("the endpoint's scheme must be https or http")]
    Scheme,
    /// The URL has a user, a query or a fragment.
    #[error("the endpoint's URL must not hold a user, a query or a fragment")]
    Extra,
}

/// Looks up profiles. The operator's configuration implements it.
pub trait Profiles: Send + Sync {
    /// Returns the profile of a registry, given by the domain of a reference or by `host[:port]` of a URL.
    fn profile(&self, domain: &str) -> Arc<RegistryProfile>;

    /// Returns the network around tagpin.
    fn network(&self) -> Arc<Network>;
}

impl RegistryProfile {
    /// Returns the profile of a registry that no configuration names.
    #[must_use]
    pub fn of(domain: &str) -> Self {
        let hub = domain == DOCKER_HUB;
        let host = if hub { DOCKER_HUB_HOST } else { domain };
        let mut upstream =
            Url::parse(&format!("https://{host}")).ok().and_then(|url| Endpoint::new(url).ok());
        if let Some(upstream) = &mut upstream {
            upstream.not_found = NotFound::of(domain);
        }
        Self {
            label: if hub { DOCKER_HUB } else { OTHER }.into(),
            offline: single_label(domain),
            resolve_from: ResolveFrom::Upstream,
            upstream,
            mirrors: Vec::new(),
            head_start: HEAD_START,
            confirm: Confirm::Never,
            // Docker Hub counts it as a pull.
            looks_inside: !hub,
            pull_through: Arc::default(),
            tag_ttl: TAG_TTL,
            operators_credential: false,
            entry: None,
        }
    }

    /// Returns the endpoints that are asked which digest a tag names, in order.
    pub fn authorities(&self) -> impl Iterator<Item = &Endpoint> {
        let (mirrors, upstream) = match self.resolve_from {
            ResolveFrom::Upstream => (&[][..], self.upstream.as_ref()),
            ResolveFrom::MirrorsThenUpstream => (&self.mirrors[..], self.upstream.as_ref()),
            ResolveFrom::MirrorsOnly => (&self.mirrors[..], None),
        };
        mirrors.iter().filter(|mirror| mirror.resolves).chain(upstream)
    }

    /// Returns true if the registry caches this repository for another registry.
    #[must_use]
    pub fn pulls_through(&self, path: &str) -> bool {
        self.pull_through.iter().any(|prefix| path.starts_with(prefix.as_str()))
    }

    /// Returns the meaning of a 404 for this repository at an endpoint of the registry.
    #[must_use]
    pub(crate) fn not_found(&self, endpoint: &Endpoint, path: &str) -> NotFound {
        if self.pulls_through(path) { NotFound::Never } else { endpoint.not_found }
    }

    /// Returns true if an entry names the registry, or tagpin knows it. Whoever writes an image chooses the others.
    #[must_use]
    pub(crate) fn is_known(&self) -> bool {
        let well_known = |own: &Endpoint| own.not_found != NotFound::IfShown;
        &*self.label != OTHER || self.entry.is_some() || self.upstream.as_ref().is_some_and(well_known)
    }

    /// Returns true if any endpoint may see the credentials of an asker. Otherwise nobody needs to look for them.
    #[must_use]
    pub fn shows_credentials(&self) -> bool {
        !self.offline && self.authorities().any(|endpoint| matches!(endpoint.identity, Identity::Asker))
    }
}

impl Header {
    /// Creates a header; none if the name or the value is not valid in HTTP.
    #[must_use]
    pub fn new(name: &str, value: &str) -> Option<Self> {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        Some(Self { name, value })
    }
}

impl Endpoint {
    /// Creates an endpoint with default settings. No path, `/` and `/v2` mean `/v2`; any other path is taken as it is
    /// (`override_path` of containerd).
    ///
    /// # Errors
    /// Returns an error if the URL is not a plain http or https URL with a host.
    pub fn new(mut root: Url) -> Result<Self, EndpointError> {
        if !matches!(root.scheme(), "http" | "https") {
            return Err(EndpointError::Scheme);
        }
        if !root.has_host() {
            return Err(EndpointError::Url);
        }
        let user = !root.username().is_empty() || root.password().is_some();
        if user || root.query().is_some() || root.fragment().is_some() {
            return Err(EndpointError::Extra);
        }
        let path = root.path().trim_end_matches('/').to_owned();
        root.set_path(if path.is_empty() { "/v2" } else { &path });
        Ok(Self {
            root,
            tls: Tls::default(),
            allow_private: false,
            in_private_network: false,
            namespace: None,
            rewrites: Vec::new(),
            identity: Identity::Asker,
            headers: Arc::default(),
            resolves: true,
            trusted_realms: Arc::default(),
            not_found: NotFound::default(),
            is_mirror: false,
        })
    }

    /// Returns the root of the API, without a slash at the end: `https://registry-1.docker.io/v2`.
    #[must_use]
    pub const fn root(&self) -> &Url {
        &self.root
    }

    /// Returns true if the endpoint is configured with `http://`. Only then http is used, here and for its token
    /// service.
    #[must_use]
    pub(crate) fn plain_http(&self) -> bool {
        self.root.scheme() == "http"
    }

    /// Returns the host, as URLs spell it.
    #[must_use]
    pub fn host(&self) -> Option<Host<&str>> {
        self.root.host()
    }

    /// Returns the path of the repository at this endpoint. A rewrite whose result is not a repository path is not
    /// applied.
    #[must_use]
    pub fn repository<'a>(&self, path: &'a str) -> Cow<'a, str> {
        let Some(rewrite) = self.rewrites.iter().find(|r| r.pattern.is_match(path)) else {
            return Cow::Borrowed(path);
        };
        let rewritten = rewrite.pattern.replace_all(path, rewrite.replacement.as_str());
        match ImageRef::parse(&format!("rewritten.invalid/{rewritten}")) {
            Ok(image) if image.tag().is_none() && image.digest().is_none() => rewritten,
            _ => Cow::Borrowed(path),
        }
    }
}

/// Returns true for names of one machine or one cluster, such as `registry:5000` and `localhost`. Their images are
/// preloaded, unless an entry of the configuration says otherwise. An address is not such a name.
fn single_label(domain: &str) -> bool {
    let (host, _) = split(domain);
    !host.starts_with('[') && !host.contains('.')
}

#[cfg(test)]
mod tests;
