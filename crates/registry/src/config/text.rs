//! The configuration as typed. It does not check what the values mean.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::file::Written;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Typed {
    #[serde(default)]
    pub(super) registries: Vec<TypedEntry>,
    #[serde(default)]
    pub(super) defaults: TypedDefaults,
    pub(super) registries_file: Option<TypedFile>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TypedDefaults {
    #[serde(rename = "tagTTL")]
    pub(super) tag_ttl: Option<Written>,
    pub(super) private_networks: Option<Vec<Written>>,
    pub(super) proxy: Option<Written>,
    pub(super) no_proxy: Option<Vec<Written>>,
    pub(super) proxy_credentials_file: Option<Written>,
    pub(super) tls: Option<TypedDefaultTls>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TypedDefaultTls {
    pub(super) ca_file: Written,
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
    pub(super) not_found_is_proof: Option<bool>,
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

/// Azure has no settings, because the surroundings of the process determine its identity.
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
    #[serde(default)]
    pub(super) not_found_is_proof: bool,
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
pub(super) struct TypedFile {
    pub(super) format: TypedFormat,
    pub(super) path: Written,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TypedFormat {
    K3s,
    #[serde(rename = "certs.d")]
    CertsD,
}
