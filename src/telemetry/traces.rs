//! Traces: spans of reviews and of requests to registries, sent by OTLP over HTTP (protobuf) to one collector.
//!
//! Without an endpoint there is no [`Traces`], and a span costs one comparison. A span has the names of images,
//! namespaces and objects of users. It has no content of objects or secrets.

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

/// Time limit for sending one batch of spans.
const BATCH: Duration = Duration::from_secs(10);
/// Time limit for sending the remaining spans when the process ends.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Collects spans and sends them, until [`Traces::finish`].
#[derive(Debug, Clone)]
pub struct Traces {
    provider: SdkTracerProvider,
}

/// The replica that sends the spans.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The namespace of the replica.
    pub namespace: &'a str,
    /// The name of the replica's pod.
    pub pod: &'a str,
}

/// The reason why no traces can be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// TLS cannot be set up.
    #[error("prepare the connection to the collector of traces")]
    Client(#[source] reqwest::Error),
    /// The exporter cannot be built.
    #[error("prepare the traces for {endpoint}")]
    Exporter {
        /// The URL of the collector.
        endpoint: Url,
        /// The cause.
        source: ExporterBuildError,
    },
}

impl Traces {
    /// Starts to send spans to `ENDPOINT/v1/traces`, on this runtime. The sampled flag of a review's `traceparent`
    /// decides whether the review is traced. A review without a `traceparent` is traced.
    ///
    /// # Errors
    /// Fails if TLS cannot be set up or the exporter cannot be built.
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

    /// Returns a layer that records the spans of tagpin, and no others.
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

    /// Sends the remaining spans.
    pub async fn finish(self) {
        // The call blocks until the sending thread ends.
        let ended = spawn_blocking(move || self.provider.shutdown_with_timeout(LAST_SPANS)).await;
        if !matches!(ended, Ok(Ok(()))) {
            warn!("the last spans were not sent");
        }
    }
}
