//! Where a registry is asked: its endpoints, in which order they count, and what may be sent to each.
//!
//! It holds no configuration format and opens no connection; settings build these values and `client` uses them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use regex::Regex;
use url::{Host, Url};

use crate::credential::Candidate;
use crate::profile::host::DOCKER_HUB_HOST;
use crate::profile::tls::Tls;
use tagpin_domain::image::{DOCKER_HUB, ImageRef};

/// How long a tag's digest counts, unless the operator says otherwise.
const TAG_TTL: Duration = Duration::from_secs(60);
/// The label of registries that no entry names: metric labels are bounded.
const OTHER: &str = "other";

/// What is known of one registry before it is asked.
#[derive(Debug, Clone)]
pub struct RegistryProfile {
    /// The `registries` entry (its `match`), `docker.io`, or `other`: the bounded metric label.
    pub label: Arc<str>,
    /// Never asked.
    pub offline: bool,
    /// Who may say what a tag names.
    pub resolve_from: ResolveFrom,
    /// The registry itself; none when no URL can be made of its name (a port above 65535).
    pub upstream: Option<Endpoint>,
    /// Its mirrors, in order.
    pub mirrors: Vec<Endpoint>,
    /// Whether a digest that a tag names is also asked for by digest.
    pub confirm: Confirm,
    /// Starts of the paths of repositories that it caches for others: what nobody pulled by tag yet it does not serve
    /// by digest.
    pub pull_through: Arc<[String]>,
    /// How long the digest of a tag counts; none at all asks each time.
    pub tag_ttl: Duration,
    /// The operator gives a credential for it.
    pub operators_credential: bool,
}

/// Who may say what a tag names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResolveFrom {
    /// The registry itself; mirrors are for pulling.
    #[default]
    Upstream,
    /// The mirrors in order, then the registry; a mirror's 404 proves nothing.
    MirrorsThenUpstream,
    /// The mirrors in order and nobody else; a 404 of the last one counts.
    MirrorsOnly,
}

/// Whether a digest that a tag names is also asked for by digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Confirm {
    /// It is not.
    #[default]
    Never,
    /// Once for each new digest, as long as the registry's own limit leaves enough for the nodes.
    Auto,
    /// Once for each new digest.
    Always,
}

/// One place that speaks the distribution protocol.
#[derive(Debug, Clone)]
pub struct Endpoint {
    root: Url,
    /// How connections to it are secured.
    pub tls: Tls,
    /// Its host may be, and resolve to, a private or loopback address. Other hosts that it names
    /// (realm, redirect) need an entry of their own.
    pub allow_private: bool,
    /// What is sent as `ns=`: the registry that a mirror stands for.
    pub namespace: Option<String>,
    /// Changes of the repository path; the first that matches applies.
    pub rewrites: Vec<Rewrite>,
    /// Who is asking, to this endpoint.
    pub identity: Identity,
    /// What each request to it carries besides what we send ourselves.
    pub headers: Arc<[Header]>,
    /// It may say what a tag names; otherwise it only serves content.
    pub resolves: bool,
    /// Hosts of token services that may see credentials meant for this endpoint, beside its own.
    pub trusted_realms: Arc<[String]>,
}

/// One header; its value may be a secret and is never printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValue,
}

/// Which credentials an endpoint gets to see.
#[derive(Debug, Clone)]
pub enum Identity {
    /// Those that the asker has for the image: for the registry itself.
    Asker,
    /// None: a mirror.
    Anonymous,
    /// One of its own, from the operator: a mirror with a password.
    Own(Arc<Candidate>),
}

/// One change of a repository path, as in k3s' `rewrite`.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// What to look for in the path.
    pub pattern: Regex,
    /// What to put there; `$1` and `${1}` are groups.
    pub replacement: String,
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL with scheme and host.
    #[error("the endpoint is not a URL; write it as https://host:port")]
    Url,
    /// Neither http nor https.
    #[error("the endpoint's scheme must be https or http")]
    Scheme,
    /// User, query or fragment in the URL.
    #[error("the endpoint's URL must not hold a user, a query or a fragment")]
    Extra,
}

/// Where to look profiles up. The operator's configuration implements it.
pub trait Profiles: Send + Sync {
    /// The profile of a registry, by the domain of a reference or by `host[:port]` of a URL.
    fn profile(&self, domain: &str) -> Arc<RegistryProfile>;
}

impl RegistryProfile {
    /// What holds for a registry that no configuration names.
    #[must_use]
    pub fn of(domain: &str) -> Self {
        let hub = domain == DOCKER_HUB;
        let host = if hub { DOCKER_HUB_HOST } else { domain };
        Self {
            label: if hub { DOCKER_HUB } else { OTHER }.into(),
            offline: single_label(domain),
            resolve_from: ResolveFrom::Upstream,
            upstream: Url::parse(&format!("https://{host}")).ok().and_then(|url| Endpoint::new(url).ok()),
            mirrors: Vec::new(),
            confirm: Confirm::Never,
            pull_through: Arc::default(),
            tag_ttl: TAG_TTL,
            operators_credential: false,
        }
    }

    /// Where a tag is asked for, in order.
    pub fn authorities(&self) -> impl Iterator<Item = &Endpoint> {
        let (mirrors, upstream) = match self.resolve_from {
            ResolveFrom::Upstream => (&[][..], self.upstream.as_ref()),
            ResolveFrom::MirrorsThenUpstream => (&self.mirrors[..], self.upstream.as_ref()),
            ResolveFrom::MirrorsOnly => (&self.mirrors[..], None),
        };
        mirrors.iter().filter(|mirror| mirror.resolves).chain(upstream)
    }

    /// Whether it caches this repository for another registry.
    #[must_use]
    pub fn pulls_through(&self, path: &str) -> bool {
        self.pull_through.iter().any(|prefix| path.starts_with(prefix.as_str()))
    }

    /// Whether any of them gets to see the credentials that an asker has: otherwise nobody needs to look for them.
    #[must_use]
    pub fn shows_credentials(&self) -> bool {
        !self.offline && self.authorities().any(|endpoint| matches!(endpoint.identity, Identity::Asker))
    }
}

impl Header {
    /// A header; none when HTTP has no such name or value.
    #[must_use]
    pub fn new(name: &str, value: &str) -> Option<Self> {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        Some(Self { name, value })
    }
}

impl Endpoint {
    /// An endpoint with nothing but its place. No path, `/` and `/v2` mean `/v2`; any other path is
    /// taken as it is (containerd's `override_path`).
    ///
    /// # Errors
    /// When the URL is not plain http(s) with a host.
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
            namespace: None,
            rewrites: Vec::new(),
            identity: Identity::Asker,
            headers: Arc::default(),
            resolves: true,
            trusted_realms: Arc::default(),
        })
    }

    /// The root of its API, without a slash at the end: `https://registry-1.docker.io/v2`.
    #[must_use]
    pub const fn root(&self) -> &Url {
        &self.root
    }

    /// Configured with `http://`: only then http is spoken, here and to a token service.
    #[must_use]
    pub fn plain_http(&self) -> bool {
        self.root.scheme() == "http"
    }

    /// Its host, as URLs spell it.
    #[must_use]
    pub fn host(&self) -> Option<Host<&str>> {
        self.root.host()
    }

    /// The repository as this endpoint calls it. A rewrite that yields no repository path is not applied.
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

/// `registry:5000` and `localhost` are names of one machine or one cluster: preloaded images, until
/// an entry of the configuration says otherwise. Addresses are no names.
fn single_label(domain: &str) -> bool {
    let host = domain.split_once(':').map_or(domain, |(host, _)| host);
    !domain.starts_with('[') && !host.contains('.')
}

#[cfg(test)]
mod tests;
