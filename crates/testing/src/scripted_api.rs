//! An API server scripted call by call: a test sees each request and answers it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Time limit for a call that must come. Tests pause the clock, so the time passes at once.
const LIMIT: Duration = Duration::from_secs(3600);

/// The server's side: the calls in the order of their arrival.
pub struct Api(mpsc::UnboundedReceiver<Call>);

/// One request that waits for its answer. A call that is dropped unanswered fails like a broken connection.
pub struct Call {
    /// The HTTP method.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The parameters of the query, as they are encoded.
    pub query: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
    /// The type of the body; empty without one.
    pub content_type: String,
    answer: oneshot::Sender<Answer>,
    gone: CancellationToken,
}

/// An open watch, which ends when this is dropped.
pub struct Watch(mpsc::UnboundedSender<Value>);

impl Api {
    /// Returns a client and the server behind it.
    #[must_use]
    pub fn new() -> (Client, Self) {
        let (calls, receiver) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<Body>| {
            let calls = calls.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes().to_vec();
                let (answer, answered) = oneshot::channel();
                let query = parts.uri.query().unwrap_or_default();
                let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                let gone = CancellationToken::new();
                // The guard is dropped with the request's future, when the caller has given up.
                let _gone = gone.clone().drop_guard();
                let content_type = parts.headers.get("content-type");
                let call = Call {
                    method: parts.method.to_string(),
                    path: parts.uri.path().to_owned(),
                    query: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                    body,
                    content_type: content_type.map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default(),
                    answer,
                    gone,
                };
                calls.send(call).map_err(|_| "the test is over")?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(answered.await?)
            }
        });
        (Client::new(service, "default"), Self(receiver))
    }

    /// Returns the next call.
    pub async fn next(&mut self) -> Call {
        timeout(LIMIT, self.0.recv()).await.expect("a call should have come").expect("the client is gone")
    }

    /// Returns the next call, which must be this one: `GET /api/v1/pods`.
    pub async fn expect(&mut self, line: &str) -> Call {
        let call = self.next().await;
        assert_eq!(call.line(), line, "{}", String::from_utf8_lossy(&call.body));
        call
    }

    /// Asserts that no call comes within this time.
    pub async fn quiet(&mut self, time: Duration) {
        if let Ok(Some(call)) = timeout(time, self.0.recv()).await {
            panic!("unexpected: {} {}", call.line(), String::from_utf8_lossy(&call.body));
        }
    }
}

impl Call {
    /// Returns the method and the path: `GET /api/v1/pods`.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Returns the body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Answers with this status and body.
    pub fn answer(self, status: u16, body: Value) {
        let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
        let _ = self.answer.send(Response::builder().status(status).body(body).unwrap());
    }

    /// Answers with this status, body and warning of a webhook.
    pub fn warn(self, status: u16, body: Value, warning: &str) {
        let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
        let header = format!("299 - \"{warning}\"");
        let _ = self
            .answer
            .send(Response::builder().status(status).header("warning", header).body(body).unwrap());
    }

    /// Answers with status 200 and this body.
    pub fn ok(self, body: Value) {
        self.answer(200, body);
    }

    /// Answers with a Kubernetes status of this code and reason.
    pub fn refuse(self, code: u16, reason: &str) {
        let message = format!("scripted: {reason}");
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
            "message": message, "metadata": {},
        });
        self.answer(code, status);
    }

    /// Returns true if the request wants all objects: in pages, or as a stream of events.
    #[must_use]
    pub fn lists(&self) -> bool {
        !self.query.contains_key("watch") || self.streams()
    }

    /// Returns true if the request wants all objects as a stream of events.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.query.contains_key("sendInitialEvents")
    }

    /// Answers a list request at this version, with one page or with a stream that ends after the last object. After
    /// such a stream, the watch is another request.
    pub fn list(self, items: Value, resource_version: &str) {
        if self.streams() {
            let items: Vec<Value> = serde_json::from_value(items).unwrap();
            let stream = self.watch();
            items.into_iter().for_each(|item| stream.event("ADDED", item));
            stream.listed(resource_version);
            return;
        }
        let metadata = json!({ "resourceVersion": resource_version });
        self.ok(json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items }));
    }

    /// Answers a watch request with a stream that stays open.
    #[must_use]
    pub fn watch(self) -> Watch {
        let (events, receiver) = mpsc::unbounded_channel::<Value>();
        let lines = futures::stream::unfold(receiver, |mut receiver| async {
            let event = receiver.recv().await?;
            // The type comes first, as in the events of every API server.
            let (kind, object) = (&event["type"], &event["object"]);
            let line = format!("{{\"type\":{kind},\"object\":{object}}}\n");
            Some((Ok(Frame::data(Bytes::from(line))), receiver))
        });
        let body = UnsyncBoxBody::new(StreamBody::new(lines.boxed()));
        let _ = self.answer.send(Response::new(body));
        Watch(events)
    }

    /// Waits until the caller has given up.
    pub async fn given_up(&self) {
        timeout(LIMIT, self.gone.cancelled()).await.expect("the caller should have given up");
    }
}

impl Watch {
    /// Sends one event: `ADDED`, `MODIFIED`, `DELETED`.
    pub fn event(&self, kind: &str, object: Value) {
        self.0.send(json!({ "type": kind, "object": object })).unwrap();
    }

    /// Sends the event that ends the initial list of a stream, which is complete at this version.
    pub fn listed(&self, resource_version: &str) {
        let annotations = json!({ "k8s.io/initial-events-end": "true" });
        let metadata = json!({ "resourceVersion": resource_version, "annotations": annotations });
        self.event("BOOKMARK", json!({ "kind": "Pod", "apiVersion": "v1", "metadata": metadata }));
    }

    /// Ends the watch as an API server does that has forgotten the version.
    pub fn expired(self) {
        self.event("ERROR", json!({ "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old" }));
    }
}
