//! Reviews that are sent to a replica directly, in the same form as the API server sends them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::kubectl;
use super::replicas::Replica;

const HOST: &str = "tagpin.tagpin-system.svc";

/// The reason why a request got no answer.
pub(crate) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Returns the authorities that the webhook configuration tells the API server to trust, in PEM.
pub(crate) fn published_authorities() -> Vec<u8> {
    let path = "jsonpath={.webhooks[0].clientConfig.caBundle}";
    let bundle = kubectl(&["get", "validatingwebhookconfiguration", "tagpin", "-o", path]).succeeded();
    BASE64_STANDARD.decode(bundle).unwrap()
}

/// The webhook port of a replica, and the authorities to trust.
#[derive(Clone)]
pub(crate) struct Door {
    address: SocketAddr,
    trust: Arc<ClientConfig>,
}

impl Door {
    /// Returns the port of this replica, with these authorities trusted.
    pub(crate) fn of(replica: &Replica, authorities: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(authorities).map(Result::unwrap));
        let trust = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { address: format!("{}:10250", replica.address).parse().unwrap(), trust: Arc::new(trust) }
    }

    /// Opens a connection and keeps it open.
    pub(crate) async fn open(&self) -> Result<Caller, Broken> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&self.trust));
        let stream = connector.connect(ServerName::try_from(HOST)?, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Caller(sender))
    }
}

/// A client with one connection.
pub(crate) struct Caller(SendRequest<Full<Bytes>>);

impl Caller {
    /// Sends a review, and returns status and body of the response.
    pub(crate) async fn ask(&mut self, path: &str, review: &Value) -> Result<(StatusCode, Bytes), Broken> {
        let body = Full::new(Bytes::from(review.to_string()));
        self.0.ready().await?;
        let response = self.0.send_request(Request::post(path).header("host", HOST).body(body)?).await?;
        Ok((response.status(), response.into_body().collect().await?.to_bytes()))
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
