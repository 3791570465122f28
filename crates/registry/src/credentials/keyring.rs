//! Matches credentials to images as the kubelet's keyring does (`pkg/credentialprovider/keyring.go`, Kubernetes 1.36,
//! on the URL rules of Go 1.26), with its quirks, because the node decides by them.
//!
//! One rule differs: the credential of `https://index.docker.io/v1/` is used for `docker.io` alone. The kubelet uses
//! it for any first part without a dot or colon, so also for `localhost/app` and `Foo/app`, which are other hosts.

use std::collections::{BTreeMap, BTreeSet};

use crate::credential::{Candidate, Source};
use crate::credentials::docker_config::{self, DockerConfig};
use tagpin_domain::image::{DOCKER_HUB, ImageRef};

/// The key of `https://index.docker.io/v1/`.
const HUB_KEY: &str = "index.docker.io";

/// Credentials, by the location that they were written for.
#[derive(Debug, Default)]
pub struct Keyring {
    entries: BTreeMap<String, Entry>,
    holds_tokens: bool,
    /// The registries for which a configuration names a credential helper.
    helped: BTreeSet<String>,
    /// True if a configuration names a helper for all the registries that it lists.
    has_store: bool,
}

#[derive(Debug)]
struct Entry {
    /// The locations that it matches. None if the key is not a location after decoding, so that it matches nothing.
    pattern: Option<Location>,
    /// The candidates, in the order in which they were added.
    candidates: Vec<Candidate>,
}

/// Host, port and path, as Go's `net/url` parses them.
#[derive(Debug, PartialEq, Eq)]
struct Location {
    /// Host and port as written.
    authority: String,
    /// The path, decoded.
    path: String,
}

impl Keyring {
    /// Adds every credential of a configuration, and skips invalid locations.
    pub fn add(&mut self, config: &DockerConfig, source: &Source) {
        self.holds_tokens |= config.holds_tokens();
        self.helped.extend(config.helped().map(str::to_owned));
        self.has_store |= config.has_store();
        for (written, credential) in config.entries() {
            let Some(key) = key(written) else { continue };
            let entry = self
                .entries
                .entry(key)
                .or_insert_with_key(|key| Entry { pattern: Location::parse(key), candidates: Vec::new() });
            entry.candidates.push(Candidate::new(credential.clone(), source.clone()));
        }
    }

    /// Returns true if a configuration held identity or registry tokens.
    pub(super) const fn holds_tokens(&self) -> bool {
        self.holds_tokens
    }

    /// Returns true if docker would ask a credential helper for the image. When it keeps a credential in one, it writes
    /// the registry into the configuration without a password.
    pub(in crate::credentials) fn names_helper(&self, image: &ImageRef) -> bool {
        let names = docker_config::names(image.domain());
        names.iter().any(|name| self.helped.contains(*name))
            || (self.has_store && !self.look_up(image).is_empty())
    }

    /// Returns the credentials for an image, most specific location first; each credential once.
    #[must_use]
    pub fn look_up(&self, image: &ImageRef) -> Vec<Candidate> {
        look_up(&[self], image)
    }

    fn matching<'a>(&'a self, target: &'a Location) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let matches = |entry: &Entry| entry.pattern.as_ref().is_some_and(|pattern| pattern.covers(target));
        self.entries.iter().filter(move |(_, entry)| matches(entry)).map(|(key, entry)| (key.as_str(), entry))
    }
}

/// Returns the credentials for an image in several keyrings, as if they were one keyring filled in this order.
#[must_use]
pub(super) fn look_up(keyrings: &[&Keyring], image: &ImageRef) -> Vec<Candidate> {
    if keyrings.is_empty() {
        return Vec::new();
    }
    let Some(target) = Location::parse(image.repository()) else { return Vec::new() };
    let mut entries: Vec<_> = keyrings.iter().flat_map(|keyring| keyring.matching(&target)).collect();
    // Longer and later keys first: paths of a host come before the host, and `*` last.
    entries.sort_by(|(one, _), (other, _)| other.cmp(one));
    if entries.is_empty() && image.domain() == DOCKER_HUB {
        entries.extend(keyrings.iter().filter_map(|keyring| Some((HUB_KEY, keyring.entries.get(HUB_KEY)?))));
    }
    let mut found: Vec<Candidate> = Vec::new();
    for (_, entry) in entries {
        let stretched = entry.pattern.as_ref().is_some_and(|pattern| pattern.is_stretched_to(&target));
        for candidate in &entry.candidates {
            if !found.iter().any(|earlier| earlier.id == candidate.id) {
                found.push(Candidate { stretched, ..candidate.clone() });
            }
        }
    }
    found
}

/// Returns the key of a location: the host, with a path unless that is empty, `/`, `/v1/` or `/v2/`.
fn key(written: &str) -> Option<String> {
    let bare = written.strip_prefix("https://").or_else(|| written.strip_prefix("http://"));
    let Location { authority, path } = Location::parse(bare.unwrap_or(written))?;
    let path = match path.get(..4) {
        Some("/v1/" | "/v2/") => path.get(3..).unwrap_or_default(),
        _ => &path,
    };
    Some(if path == "/" { authority } else { authority + path })
}

impl Location {
    /// Reads a location without a scheme; none if `net/url` refuses it.
    fn parse(text: &str) -> Option<Self> {
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return None;
        }
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        decode(fragment)?;
        let (rest, _query) = rest.split_once('?').unwrap_or((rest, ""));
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(slash)?;
        let authority = match authority.rsplit_once('@') {
            None => authority,
            Some((user, authority)) => {
                user.bytes().all(is_user).then_some(())?;
                decode(user)?;
                authority
            }
        };
        is_authority(authority).then_some(())?;
        Some(Self { authority: authority.to_owned(), path: decode(path)? })
    }

    /// Returns true if this location covers the other: equal ports as text, as many labels, in which `*` is a
    /// wildcard, and a path that the other's *text* starts with (`host/team` also covers `host/team-b/x`).
    fn covers(&self, target: &Self) -> bool {
        let (host, port) = split_port(&self.authority);
        let (target_host, target_port) = split_port(&target.authority);
        port == target_port && target.path.starts_with(&self.path) && labels_match(host, target_host)
    }

    /// Returns true if the other path continues the last name of this one, as another name does.
    fn is_stretched_to(&self, target: &Self) -> bool {
        let rest = target.path.strip_prefix(&self.path).unwrap_or_default();
        !self.path.is_empty() && !self.path.ends_with('/') && !rest.is_empty() && !rest.starts_with('/')
    }
}

/// Returns true if each label of the host matches the pattern's label, in which `*` stands for any text without a
/// dot.
pub(crate) fn labels_match(pattern: &str, host: &str) -> bool {
    let (mut patterns, mut labels) = (pattern.split('.'), host.split('.'));
    loop {
        match (patterns.next(), labels.next()) {
            (None, None) => return true,
            (Some(pattern), Some(label)) if label_matches(pattern, label) => {}
            _ => return false,
        }
    }
}

/// Matches one label. `[` starts a class in Go's `filepath.Match`, and its URL parser allows it only at the start of
/// a literal address, so no label of a host matches one.
fn label_matches(pattern: &str, label: &str) -> bool {
    if pattern.contains('[') {
        return false;
    }
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == label };
    let Some(mut label) = label.strip_prefix(start) else { return false };
    let Some((middle, end)) = rest.rsplit_once('*') else { return label.ends_with(rest) };
    for part in middle.split('*') {
        let Some((_, after)) = label.split_once(part) else { return false };
        label = after;
    }
    label.ends_with(end)
}

/// Splits as `net.SplitHostPort` does; what it cannot split is a host without a port.
fn split_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            (inside.unwrap_or(host), port)
        }
        _ => (authority, ""),
    }
}

/// Returns true for bytes that may stand in the user part.
fn is_user(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte)
}

/// Checks an authority as `parseHost` of `net/url` does. Escaped hosts are refused, because no image's host matches
/// one.
fn is_authority(authority: &str) -> bool {
    let port_is_valid = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(literal) = authority.strip_prefix('[') {
        let Some((inside, after)) = literal.rsplit_once(']') else { return false };
        let port = after.strip_prefix(':');
        return inside.parse::<std::net::Ipv6Addr>().is_ok()
            && (after.is_empty() || port.is_some_and(port_is_valid));
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let host_byte = |byte: u8| {
        !byte.is_ascii() || byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=]<>\"".contains(&byte)
    };
    port_is_valid(port) && host.bytes().all(host_byte)
}

/// Decodes percent-encoding. None if an escape is broken or the result is not UTF-8, which no image's path is.
fn decode(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let hex = part.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        decoded.push(u8::from_str_radix(hex, 16).ok()?);
        decoded.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests;
