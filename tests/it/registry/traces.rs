//! Traces as a collector gets them: the span of a review in the trace of its caller, and below it the requests to a
//! registry.

use std::sync::{Arc, LazyLock, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use serde_json::{Value, json};
use tagpin::telemetry::traces::{Origin, Traces};
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::LastKnown;
use tagpin_domain::image::ImageRef;
use tagpin_kube::Cluster;
use tagpin_objects::kinds::Kinds;
use tagpin_registry::{Around, Suggestions, UserConfig};
use tagpin_review::Seeds;
use tagpin_testing::NoObjects;
use tagpin_webhook::Registries;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::layer::SubscriberExt as _;
use url::Url;

use super::scripted::{Scripted, Step};
use super::support::{PATIENCE, TestNames, TestProfiles, client, endpoint, profile, provider};
use crate::support::webhook::{Table, Webhook, create, pod};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

/// A collector in this process.
struct Collector {
    url: Url,
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    serving: JoinHandle<()>,
}

impl Collector {
    async fn start() -> Self {
        let requests = Arc::<Mutex<Vec<_>>>::default();
        let taken = Arc::clone(&requests);
        let take = move |body: Bytes| async move {
            taken.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let pages = Router::new().route("/v1/traces", post(take));
        let serving = tokio::spawn(async move { axum::serve(listener, pages).await.unwrap() });
        Self { url, requests, serving }
    }

    /// Runs this work and returns all spans that the collector got from it.
    async fn spans_of(&self, work: impl Future<Output = ()>) -> Vec<Span> {
        provider();
        // With only one subscriber, a thread without it may cache for all threads that nobody is interested in a span.
        LazyLock::force(&ANOTHER);
        let origin = Origin { namespace: "tagpin-system", pod: "tagpin-0" };
        let traces = Traces::start(&self.url, origin, Handle::current()).unwrap();
        let listening = tracing::subscriber::set_default(tracing_subscriber::registry().with(traces.layer()));
        work.await;
        drop(listening);
        traces.finish().await;
        let mut spans = Vec::new();
        for resource in self.requests.lock().unwrap().drain(..).flat_map(|request| request.resource_spans) {
            let replica = words(&resource.resource.unwrap().attributes);
            assert_eq!(
                (&replica["service.name"], &replica["k8s.pod.name"]),
                (&json!("tagpin"), &json!("tagpin-0"))
            );
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn words(attributes: &[KeyValue]) -> Value {
    let value = |attribute: &KeyValue| match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
        any_value::Value::StringValue(text) => json!(text),
        any_value::Value::IntValue(number) => json!(number),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), value(attribute))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn asked(path: &str, traceparent: Option<&str>, image: &str) -> Request<axum::body::Body> {
    let request = Request::post(path);
    let request = match traceparent {
        Some(traceparent) => request.header("traceparent", traceparent),
        None => request,
    };
    request.body(create(pod(image)).to_string().into()).unwrap()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:?}"))
}

/// A source of last known digests that has none.
struct NoPins;

impl Seeds for NoPins {
    fn last_known(&self, _: &ImageRef, _: &Asker, _: Timestamp) -> Option<LastKnown> {
        None
    }
}

#[tokio::test]
async fn a_look_up_is_in_the_trace_of_the_review_and_that_in_its_callers() {
    let collector = Collector::start().await;
    let scripted = Scripted::start(&[]).await;
    let digest = format!("sha256:{}", "a".repeat(64));
    scripted.expect(&[step(&json!({
        "ask": "HEAD /v2/team/app/manifests/1",
        "headers": [
            "content-type: application/vnd.oci.image.index.v1+json",
            format!("docker-content-digest: {digest}"),
        ],
    }))]);
    let domain = scripted.authority("registry");
    let profiles = TestProfiles::one(profile(endpoint(&format!("http://{domain}"))), &domain);
    let client = client(profiles.clone(), TestNames::default(), Arc::new(()));
    let credentials = Arc::new(UserConfig::default());
    let suggest = Arc::new(Suggestions::new(client.clone(), credentials.clone(), Arc::default(), PATIENCE));
    let around = Around {
        credentials,
        profiles,
        seeds: Arc::new(NoPins),
        now: Timestamp::now,
        observer: Arc::new(()),
    };
    let policies = [("pin", json!({ "pin": { "targets": ["Pods"] } }))];
    let resolve = Arc::new(tagpin_registry::assemble(client, Arc::default(), around));
    let registries = Registries { resolve, suggest };
    let webhook =
        Webhook::over(Cluster::new(Kinds::default(), NoObjects), &policies, registries, 256, Timestamp::now);

    let spans = collector
        .spans_of(async {
            let image = format!("{domain}/team/app:1");
            let traceparent = format!("00-{TRACE}-{PARENT}-01");
            let answered = webhook.send(asked("/mutate?timeout=5s", Some(&traceparent), &image)).await;
            assert!(answered.patch()[0]["value"].to_string().contains(&digest), "{}", answered.patch());
        })
        .await;
    assert_eq!(scripted.complaints(), [""; 0]);

    let (review, look_up, request) =
        (named(&spans, "review"), named(&spans, "look-up"), named(&spans, "registry request"));
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:?}");
    assert_eq!(hex(&review.parent_span_id), PARENT);
    assert_eq!(look_up.parent_span_id, review.span_id);
    assert_eq!(request.parent_span_id, look_up.span_id);
    assert_eq!((review.kind(), request.kind()), (SpanKind::Server, SpanKind::Client));
    let said = words(&review.attributes);
    for (key, value) in [
        ("webhook", "pin"),
        ("uid", "705ab4f5-6393-11e8-b7cc-42010a800002"),
        ("namespace", "shop"),
        ("kind", "Pod"),
        ("operation", "CREATE"),
        ("decision", "pin"),
    ] {
        assert_eq!(said[key], value, "{said}");
    }
    assert_eq!(words(&look_up.attributes)["registry"], json!(domain));
    let said = words(&request.attributes);
    assert_eq!(said["http.response.status_code"], json!(200), "{said}");
    assert_eq!(said["url.path"], "/v2/team/app/manifests/1", "{said}");
}

fn step(step: &Value) -> Step {
    serde_json::from_value(step.clone()).unwrap()
}

#[tokio::test]
async fn whether_a_review_is_traced_is_its_callers_decision() {
    let collector = Collector::start().await;
    let webhook = Webhook::new(&[("any", json!({}))], Table::default());
    let spans = collector
        .spans_of(async {
            for traceparent in [Some(format!("00-{TRACE}-{PARENT}-00")), None, Some("garbage".to_owned())] {
                let request = asked("/validate?timeout=10s", traceparent.as_deref(), "web:1");
                assert_eq!(webhook.send(request).await.status, StatusCode::OK);
            }
        })
        .await;
    // The review whose `traceparent` is not sampled has no span; the reviews without a valid `traceparent` start their
    // own traces.
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert!(spans.iter().all(|span| span.name == "review" && span.parent_span_id.is_empty()), "{spans:?}");
    assert_ne!(spans[0].trace_id, spans[1].trace_id);
}
