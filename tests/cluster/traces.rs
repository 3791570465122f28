//! The trace of a real API server continues in the spans of the replicas that it calls.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::support::manifests::pod;
use crate::support::release::OtherValues;
use crate::support::rig::{self, Rig};
use crate::support::{LIMIT, Namespace, alone, kubectl, wait_for};

const NONE: &str = "samplingRatePerMillion: 0";
const ALL: &str = "samplingRatePerMillion: 1000000";

/// Makes the API server trace every request until this is dropped.
struct Traced<'a> {
    rig: &'a Rig,
    file: PathBuf,
}

impl<'a> Traced<'a> {
    fn new(rig: &'a Rig) -> Self {
        let traced = Self { rig, file: rig.folder().join("etc/tracing.yaml") };
        traced.rate(NONE, ALL);
        traced
    }

    fn rate(&self, from: &str, to: &str) {
        let config = fs::read_to_string(&self.file).unwrap();
        assert!(config.contains(from), "{config}");
        fs::write(&self.file, config.replace(from, to)).unwrap();
        drop(self.rig.without_api_server());
    }
}

impl Drop for Traced<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.rate(ALL, NONE);
        }
    }
}

/// A collector on the first node.
struct Collector {
    address: String,
    spans: Arc<Mutex<Vec<Span>>>,
    _serving: Runtime,
}

impl Collector {
    fn start() -> Self {
        let address = "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}";
        let node = kubectl(&["get", "nodes", "-l", "kubernetes.io/hostname=rig", "-o", address]).succeeded();
        let runtime = Runtime::new().unwrap();
        let spans = Arc::<Mutex<Vec<_>>>::default();
        let taken = Arc::clone(&spans);
        let take = move |body: Bytes| async move {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            taken.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        };
        let listener = runtime.block_on(TcpListener::bind((node.as_str(), 0))).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let pages = Router::new().route("/v1/traces", post(take));
        runtime.spawn(async move { axum::serve(listener, pages).await.unwrap() });
        Self { address, spans, _serving: runtime }
    }

    /// Returns the reviews of this namespace, each with its webhook and its span.
    fn reviews(&self, namespace: &str) -> Vec<(String, Span)> {
        let spans = self.spans.lock().unwrap();
        let of_it = spans.iter().filter(|span| word(span, "namespace").as_deref() == Some(namespace));
        of_it.map(|span| (word(span, "webhook").unwrap(), span.clone())).collect()
    }
}

fn word(span: &Span, key: &str) -> Option<String> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

#[test]
fn both_reviews_of_a_pod_are_in_the_trace_of_the_request_that_makes_it() {
    let Some(rig) = rig::here("restarts the API server, which traces its requests then") else { return };
    let _cluster = alone();
    let collector = Collector::start();
    let _traced = Traced::new(&rig);
    let _values = OtherValues::set(&format!("tracing.endpoint={}", collector.address));
    let namespace = Namespace::new("traces");
    namespace.apply(&pod("web", "web:1.4.2")).succeeded();
    let reviews = wait_for("the spans of both reviews", LIMIT, || {
        let reviews = collector.reviews(&namespace.name);
        let of = |webhook: &str| reviews.iter().find(|(of, _)| of == webhook).map(|(_, span)| span.clone());
        of("pin").zip(of("validate"))
    });
    let (pin, validate) = reviews;
    assert_eq!(pin.name, "review");
    assert_eq!(pin.trace_id, validate.trace_id, "one request of the API server, one trace");
    assert!(!pin.parent_span_id.is_empty() && !validate.parent_span_id.is_empty(), "below its webhook calls");
    assert_ne!(pin.parent_span_id, validate.parent_span_id, "one call each");
}
