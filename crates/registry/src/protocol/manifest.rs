//! Reads manifests: the digest of an image, or the reason why no node can run it. Only the parts that tell an image
//! from something else are read.

use serde::Deserialize;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::wire::message::HttpResponse;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::{Broken, Fact, Unavailable};
use tagpin_domain::platform::Platform;

/// The `Accept` header, exactly as containerd sends it (`core/remotes/docker/resolver.go`), so that the registry
/// answers with the digest that the node gets. A registry that misses one of the types answers with something else,
/// or with 404.
pub(crate) const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, */*";
/// Maximum size of a manifest, in bytes: the size that the distribution specification asks registries to accept.
pub(crate) const BODY: usize = 4 * 1024 * 1024;

/// The kind of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Manifest,
    Index,
    Schema1,
}

impl Kind {
    /// Returns the kind of a media type, whose parameters are ignored.
    fn of(media_type: &str) -> Option<Self> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        Some(match essence {
            "application/vnd.docker.distribution.manifest.v2+json"
            | "application/vnd.oci.image.manifest.v1+json" => Self::Manifest,
            "application/vnd.docker.distribution.manifest.list.v2+json"
            | "application/vnd.oci.image.index.v1+json" => Self::Index,
            // containerd takes `text/plain` for schema 1, because some registries send it so.
            "application/vnd.docker.distribution.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v1+prettyjws"
            | "text/plain" => Self::Schema1,
            _ => return None,
        })
    }
}

/// The result of a 200 to HEAD.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) fact: Fact,
    /// True if the digest is that of a single manifest, which may be an image or anything else.
    pub(super) is_single: bool,
}

/// Returns the result of a 200 to HEAD; none if only the body can tell.
pub(super) fn of_head(answer: &HttpResponse) -> Option<Head> {
    let text = answer.header("content-type")?;
    let kind = Kind::of(text)?;
    let fact = match kind {
        Kind::Schema1 if text.starts_with("text/") => return None,
        Kind::Schema1 => Fact::Broken(Broken::Schema1),
        Kind::Manifest | Kind::Index => Fact::Present(header_digest(answer)?),
    };
    Some(Head { fact, is_single: kind == Kind::Manifest })
}

/// Returns the fact of a 200 to GET.
pub(super) fn of_body(answer: &HttpResponse) -> Fact {
    read(answer.header("content-type"), answer.header("docker-content-digest"), &answer.body)
}

/// Returns the fact of a manifest that was sent with this media type and this digest in its header.
#[must_use]
pub fn read(content_type: Option<&str>, named: Option<&str>, body: &[u8]) -> Fact {
    let unreadable = Fact::unavailable(Unavailable::Unreadable);
    let Ok(document) = serde_json::from_slice::<Document>(body) else {
        return unreadable;
    };
    let header = content_type.filter(|value| !value.is_empty());
    let Some(kind) = header.or(document.media_type.as_deref()).and_then(Kind::of) else {
        return unreadable;
    };
    if kind == Kind::Schema1 || document.schema_version == Some(1) {
        return Fact::Broken(Broken::Schema1);
    }
    if document.media_type.as_deref().is_some_and(|own| Kind::of(own) != Some(kind)) {
        return unreadable;
    }
    let Some(purpose) = document.purpose(kind) else {
        return Fact::Broken(Broken::NotAnImage);
    };
    let Some(digest) = body_digest(named, body) else { return unreadable };
    match purpose {
        Purpose::Image => Fact::Present(digest),
        Purpose::Wasm => Fact::Artifact { digest, wasm: true },
        Purpose::Other => Fact::Artifact { digest, wasm: false },
    }
}

/// The content behind a digest.
pub(crate) struct Content {
    /// The entries of an index that a node may choose.
    pub(crate) children: Vec<Child>,
    /// The configuration of a single manifest, which names its platform.
    pub(crate) configuration: Option<Digest>,
}

/// One entry of an index.
pub(crate) struct Child {
    pub(crate) digest: Digest,
    /// The platform, if the index names it.
    pub(crate) platform: Option<Platform>,
    /// True if the entry is an index itself.
    pub(crate) is_index: bool,
}

/// Returns the content of a 200 to GET by digest. Unlike a tag, a digest has one content.
pub(crate) fn of_digest(answer: &HttpResponse, digest: &Digest) -> Result<Content, Fact> {
    if !hashes_to(&answer.body, digest) {
        return Err(Fact::Broken(Broken::HashMismatch));
    }
    match of_body(answer) {
        Fact::Present(_) => {}
        // The digest that was asked for may be of another algorithm.
        Fact::Artifact { wasm, .. } => return Err(Fact::Artifact { digest: digest.clone(), wasm }),
        other => return Err(other),
    }
    let document: Document =
        serde_json::from_slice(&answer.body).map_err(|_| Fact::unavailable(Unavailable::Unreadable))?;
    let runnable = document.manifests.iter().flatten().filter(|child| child.may_run());
    let child = |child: &Descriptor| {
        let platform = match &child.platform {
            None => None,
            // No node chooses a platform that cannot be read.
            Some(typed) => Some(typed.named()?),
        };
        Some(Child { digest: child.digest()?, platform, is_index: child.kind() == Some(Kind::Index) })
    };
    let children = runnable.filter_map(child).collect();
    Ok(Content { children, configuration: document.config.as_ref().and_then(Descriptor::digest) })
}

fn hashes_to(body: &[u8], digest: &Digest) -> bool {
    let hash = match digest.as_str().split_once(':') {
        Some(("sha256", _)) => hex(&Sha256::digest(body)),
        Some(("sha384", _)) => hex(&Sha384::digest(body)),
        Some(("sha512", _)) => hex(&Sha512::digest(body)),
        _ => return false,
    };
    digest.as_str().ends_with(&hash)
}

fn header_digest(answer: &HttpResponse) -> Option<Digest> {
    Digest::parse(answer.header("docker-content-digest")?).ok()
}

/// Returns the digest of the body. The digest in the header counts only if it uses another algorithm and the body
/// hashes to it, because then the registry knows the content by that name. Many registries send a wrong one, which is
/// ignored.
fn body_digest(named: Option<&str>, body: &[u8]) -> Option<Digest> {
    let sha256 = format!("sha256:{}", hex(&Sha256::digest(body)));
    let named = named.and_then(|named| Digest::parse(named).ok()).filter(|named| {
        let text = named.as_str();
        match text.split_once(':') {
            Some(("sha384", value)) => value == hex(&Sha384::digest(body)),
            Some(("sha512", value)) => value == hex(&Sha512::digest(body)),
            _ => false,
        }
    });
    named.or_else(|| Digest::parse(&sha256).ok())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// The purpose of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A container image.
    Image,
    /// A WebAssembly module.
    Wasm,
    /// A chart, a signature or another artifact.
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: Option<String>,
    media_type: Option<String>,
    platform: Option<TypedPlatform>,
}

#[derive(Deserialize)]
struct TypedPlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

impl TypedPlatform {
    fn named(&self) -> Option<Platform> {
        Platform::new(self.os.as_deref()?, self.architecture.as_deref()?, self.variant.as_deref()).ok()
    }
}

impl Document {
    /// Returns the purpose of the content; none if it is not what its media type says, or an index without an entry
    /// that a node may choose.
    fn purpose(&self, kind: Kind) -> Option<Purpose> {
        match (kind, &self.manifests) {
            // An index that is also a manifest could be read as either (CVE-2021-41190).
            (Kind::Index, Some(_)) if self.config.is_some() || self.layers.is_some() => None,
            (Kind::Index, Some(children)) => {
                children.iter().any(Descriptor::may_run).then_some(Purpose::Image)
            }
            (Kind::Manifest, None) => self.config.as_ref().map(|config| self.purpose_of_manifest(config)),
            _ => None,
        }
    }

    fn purpose_of_manifest(&self, config: &Descriptor) -> Purpose {
        let layers = || self.layers.iter().flatten();
        if config.is_image_config() || (config.is_old_config() && layers().any(Descriptor::is_image_layer)) {
            Purpose::Image
        } else if config.is_wasm() || layers().any(Descriptor::is_wasm) {
            Purpose::Wasm
        } else {
            Purpose::Other
        }
    }
}

impl Descriptor {
    fn digest(&self) -> Option<Digest> {
        Digest::parse(self.digest.as_deref()?).ok()
    }

    fn kind(&self) -> Option<Kind> {
        self.media_type.as_deref().and_then(Kind::of)
    }

    /// Returns true for an entry of an index that a node may choose. Attestations have the platform unknown/unknown.
    fn may_run(&self) -> bool {
        let unknown = |text: &Option<String>| text.as_deref() == Some("unknown");
        let attestation = self
            .platform
            .as_ref()
            .is_some_and(|platform| unknown(&platform.os) && unknown(&platform.architecture));
        matches!(self.kind(), Some(Kind::Manifest | Kind::Index)) && !attestation
    }

    /// Returns the media type without its parameters.
    fn essence(&self) -> &str {
        let media_type = self.media_type.as_deref().unwrap_or_default();
        media_type.split(';').next().unwrap_or_default().trim()
    }

    fn is_image_config(&self) -> bool {
        matches!(
            self.essence(),
            "application/vnd.docker.container.image.v1+json" | "application/vnd.oci.image.config.v1+json"
        )
    }

    /// Returns true for a type that old tools gave to the configuration of an image, and that nodes accept. It says
    /// nothing, so the layers decide.
    fn is_old_config(&self) -> bool {
        matches!(
            self.essence(),
            "" | "application/octet-stream" | "application/json" | "text/html" | "text/plain"
        )
    }

    fn is_image_layer(&self) -> bool {
        let essence = self.essence();
        ["application/vnd.docker.image.rootfs.", "application/vnd.oci.image.layer."]
            .iter()
            .any(|start| essence.starts_with(start))
    }

    fn is_wasm(&self) -> bool {
        let essence = self.essence();
        essence == "application/vnd.wasm.config.v0+json"
            || essence == "application/wasm"
            || (essence.starts_with("application/vnd.") && essence.ends_with("+wasm"))
    }
}

#[cfg(test)]
mod tests;
