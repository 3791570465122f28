//! What the operator is told, once it is meant and no longer typed: valid, complete, never read again.
//! It does not read the environment or the command line (`cli` does) and opens no file.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use url::Url;

/// Namespaces whose requests never reach the webhooks, whatever is configured: a cluster must be able to start,
/// and tagpin itself too.
pub const NEVER_INTERCEPTED: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Everything that `tagpin serve` is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where tagpin runs: its Lease, its Secret and its Service are here.
    pub namespace: String,
    /// This replica's name, as holder of the Lease.
    pub pod: String,
    /// The port that the API server reaches.
    pub webhook_port: u16,
    /// The port of health, metrics and policies in force.
    pub admin_port: u16,
    /// Namespaces that are not intercepted, [`NEVER_INTERCEPTED`] and our own included.
    pub excluded_namespaces: BTreeSet<String>,
    /// User names of the built-in controllers, whose objects are children.
    pub controller_identities: BTreeSet<String>,
    /// Whose pull secrets may be read.
    pub pull_secrets: PullSecrets,
    /// The file of the `registries:` configuration; none configures nothing.
    pub registries: Option<PathBuf>,
    /// The policy that the leader keeps in place.
    pub baseline: Baseline,
    /// How long requests are still answered after a SIGTERM.
    pub drain: Duration,
    /// How long the webhook's certificate is valid.
    pub certificate_lifetime: Duration,
    /// How long the authority that signs it is valid.
    pub authority_lifetime: Duration,
    /// The collector that traces are sent to; none sends none.
    pub traces: Option<Url>,
}

/// Whose pull secrets the replica has the right to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullSecrets {
    /// Nobody's: registries are asked anonymously or with the configuration's credentials.
    Off,
    /// Those of these namespaces.
    Namespaces(BTreeSet<String>),
    /// Those of every namespace.
    Cluster,
}

/// The chart's own policy `clusterimagepolicy/baseline`, as far as values shape it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Baseline {
    /// Whether it is kept; otherwise ours is deleted.
    pub enabled: bool,
    /// What its violated rules do.
    pub mode: BaselineMode,
    /// Whether it pins pods.
    pub pin: bool,
    /// Which namespaces it is about; empty is all.
    #[serde(default)]
    pub namespace_selector: LabelSelector,
}

/// The mode of the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum BaselineMode {
    /// Refuse.
    Enforce,
    /// Warn.
    Warn,
    /// Count and report.
    Audit,
}

/// Why what was typed can not be meant.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The baseline's text is none.
    #[error("read the baseline's settings: {0}")]
    Baseline(String),
    /// Namespaces were named for a mode that takes none, or none for the mode that needs some.
    #[error("pull secrets are {mode}, but {problem}")]
    PullSecrets {
        /// The mode, as typed.
        mode: &'static str,
        /// What does not fit.
        problem: &'static str,
    },
    /// Not where a collector can be.
    #[error("--otlp-endpoint is the collector's URL without a path of its own signals: http://10.0.0.7:4318")]
    OtlpEndpoint,
    /// The lifetimes leave no time for renewal.
    #[error(
        "the certificate lives {certificate:?} and its authority {authority:?}: let the one live {} s at least, and the \
         other four times as long",
        SHORTEST.as_secs()
    )]
    Lifetimes {
        /// Of the certificate.
        certificate: Duration,
        /// Of its authority.
        authority: Duration,
    },
}

/// Certificates count in whole seconds: one that lives for less than this could not be renewed in time.
const SHORTEST: Duration = Duration::from_secs(6);

/// Whether a certificate and its authority can live so long.
///
/// # Errors
/// When the certificate lives for less than 6 s, or its authority for less than four times as long.
pub fn lifetimes(certificate: Duration, authority: Duration) -> Result<(), SettingsError> {
    let fit = certificate >= SHORTEST && authority / 4 >= certificate;
    if fit { Ok(()) } else { Err(SettingsError::Lifetimes { certificate, authority }) }
}

impl Baseline {
    /// Reads the settings as the chart writes them.
    ///
    /// # Errors
    /// The text is not YAML, or a key is missing, unknown or of the wrong kind.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        serde_saphyr::from_str(text).map_err(|cause| SettingsError::Baseline(cause.to_string()))
    }
}
