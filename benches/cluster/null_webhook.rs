//! A webhook that allows everything and reads only the UID. It is asked twice for each pod, as tagpin is.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use axum::Router;
use axum::body::Bytes;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{extract, middleware};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::PostParams;
use kube::{Api, Client};
use rcgen::{CertificateParams, KeyPair};
use serde::Deserialize;
use serde_json::{Value, json};
use tagpin_webhook::server::{Caller, Callers, Drain, serve};
use tagpin_webhook::tls::CurrentCertificate;
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    request: Request<'a>,
}

#[derive(Deserialize)]
struct Request<'a> {
    uid: &'a str,
}

async fn allow(body: Bytes) -> impl IntoResponse {
    let review: Review<'_> = serde_json::from_slice(&body).unwrap();
    let response = json!({ "uid": review.request.uid, "allowed": true });
    let answer =
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response });
    ([("content-type", "application/json")], answer.to_string())
}

/// Serves the webhook on this machine's address, and registers it for the pods of this namespace.
pub(crate) async fn install(client: &Client, namespace: &str) {
    let address = own_address();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![address.to_string()]).unwrap().self_signed(&key).unwrap();
    let shown = CurrentCertificate::default();
    shown.set(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let listener = TcpListener::bind(SocketAddr::new(address, 0)).await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let router = Router::new().route("/", post(allow)).layer(middleware::map_request(kept));
        serve(listener, &shown, router, Drain::default(), Callers::default()).await.unwrap();
    });
    let configuration = json!({
        "metadata": { "name": "bench-null" },
        "webhooks": [ {
            "name": "null.bench.tagpin.dev",
            "clientConfig": { "url": url, "caBundle": STANDARD.encode(certificate.pem()) },
            "rules": [ { "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] } ],
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
        } ],
    });
    let read = |value: &Value| serde_json::from_value(value.clone());
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    mutating.create(&PostParams::default(), &read(&configuration).unwrap()).await.unwrap();
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let configuration: ValidatingWebhookConfiguration = serde_json::from_value(configuration).unwrap();
    validating.create(&PostParams::default(), &configuration).await.unwrap();
}

/// Returns the address at which the API server reaches this process. Nothing is sent.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // The address is of TEST-NET-1 (RFC 5737). It only chooses the route.
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}

/// Keeps the connection of a request open. This webhook has no tokens, and its callers are no strangers.
async fn kept(request: extract::Request) -> extract::Request {
    assert!(request.extensions().get::<Caller>().is_some_and(Caller::keep));
    request
}
