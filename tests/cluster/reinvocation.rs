//! A sidecar that another webhook adds after tagpin's webhook is pinned too, because the API server calls tagpin again.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::response::IntoResponse;
use axum::routing::post;
use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::manifests::pod;
use crate::support::rig::{self, digest};
use crate::support::{LIMIT, Namespace, alone, images, kubectl, kubectl_with, originals, wait_for};

/// Adds a container with a tag to every pod that has no container of that name.
async fn inject(body: Bytes) -> impl IntoResponse {
    let review: Value = serde_json::from_slice(&body).unwrap();
    let request = &review["request"];
    let containers = request["object"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let mut response = json!({ "uid": request["uid"], "allowed": true });
    if containers.iter().all(|container| container["name"] != "injected") {
        let sidecar = json!({ "name": "injected", "image": "sidecar:1.0.0" });
        let patch = json!([{ "op": "add", "path": "/spec/containers/-", "value": sidecar }]);
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(base64::engine::general_purpose::STANDARD.encode(patch.to_string()));
    }
    let answer =
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response });
    ([("content-type", "application/json")], answer.to_string())
}

/// Serves the injector over TLS on the node's address, and returns its URL and its certificate.
fn serve(runtime: &tokio::runtime::Runtime) -> (String, String) {
    let signed = rcgen::generate_simple_self_signed(vec!["10.41.0.1".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("10.41.0.1:0")).unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    runtime.spawn(async move {
        let router = Router::new().route("/", post(inject));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper_util::service::TowerToHyperService::new(router);
                let io = hyper_util::rt::TokioIo::new(stream);
                // The API server closes the connection when the test ends.
                drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await);
            });
        }
    });
    (url, signed.cert.pem())
}

struct Injector;

impl Drop for Injector {
    fn drop(&mut self) {
        kubectl(&["delete", "mutatingwebhookconfiguration", "zzz-test-injector", "--ignore-not-found"]);
    }
}

#[test]
fn a_sidecar_that_is_added_after_us_is_pinned() {
    let Some(_rig) = rig::here("serves a webhook on the node's address") else { return };
    let _cluster = alone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (url, certificate) = serve(&runtime);
    let namespace = Namespace::new("injected");
    let bundle = base64::engine::general_purpose::STANDARD.encode(certificate);
    let configuration = format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata: {{ name: zzz-test-injector }}\nwebhooks:\n- name: inject.test.tagpin.dev\n  admissionReviewVersions: [ v1 ]\n  sideEffects: None\n  failurePolicy: Fail\n  clientConfig: {{ url: \"{url}\", caBundle: {bundle} }}\n  namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {} }} }}\n  rules: [ {{ apiGroups: [ \"\" ], apiVersions: [ v1 ], operations: [ CREATE ], resources: [ pods ] }} ]\n",
        namespace.name
    );
    kubectl_with(&["apply", "-f", "-"], &configuration).succeeded();
    let _injector = Injector;
    let expected = [
        format!("web:1.4.2@{}", digest("library/web", "1.4.2")),
        format!("sidecar:1.0.0@{}", digest("library/sidecar", "1.0.0")),
    ];
    // The API server learns of the injector by its own watch.
    let seen = wait_for("a pod with the sidecar", LIMIT, || {
        namespace.kubectl(&["delete", "pod", "web", "--ignore-not-found", "--grace-period=0", "--force"]);
        namespace.apply(&pod("web", "web:1.4.2")).succeeded();
        let seen = namespace.get("pod", "web");
        (images(&seen).len() == 2).then_some(seen)
    });
    assert_eq!(images(&seen), expected);
    assert_eq!(originals(&seen)["containers/injected"], "sidecar:1.0.0");
}
