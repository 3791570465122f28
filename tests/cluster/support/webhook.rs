//! Reviews that are sent to a replica directly, in the same form as the API server sends them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::replicas::Replica;
use super::{kubectl, wait_for};

const HOST: &str = "tagpin.tagpin-system.svc";

/// The reason why a request got no answer.
pub(crate) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Everything that the webhook configuration tells the API server about tagpin.
#[derive(Clone)]
pub(crate) struct Published {
    /// The authorities to trust, in PEM.
    pub(crate) authorities: Vec<u8>,
    /// The end of each path: a slash and the token, or nothing.
    token: String,
}

impl Published {
    /// Reads the live configuration.
    pub(crate) fn now() -> Self {
        let client = "jsonpath={.webhooks[0].clientConfig.caBundle} {.webhooks[0].clientConfig.service.path}";
        let read = kubectl(&["get", "validatingwebhookconfiguration", "tagpin", "-o", client]).succeeded();
        let (bundle, path) = read.split_once(' ').unwrap();
        let token = path.strip_prefix("/validate").unwrap().to_owned();
        Self { authorities: BASE64_STANDARD.decode(bundle).unwrap(), token }
    }

    /// Waits until both configurations name a token, which takes the time in which replicas of another version may
    /// still end. Returns what is published then.
    pub(crate) fn with_token() -> Self {
        wait_for("the token in the paths", TOKEN, || {
            let path = "jsonpath={.webhooks[0].clientConfig.service.path}";
            let pins = kubectl(&["get", "mutatingwebhookconfiguration", "zz-tagpin", "-o", path]).succeeded();
            let published = Self::now();
            (!published.token.is_empty() && pins.ends_with(&published.token)).then_some(published)
        })
    }

    /// Returns the same without the token.
    pub(crate) fn without_token(&self) -> Self {
        Self { token: String::new(), ..self.clone() }
    }

    /// Returns the same with a token that nobody made.
    pub(crate) fn with_another_token(&self) -> Self {
        Self { token: format!("/{}", "0".repeat(40)), ..self.clone() }
    }

    /// Returns the token; empty while the paths have none.
    pub(crate) fn token(&self) -> &str {
        self.token.trim_start_matches('/')
    }
}

/// Time limit for a token in the paths after a roll-out.
const TOKEN: Duration = Duration::from_secs(150);

/// The webhook port of a replica, and what is published about it.
#[derive(Clone)]
pub(crate) struct Door {
    address: SocketAddr,
    trust: Arc<ClientConfig>,
    token: String,
}

impl Door {
    /// Returns the port of this replica.
    pub(crate) fn of(replica: &Replica, published: &Published) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(
            CertificateDer::pem_slice_iter(&published.authorities).map(Result::unwrap),
        );
        let trust = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = format!("{}:10250", replica.address).parse().unwrap();
        Self { address, trust: Arc::new(trust), token: published.token.clone() }
    }

    /// Opens a connection and keeps it open.
    pub(crate) async fn open(&self) -> Result<Caller, Broken> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&self.trust));
        let stream = connector.connect(ServerName::try_from(HOST)?, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Caller { sender, token: self.token.clone() })
    }
}

/// A client with one connection.
pub(crate) struct Caller {
    sender: SendRequest<BoxBody<Bytes, Infallible>>,
    token: String,
}

/// A body that announces its length and never arrives.
struct Stalled(usize);

impl Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0 as u64)
    }
}

impl Caller {
    /// Sends a review to this path, with the token that is published added, and returns status and body of the
    /// response.
    pub(crate) async fn ask(&mut self, path: &str, review: &Value) -> Result<(StatusCode, Bytes), Broken> {
        let body = Full::new(Bytes::from(review.to_string())).boxed();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let request =
            Request::post(format!("{path}{}?{query}", self.token)).header("host", HOST).body(body)?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        Ok((response.status(), response.into_body().collect().await?.to_bytes()))
    }

    /// Sends the head of a review whose body has this length, and none of the body.
    pub(crate) async fn begin(&mut self, path: &str, length: usize) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let head = Request::post(format!("{path}{}?{query}", self.token)).header("host", HOST);
        let body = Stalled(length).boxed();
        // The server may close the connection at any time.
        drop(self.sender.ready().await);
        let sending = self.sender.send_request(head.body(body).unwrap());
        drop(tokio::spawn(sending));
    }

    /// Sends a review, and returns the `response` of the answered review.
    pub(crate) async fn review(&mut self, path: &str, review: &Value) -> Result<Value, Broken> {
        let (status, body) = self.ask(path, review).await?;
        if status != StatusCode::OK {
            return Err(format!("{status} {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(serde_json::from_slice::<Value>(&body)?["response"].take())
    }
}

/// Returns a review of a user who creates a pod with this image and an annotation of this many bytes.
pub(crate) fn creation(namespace: &str, image: &str, notes: usize) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "7f0b2891-916f-4ed6-b7cd-27bff1815a8c",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "requestKind": { "group": "", "version": "v1", "kind": "Pod" },
            "requestResource": { "group": "", "version": "v1", "resource": "pods" },
            "name": "web",
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": { "username": "somebody", "groups": [ "system:authenticated" ] },
            "dryRun": false,
            "oldObject": null,
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "name": "web", "namespace": namespace, "annotations": { "notes": "n".repeat(notes) } },
                "spec": { "serviceAccountName": "default", "containers": [ { "name": "app", "image": image } ] },
            },
        },
    })
}
