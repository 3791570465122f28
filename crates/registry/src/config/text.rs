//! What can be typed in the configuration. It says nothing of what is meant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::entry::Reader;
use super::{Registries, ttl};
use crate::config_file::{self, ConfigError, Files, Written};
use crate::mirrors::NodeMirrors;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Typed {
    #[serde(default)]
    registries: Vec<TypedEntry>,
    #[serde(default)]
    defaults: TypedDefaults,
    registries_file: Option<TypedFile>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedDefaults {
    #[serde(rename = "tagTTL")]
    tag_ttl: Option<Written>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TypedEntry {
    #[serde(rename = "match")]
    pub(super) pattern: Written,
    pub(super) allow_private: Option<bool>,
    pub(super) tls: Option<TypedTls>,
    pub(super) trusted_realms: Option<Vec<Written>>,
    pub(super) confirm_digest: Option<TypedConfirm>,
    pub(super) pull_through: Option<Vec<Written>>,
    #[serde(default)]
    pub(super) offline: bool,
    pub(super) credentials: Option<TypedCredentials>,
    pub(super) resolve_from: Option<TypedResolveFrom>,
    #[serde(default)]
    pub(super) mirrors: Vec<TypedMirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TypedTls {
    pub(super) ca_file: Option<Written>,
    #[serde(default)]
    pub(super) ca_only: bool,
    pub(super) client_cert: Option<TypedPair>,
    #[serde(default)]
    pub(super) insecure_skip_verify: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TypedPair {
    pub(super) cert_file: Written,
    pub(super) key_file: Written,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TypedCredentials {
    pub(super) secret_ref: Option<TypedSecretRef>,
    pub(super) aws: Option<TypedAws>,
    pub(super) gcp: Option<TypedGcp>,
    pub(super) azure: Option<TypedAzure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TypedAws {
    pub(super) role_arn: Option<Written>,
    #[serde(default)]
    pub(super) regions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TypedGcp {
    pub(super) key_file: Option<Written>,
}

/// Who tagpin is to Azure is said by its surroundings alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TypedAzure {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TypedSecretRef {
    pub(super) namespace: Written,
    pub(super) name: Written,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TypedMirror {
    pub(super) url: Written,
    pub(super) capabilities: Option<Vec<TypedCapability>>,
    #[serde(default)]
    pub(super) send_pull_secrets: bool,
    #[serde(default)]
    pub(super) rewrite: BTreeMap<String, Written>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TypedCapability {
    Pull,
    Resolve,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TypedConfirm {
    Always,
    Auto,
    Never,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TypedResolveFrom {
    Upstream,
    MirrorsThenUpstream,
    MirrorsOnly,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedFile {
    format: TypedFormat,
    path: Written,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedFormat {
    K3s,
    #[serde(rename = "certs.d")]
    CertsD,
}

/// Reads the configuration; what it names is found beside it when the path is relative.
pub(super) fn read(file: &Path, files: &Files) -> Result<Registries, ConfigError> {
    let typed: Typed = config_file::parse(file, &files.read_named(file)?)?;
    let mut registries = Registries::default();
    if let Some(written) = typed.defaults.tag_ttl {
        let wrong =
            |problem| config_file::mistake(file, Some(written.referenced), "defaults.tagTTL", problem);
        registries.tag_ttl = Some(ttl(&written.value).map_err(wrong)?);
    }
    if let Some(typed) = typed.registries_file {
        let path = beside(file, &typed.path.value);
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
        reader.check_mirrors(&registries)?;
    }
    Ok(registries)
}

pub(super) fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}
