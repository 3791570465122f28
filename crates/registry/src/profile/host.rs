//! Names of registry hosts, as references and URLs spell them.

use std::borrow::Cow;

use url::Url;

/// Host that serves the API of `docker.io`.
pub(crate) const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// Returns the canonical spelling of a host: in lower case, and without the port 443.
pub(crate) fn normal(domain: &str) -> Cow<'_, str> {
    let host = domain.strip_suffix(":443").unwrap_or(domain);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return host.to_ascii_lowercase().into();
    }
    host.into()
}

/// Splits a domain into host and port; a literal address keeps its brackets.
pub(crate) fn split(domain: &str) -> (&str, Option<&str>) {
    match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    }
}

/// Returns `host:port` of a URL, without the default port of its scheme.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        None => host.to_owned(),
        Some(port) => format!("{host}:{port}"),
    }
}
