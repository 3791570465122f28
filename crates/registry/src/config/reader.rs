//! Turns an entry as typed into a valid one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use regex::Regex;
use serde_saphyr::Location;
use url::Url;

use super::entry::{Entry, EntryCredential, Mirror, Pattern};
use super::file::{self, ConfigError, Files, Written, beside};
use super::text::{
    TypedAws, TypedCapability, TypedConfirm, TypedCredentials, TypedEntry, TypedMirror, TypedPair,
    TypedResolveFrom, TypedSecretRef, TypedTls,
};
use crate::credentials::cloud::{Access, ServiceKey};
use crate::credentials::keyring::labels_match;
use crate::credentials::operator::SecretRef;
use crate::profile::cloud_host::EcrHost;
use crate::profile::endpoint::{Confirm, Endpoint, EndpointError, ResolveFrom, Rewrite};
use crate::profile::host::{normal, split};
use crate::profile::not_found::NotFound;
use crate::profile::tls::{CaBundle, ClientCertificate, PemError, Tls};
use tagpin_domain::object_name::is_object_name;

/// Reads one entry, and reports its mistakes with their place.
pub(super) struct Reader<'a> {
    pub(super) file: &'a Path,
    pub(super) files: &'a Files,
    pub(super) at: Location,
    pub(super) key: String,
}

impl Reader<'_> {
    pub(super) fn wrong(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        file::mistake(self.file, Some(self.at), format!("{}.{key}", self.key), problem)
    }

    fn wrong_text(&self, text: &Written, key: &str, problem: impl Into<String>) -> ConfigError {
        let key = format!("{}.{key}", self.key);
        file::mistake(self.file, Some(text.referenced), key, problem)
    }

    pub(super) fn pattern(&self, typed: &str) -> Result<Pattern, ConfigError> {
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
            let help = "write a host, with its port if it has one, such as registry.example.com:5000; * stands for a part of \
                        one label, as in *.example.com";
            return Err(self.wrong("match", help));
        }
        if host == "index.docker.io" {
            return Err(
                self.wrong("match", "Docker Hub is named docker.io in image references: write docker.io")
            );
        }
        Ok(Pattern { typed: typed.into(), host: host.to_owned(), port: port.map(str::to_owned) })
    }

    /// Checks that no earlier entry covers this one completely, because the first match wins.
    pub(super) fn reachable(&self, pattern: &Pattern, earlier: &[Entry]) -> Result<(), ConfigError> {
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
                    "registries[{index}] already matches these hosts, and the first match wins: move this entry before it"
                ),
            )),
        }
    }

    pub(super) fn entry(&self, pattern: Pattern, typed: TypedEntry) -> Result<Entry, ConfigError> {
        if typed.offline {
            let useless = [
                ("allowPrivate", typed.allow_private.is_some()),
                ("tls", typed.tls.is_some()),
                ("trustedRealms", typed.trusted_realms.is_some()),
                ("confirmDigest", typed.confirm_digest.is_some()),
                ("pullThrough", typed.pull_through.is_some()),
                ("notFoundIsProof", typed.not_found_is_proof.is_some()),
                ("credentials", typed.credentials.is_some()),
                ("resolveFrom", typed.resolve_from.is_some()),
                ("mirrors", !typed.mirrors.is_empty()),
            ];
            if let Some((key, _)) = useless.into_iter().find(|(_, set)| *set) {
                return Err(self.wrong(key, "has no effect: an offline registry is never asked"));
            }
        }
        let credentials = typed.credentials.map(|typed| self.credential(&pattern, typed)).transpose()?;
        Ok(Entry {
            pattern,
            allow_private: typed.allow_private.unwrap_or_default(),
            tls: typed.tls.map(|tls| self.tls(tls)).transpose()?,
            confirm: match typed.confirm_digest {
                None | Some(TypedConfirm::Never) => Confirm::Never,
                Some(TypedConfirm::Auto) => Confirm::Auto,
                Some(TypedConfirm::Always) => Confirm::Always,
            },
            not_found_is_proof: typed.not_found_is_proof.unwrap_or_default(),
            pull_through: self.prefixes(&typed.pull_through.unwrap_or_default())?,
            trusted_realms: self.realms(&typed.trusted_realms.unwrap_or_default())?,
            offline: typed.offline,
            credentials,
            resolve_from: match typed.resolve_from {
                None | Some(TypedResolveFrom::Upstream) => ResolveFrom::Upstream,
                Some(TypedResolveFrom::MirrorsThenUpstream) => ResolveFrom::MirrorsThenUpstream,
                Some(TypedResolveFrom::MirrorsOnly) => ResolveFrom::MirrorsOnly,
            },
            mirrors: self.mirrors(&typed.mirrors)?,
        })
    }

    fn tls(&self, typed: TypedTls) -> Result<Tls, ConfigError> {
        let ca = typed.ca_file.map(|path| self.pem(&path, "tls.caFile", CaBundle::parse)).transpose()?;
        if typed.ca_only && ca.is_none() {
            return Err(self.wrong("tls.caOnly", "has no effect without caFile"));
        }
        if typed.insecure_skip_verify && ca.is_some() {
            let problem = "has no effect with insecureSkipVerify: remove one of the two";
            return Err(self.wrong("tls.caFile", problem));
        }
        let client = typed.client_cert.map(|pair| self.pair(&pair)).transpose()?.map(Arc::new);
        Ok(Tls { ca, common: None, ca_only: typed.ca_only, client, unverified: typed.insecure_skip_verify })
    }

    fn pair(&self, typed: &TypedPair) -> Result<ClientCertificate, ConfigError> {
        let key = self.bytes(&typed.key_file, "tls.clientCert.keyFile")?;
        self.pem(&typed.cert_file, "tls.clientCert.certFile", |chain| ClientCertificate::parse(chain, &key))
    }

    fn pem<T>(
        &self,
        path: &Written,
        key: &str,
        parse: impl FnOnce(&[u8]) -> Result<T, PemError>,
    ) -> Result<T, ConfigError> {
        let file = beside(self.file, &path.value);
        parse(&self.bytes(path, key)?)
            .map_err(|error| self.wrong_text(path, key, format!("{}: {error}", file.display())))
    }

    fn bytes(&self, path: &Written, key: &str) -> Result<Vec<u8>, ConfigError> {
        let file = beside(self.file, &path.value);
        let read = self.files.read(&file);
        read.map_err(|cause| self.wrong_text(path, key, format!("read {}: {cause}", file.display())))
    }

    /// Reads repository prefixes; an empty one stands for every repository.
    fn prefixes(&self, typed: &[Written]) -> Result<Arc<[String]>, ConfigError> {
        let prefix = |(index, typed): (usize, &Written)| {
            let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/".contains(&b);
            if typed.value.bytes().all(byte) && !typed.value.starts_with('/') {
                return Ok(typed.value.clone());
            }
            let problem = "write the prefix of repository paths, without the host: docker-hub/";
            Err(self.wrong_text(typed, &format!("pullThrough[{index}]"), problem))
        };
        typed.iter().enumerate().map(prefix).collect()
    }

    fn realms(&self, typed: &[Written]) -> Result<Arc<[String]>, ConfigError> {
        let realm = |(index, typed): (usize, &Written)| {
            // In the spelling of URLs, because it is compared with the host of one.
            let url = Url::parse(&format!("https://{}", typed.value)).ok();
            let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
            if host.eq_ignore_ascii_case(&typed.value) {
                return Ok(host.to_owned());
            }
            let problem = "write the host of the token service, without scheme and port: gitlab.example.com";
            Err(self.wrong_text(typed, &format!("trustedRealms[{index}]"), problem))
        };
        typed.iter().enumerate().map(realm).collect()
    }

    /// Reads the credential; exactly one kind may be given.
    fn credential(&self, pattern: &Pattern, typed: TypedCredentials) -> Result<EntryCredential, ConfigError> {
        let access = match (typed.secret_ref, typed.aws, typed.gcp, typed.azure) {
            (Some(secret), None, None, None) => return self.secret(secret).map(EntryCredential::Secret),
            (None, Some(aws), None, None) => self.aws(pattern, aws)?,
            (None, None, Some(gcp), None) => {
                let key = gcp.key_file.map(|path| self.service_key(&path)).transpose()?;
                Access::Gcp { key: key.map(Arc::new) }
            }
            (None, None, None, Some(_)) => Access::Azure,
            _ => {
                let problem = "write one of: secretRef, aws, gcp, azure";
                return Err(self.wrong("credentials", problem));
            }
        };
        let key = format!("credentials.{}", access.word());
        access.built_in().map_err(|error| self.wrong(&key, error.to_string()))?;
        let is_ours = pattern.port.is_none() && access.answers_for(&pattern.host);
        if !pattern.has_star() && !is_ours {
            let problem =
                format!("{} is not a registry of this cloud, or not in a listed region", pattern.typed);
            return Err(self.wrong(&key, problem));
        }
        Ok(EntryCredential::Cloud(access))
    }

    /// Reads the settings for Amazon. The regions must be known, because the name of an image must not make tagpin
    /// ask every region.
    fn aws(&self, pattern: &Pattern, typed: TypedAws) -> Result<Access, ConfigError> {
        let role = match typed.role_arn {
            Some(arn) if !(arn.value.starts_with("arn:") && arn.value.contains(":role/")) => {
                let problem = "write the ARN of a role: arn:aws:iam::123456789012:role/NAME";
                return Err(self.wrong_text(&arn, "credentials.aws.roleArn", problem));
            }
            role => role.map(|arn| arn.value),
        };
        let of_any_account = pattern.host.split_once('.').map(|(_, rest)| format!("{:012}.{rest}", 0));
        let region_is_named = of_any_account.and_then(|host| EcrHost::parse(&host)).is_some()
            || EcrHost::parse(&pattern.host).is_some();
        if typed.regions.is_empty() && !region_is_named {
            let problem =
                "the match names no region: write the regions that you use, as in regions: [eu-west-1]";
            return Err(self.wrong("credentials.aws", problem));
        }
        Ok(Access::Aws { role, regions: typed.regions.into() })
    }

    #[cfg(feature = "gcp")]
    fn service_key(&self, path: &Written) -> Result<ServiceKey, ConfigError> {
        let key = "credentials.gcp.keyFile";
        let read = ServiceKey::parse(&self.bytes(path, key)?);
        read.ok_or_else(|| self.wrong_text(path, key, "is not a key file of a Google service account"))
    }

    #[cfg(not(feature = "gcp"))]
    fn service_key(&self, path: &Written) -> Result<ServiceKey, ConfigError> {
        let error = crate::credentials::cloud::CloudError::NotBuiltIn("gcp");
        Err(self.wrong_text(path, "credentials.gcp", error.to_string()))
    }

    fn secret(&self, typed: TypedSecretRef) -> Result<SecretRef, ConfigError> {
        for (text, key) in [(&typed.namespace, "namespace"), (&typed.name, "name")] {
            if !is_object_name(&text.value) {
                let key = format!("credentials.secretRef.{key}");
                return Err(self.wrong_text(
                    text,
                    &key,
                    "is not a valid Kubernetes name: use a-z, 0-9, - and .",
                ));
            }
        }
        Ok(SecretRef { namespace: typed.namespace.value, name: typed.name.value })
    }

    fn mirrors(&self, typed: &[TypedMirror]) -> Result<Vec<Mirror>, ConfigError> {
        let mirror = |(index, typed): (usize, &TypedMirror)| {
            let key = format!("mirrors[{index}]");
            let endpoint =
                Url::parse(&typed.url.value).map_err(|_| EndpointError::Url).and_then(Endpoint::new);
            let mut endpoint = endpoint
                .map_err(|error| self.wrong_text(&typed.url, &format!("{key}.url"), error.to_string()))?;
            endpoint.rewrites = self.rewrites(&key, &typed.rewrite)?;
            if typed.not_found_is_proof {
                endpoint.not_found = NotFound::Proof;
            }
            if let Some(capabilities) = &typed.capabilities {
                endpoint.resolves = capabilities.contains(&TypedCapability::Resolve);
                if !capabilities.contains(&TypedCapability::Pull) {
                    let problem = "must include pull: a mirror that resolves tags also serves the image";
                    return Err(self.wrong_text(&typed.url, &format!("{key}.capabilities"), problem));
                }
                if typed.not_found_is_proof && !endpoint.resolves {
                    let problem = "has no effect: this mirror resolves no tags";
                    return Err(self.wrong_text(&typed.url, &format!("{key}.notFoundIsProof"), problem));
                }
            }
            Ok(Mirror { endpoint, shows_pull_secrets: typed.send_pull_secrets })
        };
        typed.iter().enumerate().map(mirror).collect()
    }

    fn rewrites(&self, key: &str, typed: &BTreeMap<String, Written>) -> Result<Vec<Rewrite>, ConfigError> {
        let rewrite = |(pattern, replacement): (&String, &Written)| match Regex::new(pattern) {
            Ok(pattern) => Ok(Rewrite { pattern, replacement: replacement.value.clone() }),
            Err(_) => {
                let problem = format!("{pattern:?} is not a regular expression");
                Err(self.wrong_text(replacement, &format!("{key}.rewrite"), problem))
            }
        };
        typed.iter().map(rewrite).collect()
    }

    /// Returns the warnings about settings that are allowed but may surprise their author.
    pub(super) fn warnings(&self, entry: &Entry) -> Vec<String> {
        let typed: &Arc<str> = &entry.pattern.typed;
        let mut warnings = Vec::new();
        if entry.tls.as_ref().is_some_and(|tls| tls.unverified) {
            warnings.push(format!(
                "{}: the certificate of {typed} is not verified: anybody on the network path can answer in its place",
                self.key
            ));
        }
        let ignored = entry.mirrors.iter().any(|mirror| mirror.endpoint.resolves);
        if entry.resolve_from == ResolveFrom::Upstream && ignored {
            warnings.push(format!(
                "{}: the mirrors of {typed} are not asked, because resolveFrom is upstream; write \
                 mirrors-then-upstream or mirrors-only to ask them",
                self.key
            ));
        }
        warnings
    }
}
