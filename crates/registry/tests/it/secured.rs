//! TLS settings and headers of the configuration, as a registry sees them.

use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tagpin_registry::{CaBundle, ClientCertificate, Endpoint, Header, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::support::{AUTHORITY, TestNames, TestProfiles, ask, client, endpoint, profile, provider};

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A registry over TLS that has every tag, and records the heads of requests.
struct Secured {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Secured {
    async fn start(acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let mut task = JoinSet::new();
        let kept = Arc::clone(&heads);
        task.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that does not trust the server, or that the server does not trust, disconnects here.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    head.push(byte);
                }
                kept.lock().unwrap().push(String::from_utf8(head).unwrap());
                let answer = format!(
                    "HTTP/1.1 200 x\r\ncontent-type: application/vnd.oci.image.index.v1+json\r\n\
                     docker-content-digest: {DIGEST}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { port, heads, _task: task }
    }

    /// Looks up a tag at an endpoint after this change to it.
    async fn ask(&self, change: impl FnOnce(&mut Endpoint)) -> String {
        let domain = format!("registry.test:{}", self.port);
        let mut endpoint = endpoint(&format!("https://{domain}"));
        change(&mut endpoint);
        let profiles = TestProfiles::one(profile(endpoint), &domain);
        ask(&client(profiles, TestNames::default(), Arc::new(())), &format!("{domain}/team/app:1"), &[]).await
    }
}

/// Returns a self-signed certificate and its key.
fn own() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["client.test".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn who_is_trusted_is_what_the_operator_says() {
    let registry = Secured::start(AUTHORITY.acceptor()).await;
    let present = format!("Present {DIGEST}");
    let ask = |tls: Tls| registry.ask(move |endpoint| endpoint.tls = tls);
    let (ours, theirs) = (AUTHORITY.bundle(), CaBundle::parse(own().0.as_bytes()).unwrap());
    assert_eq!(ask(Tls::default()).await, "Unavailable Tls");
    assert_eq!(ask(Tls { ca: Some(ours.clone()), ..Tls::default() }).await, present);
    assert_eq!(ask(Tls { ca: Some(ours), ca_only: true, ..Tls::default() }).await, present);
    assert_eq!(ask(Tls { ca: Some(theirs), ca_only: true, ..Tls::default() }).await, "Unavailable Tls");
    assert_eq!(ask(Tls { unverified: true, ..Tls::default() }).await, present);
}

#[tokio::test]
async fn a_certificate_of_ours_is_shown_to_who_wants_it() {
    provider();
    let (certificate, key) = own();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(AUTHORITY.certificate.as_bytes()).unwrap()];
    let server_key = PrivateKeyDer::from_pem_slice(AUTHORITY.key.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, server_key)
        .unwrap();
    let registry = Secured::start(Arc::new(config).into()).await;
    let shown = ClientCertificate::parse(certificate.as_bytes(), key.as_bytes()).unwrap();
    let found = registry.ask(|endpoint| endpoint.tls.client = Some(Arc::new(shown))).await;
    assert_eq!(found, format!("Present {DIGEST}"));
    let found = registry.ask(|_| {}).await;
    assert!(found.starts_with("Unavailable"), "{found}");
}

#[tokio::test]
async fn headers_of_the_operator_are_sent_and_never_replace_ours() {
    let registry = Secured::start(AUTHORITY.acceptor()).await;
    let headers = [("x-tenant", "shop"), ("accept-encoding", "gzip")];
    let headers = headers.map(|(name, value)| Header::new(name, value).unwrap());
    let found = registry.ask(|endpoint| endpoint.headers = headers.into()).await;
    assert_eq!(found, format!("Present {DIGEST}"));
    let head = registry.heads.lock().unwrap().concat();
    assert!(head.contains("x-tenant: shop\r\n") && head.contains("accept-encoding: identity\r\n"), "{head}");
    assert!(!head.contains("gzip"), "{head}");
}
