//! What was typed in the configuration, and what is meant by it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_saphyr::Location;
use url::Url;

use super::{Entry, Pattern, Registries, SecretRef, normal, split};
use crate::registry::config_file::{self, ConfigError, Written};
use crate::registry::endpoint::{CaBundle, Endpoint, EndpointError, ResolveFrom};
use crate::registry::keyring::labels_match;
use crate::registry::mirrors::NodeMirrors;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Typed {
    #[serde(default)]
    registries: Vec<TypedEntry>,
    registries_file: Option<TypedFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TypedEntry {
    #[serde(rename = "match")]
    pattern: Written,
    allow_private: Option<bool>,
    tls: Option<TypedTls>,
    #[serde(default)]
    offline: bool,
    credentials: Option<TypedCredentials>,
    resolve_from: Option<TypedResolveFrom>,
    #[serde(default)]
    mirrors: Vec<TypedMirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TypedTls {
    ca_file: Written,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TypedCredentials {
    secret_ref: TypedSecretRef,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedSecretRef {
    namespace: Written,
    name: Written,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedMirror {
    url: Written,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedResolveFrom {
    Upstream,
    MirrorsThenUpstream,
    MirrorsOnly,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedFile {
    #[serde(rename = "format")]
    _format: TypedFormat,
    path: Written,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedFormat {
    K3s,
}

/// Reads the configuration; what it names is found beside it when the path is relative.
pub(super) fn read(file: &Path, bytes: &[u8]) -> Result<Registries, ConfigError> {
    let typed: Typed = config_file::parse(file, bytes)?;
    let mut registries = Registries::default();
    if let Some(typed) = typed.registries_file {
        registries.nodes = NodeMirrors::load(&beside(file, &typed.path.value))?;
    }
    for (index, typed) in typed.registries.into_iter().enumerate() {
        let reader = Reader { file, at: typed.pattern.referenced, key: format!("registries[{index}]") };
        let pattern = reader.pattern(&typed.pattern.value)?;
        reader.reachable(&pattern, &registries.entries)?;
        let entry = reader.entry(pattern, typed)?;
        registries.warnings.extend(reader.check(&entry, &registries.nodes)?);
        registries.entries.push(entry);
    }
    Ok(registries)
}

fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

/// Reads one entry and knows how to point at it.
struct Reader<'a> {
    file: &'a Path,
    at: Location,
    key: String,
}

impl Reader<'_> {
    fn wrong(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        config_file::mistake(self.file, Some(self.at), format!("{}.{key}", self.key), problem)
    }

    fn wrong_text(&self, text: &Written, key: &str, problem: impl Into<String>) -> ConfigError {
        let key = format!("{}.{key}", self.key);
        config_file::mistake(self.file, Some(text.referenced), key, problem)
    }

    fn pattern(&self, typed: &str) -> Result<Pattern, ConfigError> {
        let normal = normal(typed);
        let (host, port) = split(&normal);
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'*')
        };
        let is_host = match address {
            Some(inside) => inside.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.split('.').all(label),
        };
        let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        if !is_host || !port.is_none_or(is_port) {
            let help = "write a host, with its port if it has one; * stands for a part of one label: \
                        registry.example.com:5000, *.example.com";
            return Err(self.wrong("match", help));
        }
        if host == "index.docker.io" {
            return Err(self.wrong("match", "images of Docker Hub are named docker.io: write docker.io"));
        }
        Ok(Pattern { typed: typed.into(), host: host.to_owned(), port: port.map(str::to_owned) })
    }

    /// The first match wins: an entry that an earlier one covers whole would never count.
    fn reachable(&self, pattern: &Pattern, earlier: &[Entry]) -> Result<(), ConfigError> {
        let covering = earlier.iter().position(|entry| {
            let earlier = &entry.pattern;
            earlier.port == pattern.port
                && (earlier.host == pattern.host
                    || !pattern.has_star() && labels_match(&earlier.host, &pattern.host))
        });
        match covering {
            None => Ok(()),
            Some(index) => Err(self.wrong(
                "match",
                format!(
                    "the first match wins and registries[{index}] covers this one: put this entry before it"
                ),
            )),
        }
    }

    fn entry(&self, pattern: Pattern, typed: TypedEntry) -> Result<Entry, ConfigError> {
        if typed.offline {
            let useless = [
                ("allowPrivate", typed.allow_private.is_some()),
                ("tls", typed.tls.is_some()),
                ("credentials", typed.credentials.is_some()),
                ("resolveFrom", typed.resolve_from.is_some()),
                ("mirrors", !typed.mirrors.is_empty()),
            ];
            if let Some((key, _)) = useless.into_iter().find(|(_, set)| *set) {
                return Err(self.wrong(key, "has no effect: an offline registry is never asked"));
            }
        }
        Ok(Entry {
            pattern,
            allow_private: typed.allow_private.unwrap_or_default(),
            ca: typed.tls.map(|tls| self.ca(&tls.ca_file)).transpose()?,
            offline: typed.offline,
            credentials: typed.credentials.map(|c| self.secret(c.secret_ref)).transpose()?,
            resolve_from: match typed.resolve_from {
                None | Some(TypedResolveFrom::Upstream) => ResolveFrom::Upstream,
                Some(TypedResolveFrom::MirrorsThenUpstream) => ResolveFrom::MirrorsThenUpstream,
                Some(TypedResolveFrom::MirrorsOnly) => ResolveFrom::MirrorsOnly,
            },
            mirrors: self.mirrors(&typed.mirrors)?,
        })
    }

    fn ca(&self, path: &Written) -> Result<CaBundle, ConfigError> {
        let file = beside(self.file, &path.value);
        let wrong = |problem: String| self.wrong_text(path, "tls.caFile", problem);
        let pem = std::fs::read(&file).map_err(|cause| wrong(format!("read {}: {cause}", file.display())))?;
        CaBundle::parse(&pem).map_err(|error| wrong(format!("{}: {error}", file.display())))
    }

    fn secret(&self, typed: TypedSecretRef) -> Result<SecretRef, ConfigError> {
        let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        for (text, key) in [(&typed.namespace, "namespace"), (&typed.name, "name")] {
            if text.value.is_empty() || text.value.len() > 253 || !text.value.bytes().all(byte) {
                let key = format!("credentials.secretRef.{key}");
                return Err(self.wrong_text(text, &key, "is not a name of Kubernetes: a-z, 0-9, - and ."));
            }
        }
        Ok(SecretRef { namespace: typed.namespace.value, name: typed.name.value })
    }

    fn mirrors(&self, typed: &[TypedMirror]) -> Result<Vec<Endpoint>, ConfigError> {
        let mirror = |(index, typed): (usize, &TypedMirror)| {
            Url::parse(&typed.url.value).map_err(|_| EndpointError::Url).and_then(Endpoint::new).map_err(
                |error| self.wrong_text(&typed.url, &format!("mirrors[{index}].url"), error.to_string()),
            )
        };
        typed.iter().enumerate().map(mirror).collect()
    }

    /// Whether the parts of an entry, and the nodes' file, fit together.
    fn check(&self, entry: &Entry, nodes: &NodeMirrors) -> Result<Option<String>, ConfigError> {
        let typed: &Arc<str> = &entry.pattern.typed;
        if entry.resolve_from == ResolveFrom::Upstream {
            let ignored = !entry.mirrors.is_empty();
            return Ok(ignored.then(|| {
                format!(
                    "{}: the mirrors of {typed} are not asked, because resolveFrom is upstream; write \
                     mirrors-then-upstream or mirrors-only to ask them",
                    self.key
                )
            }));
        }
        let in_file = if entry.pattern.has_star() {
            nodes.names_any()
        } else {
            !nodes.mirrors(&entry.pattern.domain()).is_empty()
        };
        if entry.mirrors.is_empty() && !in_file {
            let problem = "asks mirrors, but neither this entry nor registriesFile names a mirror of it: \
                           write mirrors: [{ url: … }]";
            return Err(self.wrong("resolveFrom", problem));
        }
        Ok(None)
    }
}
