//! `tagpin serve`: the arguments as typed, and the start of the process. [`Args::settings`] converts the arguments.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, io, thread};

use anyhow::Context;
use clap::ValueEnum;
use tokio::runtime::{self, Runtime};
use tracing::warn;
use url::Url;

use crate::cli::exit::{Done, Exit, Failure};
use crate::serve;
use crate::settings::{self, Baseline, NEVER_INTERCEPTED, PullSecrets, Settings, SettingsError};
use crate::telemetry::logging::{self, Format};
use crate::telemetry::traces::{Origin, Traces, TracesError};
use tagpin_kube::budget::DEFAULT_MEMORY;
use tagpin_objects::duration;

/// Run the operator: answer the API server, watch the policies, write as the leader
///
/// It runs in a pod of the Helm chart, which sets all of this from its values.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The namespace of its Lease, Secret and Service
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    namespace: String,

    /// The name of this replica, as holder of the Lease
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pod: String,

    /// The addresses of this pod, which no range of privateNetworks may hold
    #[arg(long, env = "POD_IPS", value_delimiter = ',', value_name = "ADDRESS,...")]
    pod_addresses: Vec<IpAddr>,

    /// The address of the API server's Service, which no range of privateNetworks may hold
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", value_name = "ADDRESS")]
    service_address: Option<String>,

    /// The limit of its memory in bytes; stored objects take at most three eighths of it
    #[arg(long, env = "TAGPIN_MEMORY_LIMIT", value_name = "BYTES", default_value_t = DEFAULT_MEMORY)]
    memory_limit: u64,

    /// The port on which it answers the API server, over TLS
    #[arg(long, default_value_t = 10250, value_name = "PORT")]
    webhook_port: u16,

    /// File with the CA certificates of the API server's client certificate; without it a token in the path is enough
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,

    /// The port of /healthz, /readyz, /metrics and /policies
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    admin_port: u16,

    /// Namespaces that are never intercepted, besides kube-system, kube-public, kube-node-lease and its own
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    excluded_namespaces: Vec<String>,

    /// User names of controllers whose objects are not refused, besides those of Kubernetes itself
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    controller_identities: Vec<String>,

    /// The namespaces whose pull secrets it may read
    #[arg(long, value_enum, default_value_t = PullSecretsMode::Off, value_name = "MODE")]
    pull_secrets: PullSecretsMode,

    /// The namespaces that `--pull-secrets namespaces` allows
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pull_secret_namespaces: Vec<String>,

    /// File with the `registries:` configuration
    #[arg(long, value_name = "FILE")]
    registries: Option<PathBuf>,

    /// File with the baseline's `enabled`, `mode`, `pin` and `namespaceSelector`
    #[arg(long, value_name = "FILE")]
    baseline: PathBuf,

    /// Seconds after a SIGTERM in which it still answers requests
    #[arg(long, default_value_t = 15, value_name = "SECONDS")]
    drain_seconds: u16,

    /// Lifetime of the webhook's certificate; it is renewed when a third of that is left
    #[arg(long, default_value = "2160h", value_parser = duration::parse, value_name = "DURATION")]
    certificate_lifetime: Duration,

    /// Lifetime of the authority that signs the certificate: at least four times the certificate's
    #[arg(long, default_value = "87600h", value_parser = duration::parse, value_name = "DURATION")]
    authority_lifetime: Duration,

    /// Send traces to this address by OTLP over HTTP, as http://10.0.0.7:4318; without it there are none
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,

    /// The lines to log: error, warn, info, debug, or by crate, as `info,tagpin_registry=debug`
    #[arg(long, env = "TAGPIN_LOG", default_value = "info", value_name = "FILTER")]
    log: String,

    /// The format of log lines
    #[arg(long, value_enum, default_value_t = LogFormat::Auto, value_name = "FORMAT")]
    log_format: LogFormat,
}

/// The user names with which the controllers of Kubernetes create objects. They have either a service account each
/// (`--use-service-account-credentials`, as in k3s and kubeadm), or all the user name of the controller manager.
const CONTROLLERS: [&str; 8] = [
    "system:serviceaccount:kube-system:deployment-controller",
    "system:serviceaccount:kube-system:replicaset-controller",
    "system:serviceaccount:kube-system:statefulset-controller",
    "system:serviceaccount:kube-system:daemon-set-controller",
    "system:serviceaccount:kube-system:job-controller",
    "system:serviceaccount:kube-system:cronjob-controller",
    "system:serviceaccount:kube-system:replication-controller",
    "system:kube-controller-manager",
];

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PullSecretsMode {
    /// None
    Off,
    /// The namespaces of `--pull-secret-namespaces`
    Namespaces,
    /// Every namespace
    Cluster,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Text on a terminal, else JSON
    Auto,
    /// A line of text
    Text,
    /// A JSON object
    Json,
}

impl Args {
    /// Returns the format of log lines.
    const fn log_format(&self) -> Format {
        match self.log_format {
            LogFormat::Auto => Format::Auto,
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        }
    }

    /// Converts the arguments to settings. The whole struct is destructured, so that an unused argument does not
    /// compile.
    fn settings(self) -> anyhow::Result<Settings> {
        let Self {
            namespace,
            pod,
            pod_addresses,
            service_address,
            memory_limit,
            webhook_port,
            client_ca,
            admin_port,
            excluded_namespaces,
            controller_identities,
            pull_secrets,
            pull_secret_namespaces,
            registries,
            baseline,
            drain_seconds,
            certificate_lifetime,
            authority_lifetime,
            otlp_endpoint,
            log: _,
            log_format: _,
        } = self;
        let baseline =
            fs::read_to_string(&baseline).with_context(|| format!("read {}", baseline.display()))?;
        let mut excluded: BTreeSet<String> = excluded_namespaces.into_iter().collect();
        excluded.extend(NEVER_INTERCEPTED.map(str::to_owned));
        excluded.insert(namespace.clone());
        settings::lifetimes(certificate_lifetime, authority_lifetime)?;
        // Some clusters have the name of the API server there.
        let service = service_address.and_then(|address| address.parse().ok());
        Ok(Settings {
            namespace,
            pod,
            cluster_addresses: pod_addresses.into_iter().chain(service).collect(),
            memory_limit,
            webhook_port,
            client_ca,
            admin_port,
            excluded_namespaces: excluded,
            controller_identities: CONTROLLERS
                .map(str::to_owned)
                .into_iter()
                .chain(controller_identities)
                .collect(),
            pull_secrets: readable_pull_secrets(pull_secrets, pull_secret_namespaces)?,
            registries,
            baseline: Baseline::parse(&baseline)?,
            drain: Duration::from_secs(drain_seconds.into()),
            certificate_lifetime,
            authority_lifetime,
            traces: otlp_endpoint.map(|text| collector(&text)).transpose()?,
        })
    }
}

fn collector(typed: &str) -> Result<Url, SettingsError> {
    let url = Url::parse(typed).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.filter(|url| url.query().is_none() && !url.path().ends_with("/v1/traces"))
        .ok_or(SettingsError::OtlpEndpoint)
}

fn readable_pull_secrets(
    mode: PullSecretsMode,
    namespaces: Vec<String>,
) -> Result<PullSecrets, SettingsError> {
    let unfit = |mode, problem| Err(SettingsError::PullSecrets { mode, problem });
    match (mode, namespaces.is_empty()) {
        (PullSecretsMode::Off, true) => Ok(PullSecrets::Off),
        (PullSecretsMode::Cluster, true) => Ok(PullSecrets::Cluster),
        (PullSecretsMode::Namespaces, false) => Ok(PullSecrets::Namespaces(namespaces.into_iter().collect())),
        (PullSecretsMode::Off, false) => unfit("off", "--pull-secret-namespaces names some"),
        (PullSecretsMode::Cluster, false) => unfit("cluster", "--pull-secret-namespaces names some"),
        (PullSecretsMode::Namespaces, true) => unfit("namespaces", "--pull-secret-namespaces names none"),
    }
}

/// Runs until a signal ends the process (exit code 0) or a vital part fails (exit code 3).
pub(crate) fn run(args: Args) -> Done {
    let (filter, format) = (args.log.clone(), args.log_format());
    let settings = args.settings().map_err(Failure::wrong_use)?;
    let runtime = workers().map_err(Failure::could_not_find_out)?;
    let traces = traces(&settings, &runtime).map_err(Failure::could_not_find_out)?;
    logging::start(&filter, format, traces.as_ref()).map_err(Failure::wrong_use)?;
    if ["HTTPS_PROXY", "https_proxy"].iter().any(|name| env::var_os(name).is_some()) {
        warn!(
            "HTTPS_PROXY is not used: the value registryDefaults.proxy of the chart names the proxy to registries"
        );
    }
    let registries = serve::configuration(&settings).map_err(Failure::wrong_use)?;
    let client_ca = serve::client_ca(&settings).map_err(Failure::wrong_use)?;
    let served = runtime.block_on(async {
        let served = serve::run(settings, registries, client_ca).await;
        if let Some(traces) = traces {
            traces.finish().await;
        }
        served
    });
    served.map_err(Failure::could_not_find_out)?;
    Ok(Exit::Fine)
}

/// Starts collecting spans if the settings name a collector.
fn traces(settings: &Settings, runtime: &Runtime) -> Result<Option<Traces>, TracesError> {
    let origin = Origin { namespace: &settings.namespace, pod: &settings.pod };
    let start = |endpoint| Traces::start(endpoint, origin, runtime.handle().clone());
    settings.traces.as_ref().map(start).transpose()
}

/// Creates the runtime, with at most four threads: the work is a few requests a second at most. Without this bound a
/// node of 64 cores would give the process 64 threads.
fn workers() -> io::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    runtime::Builder::new_multi_thread().worker_threads(cores.clamp(1, 4)).enable_all().build()
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    #[test]
    fn controller_identities_add_to_those_of_kubernetes() {
        let baseline = tempfile::NamedTempFile::new().unwrap();
        fs::write(baseline.path(), "{ enabled: true, mode: Warn, pin: true }").unwrap();
        let file = baseline.path().to_str().unwrap();
        let identities = |more: &[&str]| {
            let given = ["serve", "--namespace=x", "--pod=x", "--baseline", file];
            let matches =
                Args::augment_args(clap::Command::new("serve")).get_matches_from(given.iter().chain(more));
            Args::from_arg_matches(&matches).unwrap().settings().unwrap().controller_identities
        };
        let (without, with) = (identities(&[]), identities(&["--controller-identities=a,b"]));
        assert!(without.contains("system:serviceaccount:kube-system:job-controller"));
        assert_eq!(with.difference(&without).collect::<Vec<_>>(), ["a", "b"]);
        assert!(with.is_superset(&without) && without.len() == CONTROLLERS.len());
    }
}
