//! The settings of `tagpin serve`, valid and complete. `cli` reads the command line and the environment; nothing here
//! opens a file.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use url::Url;

use tagpin_domain::policy::Mode;
use tagpin_objects::image_policy::ClusterException;

/// Namespaces whose requests never reach the webhooks, whatever is configured, because a cluster and tagpin itself must
/// be able to start.
pub(crate) const NEVER_INTERCEPTED: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// All settings of `tagpin serve`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The namespace of tagpin, with its Lease, its Secret and its Service.
    pub namespace: String,
    /// The name of this replica, which is part of its identity as holder of the Lease.
    pub pod: String,
    /// Addresses of the cluster's pods and Services, which no range of the operator's own may hold.
    pub cluster_addresses: Vec<IpAddr>,
    /// The limit of the process's memory in bytes, of which stored objects take a part.
    pub memory_limit: u64,
    /// The port that the API server reaches.
    pub webhook_port: u16,
    /// The file with the authority of the API server's client certificate; without it a token is enough.
    pub client_ca: Option<PathBuf>,
    /// The port that serves health, metrics and the policies in force.
    pub admin_port: u16,
    /// Namespaces whose requests never reach the webhooks, [`NEVER_INTERCEPTED`] and tagpin's own included.
    pub excluded_namespaces: BTreeSet<String>,
    /// User names of the built-in controllers, whose objects are children.
    pub controller_identities: BTreeSet<String>,
    /// The namespaces whose pull secrets may be read.
    pub pull_secrets: PullSecrets,
    /// The file of the `registries:` configuration; without it nothing is configured.
    pub registries: Option<PathBuf>,
    /// The policy that the leader keeps in place.
    pub baseline: Baseline,
    /// Time for which requests are still answered after a SIGTERM.
    pub drain: Duration,
    /// Lifetime of the webhook's certificate.
    pub certificate_lifetime: Duration,
    /// Lifetime of the authority that signs the certificate.
    pub authority_lifetime: Duration,
    /// The collector that traces are sent to; without it no traces are sent.
    pub traces: Option<Url>,
}

/// The namespaces whose pull secrets the replica has the right to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullSecrets {
    /// No namespaces: registries are asked anonymously or with the credentials of the configuration.
    Off,
    /// These namespaces.
    Namespaces(BTreeSet<String>),
    /// Every namespace.
    Cluster,
}

/// The values that shape the chart's own policy, `clusterimagepolicy/baseline`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Baseline {
    /// True if the leader keeps the policy in place. Otherwise the leader deletes the policy that it made.
    pub enabled: bool,
    /// The mode of the policy: the effect of a violated rule.
    pub mode: Mode,
    /// True if the policy pins pods.
    pub pin: bool,
    /// Selects the namespaces that the policy applies to. An empty selector selects all namespaces.
    #[serde(default)]
    pub namespace_selector: LabelSelector,
    /// The exceptions of the policy.
    #[serde(default)]
    pub exceptions: Vec<ClusterException>,
}

/// A setting that is not valid.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The baseline's text cannot be read.
    // The parser's error repeats itself as its own source, so it is shown here and is no source.
    #[error("read the baseline's settings: {0}")]
    Baseline(serde_saphyr::Error),
    /// Namespaces were given for a mode that takes none, or none were given for the mode that needs some.
    #[error("pull secrets are {mode}, but {problem}")]
    PullSecrets {
        /// The mode, as typed.
        mode: &'static str,
        /// The problem.
        problem: &'static str,
    },
    /// The address is not that of a collector.
    #[error("--otlp-endpoint is the collector's URL without a path of its own signals: http://10.0.0.7:4318")]
    OtlpEndpoint,
    /// The lifetimes leave no time for renewal.
    #[error(
        "the certificate lives {certificate:?} and its authority {authority:?}: let the one live {} s at least, and the \
         other four times as long",
        SHORTEST.as_secs()
    )]
    Lifetimes {
        /// The lifetime of the certificate.
        certificate: Duration,
        /// The lifetime of its authority.
        authority: Duration,
    },
}

/// Shortest lifetime of a certificate. Certificates count in whole seconds, so a shorter one could not be renewed in
/// time.
const SHORTEST: Duration = Duration::from_secs(6);

/// Checks the lifetimes of a certificate and its authority.
///
/// # Errors
/// Fails if the certificate lives for less than 6 s, or its authority for less than four times as long.
pub fn lifetimes(certificate: Duration, authority: Duration) -> Result<(), SettingsError> {
    let fit = certificate >= SHORTEST && authority / 4 >= certificate;
    if fit { Ok(()) } else { Err(SettingsError::Lifetimes { certificate, authority }) }
}

impl Baseline {
    /// Reads the settings as the chart writes them.
    ///
    /// # Errors
    /// Fails if the text is not YAML, or if a key is missing, unknown or of the wrong kind.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        serde_saphyr::from_str(text).map_err(SettingsError::Baseline)
    }
}
