//! Image references exactly as the node understands them: the grammar and normalisation of
//! `distribution/reference` (`reference.go`, `normalize.go`), which the kubelet and containerd use,
//! written by hand over bytes. "No tag" and ":latest" are different values.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::digest::Digest;

use error::err;
pub use error::{ReferenceError, ReferenceErrorKind};

mod error;
mod host;

/// The host of Docker Hub in normalised names.
pub const DOCKER_HUB: &str = "docker.io";
const HUB_LIBRARY: &str = "library/";
/// Maximum number of bytes of a repository path; registries and runtimes refuse longer ones.
const PATH_LIMIT: usize = 255;
/// Maximum number of characters of a tag.
const TAG_LIMIT: usize = 128;
/// URL schemes that authors copy with a host. No reference starts with one.
const SCHEMES: [&str; 4] = ["https://", "http://", "docker://", "oci://"];

/// A reference that a node could pull, in the author's spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageRef {
    original: Arc<str>,
    /// Number of bytes of `original` before the tag and the digest.
    name_length: usize,
    /// End of the tag in `original`. The tag begins after the name and a colon.
    tag_end: Option<usize>,
    /// The normalised name, if it differs from the written one. Clones share it.
    normalised: Option<Arc<str>>,
    /// Number of bytes of the normalised name before the slash and the path.
    domain_length: usize,
    digest: Option<Digest>,
}

impl ImageRef {
    /// Parses and normalises a reference that an author wrote.
    ///
    /// # Errors
    /// Fails if the kubelet or containerd would refuse the reference, and for node-local image IDs.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        Self::of(&text.into())
    }

    /// Parses a text that the reference shares with its other holders.
    ///
    /// # Errors
    /// Fails in the same cases as [`ImageRef::parse`].
    pub fn of(text: &Arc<str>) -> Result<Self, ReferenceError> {
        use ReferenceErrorKind as Kind;
        let original = Arc::clone(text);
        let text: &str = text;
        if text.is_empty() {
            return Err(err(Kind::Empty, 0));
        }
        if is_image_id(text) {
            return Err(err(Kind::ImageId, 0));
        }
        if let Some(scheme) = SCHEMES.into_iter().find(|scheme| text.starts_with(scheme)) {
            return Err(err(Kind::Scheme(scheme), 0));
        }
        let (before_digest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => {
                let parsed = Digest::parse(digest).map_err(|e| err(Kind::Digest(e), name.len() + 1))?;
                (name, Some(parsed))
            }
        };
        let (written_domain, rest, rest_offset) = split_domain(before_digest);
        let (path, tag) = match rest.split_once(':') {
            None => (rest, None),
            Some((path, tag)) => (path, Some(tag)),
        };
        let checked = check_path(path);
        if checked.is_err()
            && let Some(at) = path.bytes().position(|b| b.is_ascii_uppercase())
        {
            return Err(err(Kind::UpperCase, rest_offset + at));
        }
        if let Some(domain) = written_domain {
            host::check(domain)?;
        }
        checked.map_err(|at| err(Kind::Path, rest_offset + at))?;
        let name_length = rest_offset + path.len();
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            let kind = match tag {
                "" => Kind::TagEmpty,
                _ if tag.contains(':') => Kind::TwoColons,
                _ => Kind::Tag,
            };
            return Err(err(kind, name_length + 1));
        }
        let domain = match written_domain {
            None | Some("index.docker.io") => DOCKER_HUB,
            Some(domain) => domain,
        };
        let library = if domain == DOCKER_HUB && !path.contains('/') { HUB_LIBRARY } else { "" };
        if library.len() + path.len() > PATH_LIMIT {
            return Err(err(Kind::TooLong, rest_offset));
        }
        if domain == DOCKER_HUB
            && matches!(
                path,
                "sha256" | "sha384" | "sha512" | "library/sha256" | "library/sha384" | "library/sha512"
            )
            && tag.is_some_and(|tag| tag.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(err(Kind::NodeLocalId, 0));
        }
        Ok(Self {
            original,
            name_length,
            tag_end: tag.map(|tag| name_length + 1 + tag.len()),
            normalised: (written_domain != Some(domain) || !library.is_empty())
                .then(|| joined([domain, "/", library, path]))
                .flatten(),
            domain_length: domain.len(),
            digest,
        })
    }

    /// Returns the text exactly as the author wrote it.
    #[must_use]
    pub fn original(&self) -> &str {
        &self.original
    }

    /// Returns the registry's host, with a port if one was written: `docker.io`, `ghcr.io`, `localhost:5000`.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.repository().get(..self.domain_length).unwrap_or_default()
    }

    /// Returns the repository's path in its registry: `library/nginx`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.repository().get(self.domain_length + 1..).unwrap_or_default()
    }

    /// Returns the account and the region of the registry, if it is one of Amazon ECR.
    #[must_use]
    pub fn ecr_account(&self) -> Option<(&str, &str)> {
        host::ecr_account(self.domain())
    }

    /// Returns the tag as written.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.original.get(self.name_length + 1..self.tag_end?)
    }

    /// Returns the tag that a node asks for: an omitted tag is `latest`, unless a digest is written.
    #[must_use]
    pub fn effective_tag(&self) -> Option<&str> {
        match (self.tag(), &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, Some(_)) => None,
            (None, None) => Some("latest"),
        }
    }

    /// Returns the digest as written.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns the normalised name: `docker.io/library/nginx`.
    #[must_use]
    pub fn repository(&self) -> &str {
        self.normalised.as_deref().unwrap_or_else(|| self.written_name())
    }

    /// Returns the author's own spelling of the name, without tag and digest: `nginx`.
    #[must_use]
    pub fn written_name(&self) -> &str {
        self.original.get(..self.name_length).unwrap_or(&self.original)
    }

    /// Returns the whole normalised reference: `docker.io/library/nginx:1.27@sha256:…`; an omitted tag stays omitted.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.with_suffix(self.repository())
    }

    /// Returns the name that policies match on, which is the same for all spellings of one repository. Hosts
    /// are lower case, without the default port of https. An address is written in one way, and all names of
    /// Docker Hub and of each ECR registry become one.
    #[must_use]
    pub fn policy_name(&self) -> String {
        let host = host::policy_name(self.domain());
        let path = self.path();
        match &*host {
            "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" | DOCKER_HUB => {
                let library = if path.contains('/') { "" } else { HUB_LIBRARY };
                [DOCKER_HUB, "/", library, path].concat()
            }
            "ecr-public.aws.com" => ["public.ecr.aws/", path].concat(),
            host => [host, "/", path].concat(),
        }
    }

    /// Returns the reference with a digest, in the author's own spelling: `name:tag@digest`, or
    /// `name@digest` if no tag was written. A reference that has a digest keeps its own.
    #[must_use]
    pub fn pinned(&self, digest: &Digest) -> String {
        match self.digest {
            Some(_) => self.original.to_string(),
            None => [&*self.original, "@", digest.as_str()].concat(),
        }
    }

    fn with_suffix(&self, name: &str) -> String {
        let (colon, tag) = self.tag().map_or(("", ""), |tag| (":", tag));
        let (at, digest) = self.digest.as_ref().map_or(("", ""), |digest| ("@", digest.as_str()));
        [name, colon, tag, at, digest].concat()
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.original)
    }
}

impl FromStr for ImageRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

/// Joins the parts of a name on Docker Hub into one shared text. The only allocation is that text.
fn joined(parts: [&str; 4]) -> Option<Arc<str>> {
    let mut name = [0; DOCKER_HUB.len() + 1 + PATH_LIMIT];
    let mut free = name.as_mut_slice();
    for part in parts {
        let (text, rest) = std::mem::take(&mut free).split_at_mut_checked(part.len())?;
        text.copy_from_slice(part.as_bytes());
        free = rest;
    }
    let left = free.len();
    let (written, _) = name.split_at_checked(name.len() - left)?;
    std::str::from_utf8(written).ok().map(Arc::from)
}

/// Returns the host of `host:port`. An IPv6 address keeps its brackets.
pub(crate) fn without_port(authority: &str) -> &str {
    host::split_port(authority).0
}

fn is_image_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns the written domain if there is one, the rest, and the rest's offset (`splitDockerDomain` of normalize.go).
fn split_domain(name: &str) -> (Option<&str>, &str, usize) {
    match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.bytes().any(|byte| matches!(byte, b'.' | b':'))
                || first.chars().any(char::is_uppercase) =>
        {
            (Some(first), rest, first.len() + 1)
        }
        _ => (None, name, 0),
    }
}

/// Checks `component *("/" component)`, where a component is `1*[a-z0-9] *(separator 1*[a-z0-9])` with the
/// separators `.`, `_`, `__` and one or more `-`. The error is the offset of the first component that does
/// not match.
fn check_path(path: &str) -> Result<(), usize> {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (mut component, mut rest) = (0, path.as_bytes());
    loop {
        let word = rest.iter().take_while(|byte| alphanumeric(byte)).count();
        let (_, after) = rest.split_at(word);
        if word == 0 {
            return Err(component);
        }
        if after.is_empty() {
            return Ok(());
        }
        if let [b'/', after @ ..] = after {
            (component, rest) = (path.len() - after.len(), after);
            continue;
        }
        let separator = after.iter().take_while(|byte| !alphanumeric(byte)).count();
        let (between, after) = after.split_at(separator);
        let known = matches!(between, b"." | b"_" | b"__") || between.iter().all(|byte| *byte == b'-');
        if !known {
            return Err(component);
        }
        rest = after;
    }
}

fn is_tag(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_LIMIT
        && bytes.next().is_some_and(word)
        && bytes.all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests;
