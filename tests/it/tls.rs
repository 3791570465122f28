//! The webhook's server over real sockets: change of certificates, limits on connections, and shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::post;
use axum::{Router, extract, middleware};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tagpin_webhook::metrics::Connections;
use tagpin_webhook::server::{Caller, Callers, Drain, serve};
use tagpin_webhook::tls::{CertificateError, ClientCa, CurrentCertificate};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::webhook::{Table, Webhook, create, pod};

const NAME: &str = "tagpin.tagpin-system.svc";
/// Time limit for every step on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A CA that signs certificates for the server.
struct Authority {
    /// The certificate of the authority, in PEM.
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
    roots: Arc<RootCertStore>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let certificate = certificate.pem();
        Self { certificate, issuer: Issuer::new(params, key), roots: Arc::new(roots) }
    }

    /// Returns a certificate chain and its key, in PEM.
    fn leaf(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A server, with the handles to stop it.
struct Server {
    address: SocketAddr,
    certificate: CurrentCertificate,
    drain: Drain,
    task: JoinHandle<Result<(), rustls::Error>>,
}

impl Server {
    async fn start(router: Router) -> Self {
        Self::expecting(router, Callers::default()).await
    }

    async fn expecting(router: Router, callers: Callers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let certificate = CurrentCertificate::default();
        let drain = Drain::default();
        let (shown, draining) = (certificate.clone(), drain.clone());
        let task = tokio::spawn(async move { serve(listener, &shown, router, draining, callers).await });
        Self { address, certificate, drain, task }
    }

    async fn with(router: Router, authority: &Authority) -> Self {
        Self::showing(authority, router, Callers::default()).await
    }

    async fn showing(authority: &Authority, router: Router, callers: Callers) -> Self {
        let server = Self::expecting(router, callers).await;
        let (chain, key) = authority.leaf();
        server.certificate.set(chain.as_bytes(), key.as_bytes()).unwrap();
        server
    }

    async fn connect(
        &self,
        authority: &Authority,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_as(None, authority, protocols).await
    }

    /// Connects with a client certificate of this authority.
    async fn connect_as(
        &self,
        caller: Option<&Authority>,
        authority: &Authority,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(Arc::clone(&authority.roots));
        let mut config = match caller {
            None => config.with_no_client_auth(),
            Some(caller) => {
                let (chain, key) = caller.leaf();
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
                config
                    .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                    .unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(NAME).unwrap();
        timeout(SOON, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
    }

    async fn client(&self, authority: &Authority) -> Client {
        Client::over(self.connect(authority, &["http/1.1"]).await.unwrap()).await
    }
}

/// A connection that stays open, as the API server keeps it.
struct Client {
    sender: SendRequest<String>,
    connection: JoinHandle<()>,
}

impl Client {
    async fn over(stream: TlsStream<TcpStream>) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        Self { sender, connection }
    }

    /// Returns the status of a response, and true if the response says that the connection ends.
    async fn post(&mut self, path: &str) -> hyper::Result<(StatusCode, bool)> {
        self.send(path, "{}".to_owned()).await
    }

    async fn send(&mut self, path: &str, body: String) -> hyper::Result<(StatusCode, bool)> {
        let request = hyper::Request::post(path).header("host", NAME).body(body).unwrap();
        self.sender.ready().await?;
        let response = timeout(SOON, self.sender.send_request(request)).await.unwrap()?;
        let close = response.headers().get("connection").is_some_and(|value| value == "close");
        Ok((response.status(), close))
    }

    async fn closed(self) {
        timeout(SOON, self.connection).await.unwrap().unwrap();
    }
}

const OK: (StatusCode, bool) = (StatusCode::OK, false);
const LAST: (StatusCode, bool) = (StatusCode::OK, true);

/// Returns this router, with every caller counting as the API server.
fn keeping(router: Router) -> Router {
    let kept = |request: extract::Request| async {
        assert!(request.extensions().get::<Caller>().is_some_and(Caller::keep));
        request
    };
    router.layer(middleware::map_request(kept))
}

fn fine() -> Router {
    keeping(Router::new().route("/", post(|| async {})))
}

#[tokio::test]
async fn only_http_1_1_is_spoken_over_tls() {
    let authority = Authority::new();
    let server = Server::with(fine(), &authority).await;
    let stream = server.connect(&authority, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(Client::over(stream).await.post("/").await.unwrap(), OK);
    assert!(server.connect(&authority, &["h2"]).await.is_err());
    // A client that offers no protocol gets HTTP/1.1.
    let stream = server.connect(&authority, &[]).await.unwrap();
    assert_eq!(Client::over(stream).await.post("/").await.unwrap(), OK);
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"POST / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, plain.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_the_next_caller_and_ends_no_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = Server::start(fine()).await;
    assert!(server.connect(&old, &[]).await.is_err(), "nothing to show yet");
    let (chain, key) = old.leaf();
    server.certificate.set(chain.as_bytes(), key.as_bytes()).unwrap();
    let mut kept = server.client(&old).await;
    assert_eq!(kept.post("/").await.unwrap(), OK);

    let (chain, key) = new.leaf();
    server.certificate.set(chain.as_bytes(), key.as_bytes()).unwrap();
    assert!(server.connect(&old, &[]).await.is_err());
    assert_eq!(server.client(&new).await.post("/").await.unwrap(), OK);
    assert_eq!(kept.post("/").await.unwrap(), OK);
}

#[tokio::test]
async fn a_broken_certificate_is_refused_and_the_last_good_one_stays() {
    let authority = Authority::new();
    let server = Server::with(fine(), &authority).await;
    let ((chain, key), (other, _)) = (authority.leaf(), authority.leaf());
    let set = |chain: &str, key: &str| server.certificate.set(chain.as_bytes(), key.as_bytes()).unwrap_err();
    assert!(matches!(set("", &key), CertificateError::Empty));
    assert!(matches!(set("not PEM", &key), CertificateError::Empty));
    assert!(matches!(set(&chain[..chain.len() / 2], &key), CertificateError::Chain(_)));
    assert!(matches!(set(&chain, ""), CertificateError::Key(_)));
    assert!(matches!(set(&chain, &chain), CertificateError::Key(_)));
    assert!(matches!(set(&other, &key), CertificateError::Pair(_)));
    assert_eq!(server.client(&authority).await.post("/").await.unwrap(), OK);
}

#[tokio::test]
async fn the_process_itself_trusts_the_certificate_that_is_shown_now_and_no_other() {
    let authority = Authority::new();
    let server = Server::with(fine(), &authority).await;
    let trust = |certificate: &CurrentCertificate| Arc::new(certificate.client_config().unwrap());
    let connect = async |trust: &Arc<ClientConfig>| {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let connector = TlsConnector::from(Arc::clone(trust));
        timeout(SOON, connector.connect(ServerName::try_from("tagpin").unwrap(), stream)).await.unwrap()
    };
    let ours = trust(&server.certificate);
    assert_eq!(Client::over(connect(&ours).await.unwrap()).await.post("/").await.unwrap(), OK);
    let (chain, key) = authority.leaf();
    server.certificate.set(chain.as_bytes(), key.as_bytes()).unwrap();
    assert!(connect(&ours).await.is_ok(), "a new one is trusted once it is shown");

    // Trusting a certificate of the same authority that no server shows does not help, and neither does trusting none.
    let (other, none) = (CurrentCertificate::default(), CurrentCertificate::default());
    let (chain, key) = authority.leaf();
    other.set(chain.as_bytes(), key.as_bytes()).unwrap();
    assert!(connect(&trust(&other)).await.is_err());
    assert!(connect(&trust(&none)).await.is_err());
}

#[tokio::test]
async fn one_connection_carries_many_reviews() {
    let authority = Authority::new();
    let server = Server::with(fine(), &authority).await;
    let mut client = server.client(&authority).await;
    for _ in 0..20 {
        assert_eq!(client.post("/").await.unwrap(), OK);
    }
}

#[tokio::test]
async fn a_head_that_comes_drop_by_drop_ends_its_connection_and_no_other() {
    let authority = Authority::new();
    let server = Server::with(fine(), &authority).await;
    let mut patient = server.client(&authority).await;
    assert_eq!(patient.post("/").await.unwrap(), OK);
    let started = Instant::now();
    let mut slow = server.connect(&authority, &[]).await.unwrap();
    let ahead = server.client(&authority).await;
    let mut handshake = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"POST / HTTP/1.1\r\nhost:").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, slow.read_to_end(&mut answer)).await.unwrap();
    let _ = timeout(SOON, handshake.read_to_end(&mut answer)).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(patient.post("/").await.unwrap(), OK, "idle is not slow");
    // A connection that was opened ahead is a stranger's, until a request on it shows the token.
    ahead.closed().await;
}

#[tokio::test]
async fn a_drain_sends_callers_away_answers_what_is_in_flight_and_then_ends() {
    let authority = Authority::new();
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (in_review, may_go_on) = (Arc::clone(&reached), Arc::clone(&go_on));
    let slow = move || async move {
        in_review.notify_one();
        may_go_on.notified().await;
    };
    let server = Server::with(keeping(fine().route("/slow", post(slow))), &authority).await;
    let (mut busy, mut kept, mut idle) =
        (server.client(&authority).await, server.client(&authority).await, server.client(&authority).await);
    assert_eq!(idle.post("/").await.unwrap(), OK);
    let answer = tokio::spawn(async move { busy.post("/slow").await });
    timeout(SOON, reached.notified()).await.unwrap();
    assert_eq!(kept.post("/").await.unwrap(), OK);

    server.drain.leaving.cancel();
    assert_eq!(kept.post("/").await.unwrap(), LAST);
    kept.closed().await;
    // A new connection is still answered.
    assert_eq!(server.client(&authority).await.post("/").await.unwrap(), LAST);

    server.drain.stop.cancel();
    idle.closed().await;
    assert!(!server.task.is_finished(), "a review is in flight");
    go_on.notify_one();
    assert_eq!(timeout(SOON, answer).await.unwrap().unwrap().unwrap(), LAST);
    timeout(SOON, server.task).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

/// The time that a stranger has to show a token.
const STRANGER: Duration = Duration::from_secs(5);

/// Returns the metrics of connections, and a function that reads the value of a line.
fn counted() -> (Connections, impl Fn(&str) -> u64) {
    let mut registry = Registry::default();
    let metrics = Connections::register(&mut registry);
    let read = move |line: &str| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let value = text.lines().find_map(|seen| seen.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{line} is not in {text}"))
    };
    (metrics, read)
}

/// Opens a connection from this address of this machine.
async fn from(address: &str, server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
    socket.connect(server.address).await.unwrap()
}

/// Waits until the server has closed this connection.
async fn ended(mut stream: impl AsyncRead + Unpin) {
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection stays open");
}

#[tokio::test]
async fn strangers_share_64_places_and_the_oldest_of_the_loudest_goes() {
    let authority = Authority::new();
    let (metrics, read) = counted();
    let callers = Callers { client_ca: None, metrics };
    let server = Server::showing(&authority, fine(), callers).await;
    let mut known = server.client(&authority).await;
    assert_eq!(known.post("/").await.unwrap(), OK);
    let quiet = from("127.0.0.2", &server).await;
    let mut loud = Vec::new();
    for _ in 0..64 {
        loud.push(from("127.0.0.3", &server).await);
    }
    ended(loud.remove(0)).await;
    assert_eq!(read("webhook_strangers_closed_total{reason=\"full\"}"), 1);
    // Far more connections than places keep neither the quiet caller nor a new one out.
    for _ in 0..1100 {
        loud.push(from("127.0.0.3", &server).await);
    }
    let mut late = server.client(&authority).await;
    assert_eq!(late.post("/").await.unwrap(), OK);
    assert_eq!(known.post("/").await.unwrap(), OK);
    assert_eq!(read("webhook_connections{who=\"known\"}"), 2);
    assert!(read("webhook_connections{who=\"stranger\"}") <= 64);
    assert!(read("webhook_strangers_closed_total{reason=\"full\"}") > 1000);
    drop((quiet, loud));
}

#[tokio::test]
async fn a_stranger_has_five_seconds_to_show_the_token() {
    let authority = Authority::new();
    let (metrics, read) = counted();
    let callers = Callers { client_ca: None, metrics };
    // No request on this server shows a token.
    let router = Router::new().route("/", post(|| async {}));
    let server = Server::showing(&authority, router, callers).await;
    let started = Instant::now();
    let no_handshake = from("127.0.0.1", &server).await;
    let idle = server.connect(&authority, &[]).await.unwrap();
    let mut half = server.connect(&authority, &[]).await.unwrap();
    half.write_all(b"POST / HTTP/1.1\r\nhost:").await.unwrap();
    let mut asked = server.client(&authority).await;
    assert_eq!(asked.post("/").await.unwrap(), OK);
    tokio::join!(ended(no_handshake), ended(idle), ended(half), asked.closed());
    let took = started.elapsed();
    assert!(took >= STRANGER && took < STRANGER * 2, "{took:?}");
    // A caller sees the end of its connection before the server counts it.
    server.drain.stop.cancel();
    timeout(SOON, server.task).await.unwrap().unwrap().unwrap();
    assert_eq!(read("webhook_strangers_closed_total{reason=\"late\"}"), 4);
    assert_eq!(read("webhook_connections{who=\"stranger\"}"), 0);
}

#[tokio::test]
async fn a_stranger_whose_request_is_late_at_the_same_moment_is_counted_too() {
    let authority = Authority::new();
    let (metrics, read) = counted();
    let router = Router::new().route("/", post(|| async {}));
    let server = Server::showing(&authority, router, Callers { client_ca: None, metrics }).await;
    let mut halves = Vec::new();
    for _ in 0..8 {
        let mut half = server.connect(&authority, &[]).await.unwrap();
        half.write_all(b"POST / HTTP/1.1\r\nhost:").await.unwrap();
        halves.push(half);
    }
    // One whole request later, the server has read the first bytes of each.
    let mut asked = server.client(&authority).await;
    assert_eq!(asked.post("/").await.unwrap(), OK);
    // The server sees both time limits behind it when it looks next, as on a busy machine.
    tokio::time::pause();
    tokio::time::advance(STRANGER * 2).await;
    tokio::time::resume();
    futures::future::join_all(halves.into_iter().map(ended)).await;
    asked.closed().await;
    server.drain.stop.cancel();
    timeout(SOON, server.task).await.unwrap().unwrap().unwrap();
    assert_eq!(read("webhook_strangers_closed_total{reason=\"late\"}"), 9);
}

#[tokio::test]
async fn a_caller_with_the_token_keeps_its_place() {
    let authority = Authority::new();
    let server = Server::with(fine(), &authority).await;
    let mut known = server.client(&authority).await;
    assert_eq!(known.post("/").await.unwrap(), OK);
    let started = Instant::now();
    let mut crowd = Vec::new();
    for _ in 0..64 {
        crowd.push(from("127.0.0.1", &server).await);
    }
    futures::future::join_all(crowd.into_iter().map(ended)).await;
    assert!(started.elapsed() >= STRANGER);
    assert_eq!(known.post("/").await.unwrap(), OK);
}

#[tokio::test]
async fn a_client_certificate_adds_to_the_token() {
    let (authority, callers, others) = (Authority::new(), Authority::new(), Authority::new());
    let pem = callers.certificate.clone();
    assert!(ClientCa::from_pem(b"").is_err() && ClientCa::from_pem(b"-----BEGIN CERTIFICATE-----").is_err());
    let client_ca = Some(ClientCa::from_pem(pem.as_bytes()).unwrap());
    let registry = Table::default();
    let webhook = Webhook::new(&[("pin", json!({ "mode": "Enforce" }))], registry.clone());
    let callers_expected = Callers { client_ca, metrics: Connections::default() };
    let server = Server::showing(&authority, webhook.router.clone(), callers_expected).await;
    for (caller, asked) in [(None, 0), (Some(&others), 0), (Some(&callers), 1), (Some(&callers), 2)] {
        let stream = server.connect_as(caller, &authority, &["http/1.1"]).await.unwrap();
        let mut client = Client::over(stream).await;
        let (status, closes) =
            client.send("/validate?timeout=10s", create(pod("web:1")).to_string()).await.unwrap();
        assert_eq!((status, closes, registry.asked()), (StatusCode::OK, asked == 0, asked));
    }
}
