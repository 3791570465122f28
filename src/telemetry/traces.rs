//! Traces: spans of reviews and of what they ask registries, sent by OTLP over HTTP (protobuf) to one collector.
//!
//! Without an endpoint there is no [`Traces`], nothing listens to spans and a span costs one comparison. What is sent
//! names images, namespaces and users' objects by name; it holds no object and no secret.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tracing::{Level, Metadata, warn};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::{Layer, Registry};
use url::Url;

use crate::telemetry::traces::sender::Sender;

mod sender;

/// For one batch of spans, whatever the collector does.
const BATCH: Duration = Duration::from_secs(10);
/// For the spans that are left when the process ends.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Collects spans and sends them, until [`Traces::finish`].
#[derive(Debug, Clone)]
pub struct Traces {
    provider: SdkTracerProvider,
}

/// Which replica the spans are from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its pod.
    pub pod: &'a str,
}

/// Why no traces can be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// There is no TLS.
    #[error("prepare the connection to the collector of traces")]
    Client(#[source] reqwest::Error),
    /// The exporter can not be made.
    #[error("prepare the traces for {endpoint}")]
    Exporter {
        /// The collector.
        endpoint: Url,
        /// Why.
        source: ExporterBuildError,
    },
}

impl Traces {
    /// Sends to `ENDPOINT/v1/traces`, on this runtime. Whether a review is traced is its caller's decision (the sampled
    /// flag of its `traceparent`); one that comes without is.
    ///
    /// # Errors
    /// There is no TLS, or the exporter can not be made.
    pub fn start(endpoint: &Url, origin: Origin<'_>, runtime: Handle) -> Result<Self, TracesError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Sender::new(runtime, BATCH).map_err(TracesError::Client)?)
            .with_endpoint(format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/')))
            .with_timeout(BATCH)
            .build()
            .map_err(|source| TracesError::Exporter { endpoint: endpoint.clone(), source })?;
        let resource = Resource::builder_empty()
            .with_service_name("tagpin")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", origin.pod.to_owned()),
                KeyValue::new("k8s.namespace.name", origin.namespace.to_owned()),
                KeyValue::new("k8s.pod.name", origin.pod.to_owned()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_resource(resource)
            .build();
        Ok(Self { provider })
    }

    /// What listens to our own spans, and to nobody else's.
    pub fn layer(&self) -> impl Layer<Registry> + Send + Sync + use<> {
        let ours = |metadata: &Metadata<'_>| {
            metadata.is_span() && metadata.level() <= &Level::DEBUG && metadata.target().starts_with("tagpin")
        };
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("tagpin"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(ours).with_max_level_hint(LevelFilter::DEBUG))
    }

    /// Sends what is left.
    pub async fn finish(self) {
        // It waits for the thread that sends.
        let ended = spawn_blocking(move || self.provider.shutdown_with_timeout(LAST_SPANS)).await;
        if !matches!(ended, Ok(Ok(()))) {
            warn!("the last spans were not sent");
        }
    }
}
