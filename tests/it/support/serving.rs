//! `tagpin serve` as a process, in a cluster that has only lists: listed objects stay as they are, and watches report
//! nothing.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt as _;
use http_body_util::StreamBody;
use hyper::body::Frame;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tagpin_kube::store::Store;
use tagpin_objects::kinds::Kinds;
use tagpin_testing::path;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time limit for anything on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// The DNS name in the certificate.
const HOST: &str = "tagpin.tagpin-system.svc";
/// The path of the list of mutating webhook configurations.
pub(crate) const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const SECRETS: &str = "/api/v1/namespaces/tagpin-system/secrets";

/// An API server with the lists of a test, and with silent watches.
#[derive(Clone)]
struct Quiet {
    /// The lists by their paths.
    lists: Arc<Mutex<BTreeMap<String, List>>>,
    /// True if a list can be a stream of events.
    streams: bool,
    /// The path of the one list that is not answered yet.
    held: watch::Sender<Option<String>>,
}

impl Quiet {
    async fn answer(self, request: Request) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let mut held = self.held.subscribe();
        if request.method() != "GET" || !self.lists.lock().unwrap().contains_key(&path) {
            let missing = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound" });
            return response(StatusCode::NOT_FOUND, Body::from(missing.to_string()));
        }
        let query = request.uri().query().unwrap_or_default().to_owned();
        let silence = futures::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
        let streams = query.contains("sendInitialEvents=true");
        if query.contains("watch=true") && !streams {
            return response(StatusCode::OK, Body::new(StreamBody::new(silence)));
        }
        if streams && !self.streams {
            let message =
                "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
            let refused = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422, "reason": "Invalid", "message": message });
            return response(StatusCode::UNPROCESSABLE_ENTITY, Body::from(refused.to_string()));
        }
        held.wait_for(|held| held.as_deref() != Some(&path)).await.unwrap();
        let List { page, stream } = self.lists.lock().unwrap()[&path].clone();
        if !streams {
            return response(StatusCode::OK, Body::from(page));
        }
        let stream = futures::stream::iter([Ok(Frame::data(stream))]);
        response(StatusCode::OK, Body::new(StreamBody::new(stream.chain(silence))))
    }
}

fn response(status: StatusCode, body: Body) -> Response<Body> {
    Response::builder().status(status).body(body).unwrap()
}

/// One list, as a page and as a stream of events.
#[derive(Clone)]
struct List {
    page: Bytes,
    stream: Bytes,
}

impl List {
    fn new(items: &[Value]) -> Self {
        let page = json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "10" }, "items": items });
        // The type comes first, as in the events of every API server.
        let event = |kind: &str, object: &Value| format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n");
        let metadata =
            json!({ "resourceVersion": "10", "annotations": { "k8s.io/initial-events-end": "true" } });
        let end = json!({ "kind": "Pod", "apiVersion": "v1", "metadata": metadata });
        let items = items.iter().map(|item| event("ADDED", item));
        let stream = items.chain([event("BOOKMARK", &end)]).collect::<String>();
        Self { page: page.to_string().into(), stream: stream.into() }
    }

    /// Returns a list of this text, which need not be valid, and which comes as one event of a stream.
    fn of_text(text: &str) -> Self {
        Self { page: text.to_owned().into(), stream: format!("{text}\n").into() }
    }
}

/// The options for starting a replica.
#[derive(Default)]
pub(crate) struct Start<'a> {
    /// The lists that are not empty, by their paths.
    pub(crate) lists: &'a [(String, Vec<Value>)],
    /// The objects of each list of a store that is not among these.
    pub(crate) each: &'a [Value],
    /// The path of the list that is not answered until it is released.
    pub(crate) held: Option<&'a str>,
    /// True if the API server sends lists only in pages.
    pub(crate) pages: bool,
    /// Further entries of the Secret with the certificate, as text by name.
    pub(crate) entries: &'a [(&'a str, &'a str)],
    /// Further arguments of `serve`.
    pub(crate) arguments: &'a [String],
    /// Variables of its environment.
    pub(crate) environment: &'a [(&'a str, &'a str)],
}

/// A running replica and its cluster; both stop when this is dropped.
pub(crate) struct Serving {
    cluster: Quiet,
    pub(crate) process: Child,
    folder: TempDir,
    admin: u16,
    /// The port of the webhook.
    pub(crate) webhook: u16,
    /// A TLS configuration that trusts the webhook's certificate.
    pub(crate) trust: Arc<ClientConfig>,
    _server: JoinSet<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Serving {
    /// Starts the binary of this build with this log filter. The list at the path `held` is not answered until it is
    /// released.
    pub(crate) async fn start(lists: &[(String, Vec<Value>)], held: Option<&str>, log: &str) -> Self {
        let binary = Command::new(env!("CARGO_BIN_EXE_tagpin"));
        Self::run(binary, Start { lists, held, ..Start::default() }, log).await
    }

    /// Starts this program, which is a tagpin binary without arguments, with this log filter.
    pub(crate) async fn run(mut program: Command, start: Start<'_>, log: &str) -> Self {
        let certificate = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
        let mut data = json!({});
        for (name, text) in
            [("tls.crt", &*certificate.cert.pem()), ("tls.key", &*certificate.signing_key.serialize_pem())]
                .iter()
                .chain(start.entries)
        {
            data[name] = BASE64_STANDARD.encode(text).into();
        }
        let secret = json!({
            "metadata": { "name": "tagpin-webhook-tls", "namespace": "tagpin-system", "uid": "s", "resourceVersion": "1" },
            "data": data,
        });
        let Start { lists, each, held, pages, arguments, environment, .. } = start;
        let cluster = Quiet {
            lists: Arc::default(),
            streams: !pages,
            held: watch::Sender::new(held.map(str::to_owned)),
        };
        {
            let mut all = cluster.lists.lock().unwrap();
            let each = List::new(each);
            all.extend(Store::all(&Kinds::default()).map(|store| (path(store), each.clone())));
            // The server ignores selectors, so this Secret is also the one with the keys for marks.
            all.insert(SECRETS.to_owned(), List::new(&[secret]));
            all.insert(MUTATING.to_owned(), List::new(&[]));
            all.extend(lists.iter().map(|(path, items)| (path.clone(), List::new(items))));
        }
        let mut server = JoinSet::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = cluster.clone();
        let answer = move |request: Request| answering.clone().answer(request);
        server.spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });

        let folder = TempDir::new().unwrap();
        let (admin, webhook) = (free_port().await, free_port().await);
        program.env_clear().envs(environment.iter().copied());
        let process = spawn(program, arguments, &folder, address, [admin, webhook], log);
        let trust = trust(certificate.cert.der());
        Self { cluster, process, folder, admin, webhook, trust, _server: server }
    }

    /// Answers the list at this path with this text, which need not be valid.
    pub(crate) fn lists(&self, path: &str, text: &str) {
        self.cluster.lists.lock().unwrap().insert(path.to_owned(), List::of_text(text));
    }

    /// Answers the list that is held.
    pub(crate) fn release(&self) {
        self.cluster.held.send_replace(None);
    }

    /// Returns the status line and the body of a page of the admin port; none if it does not answer.
    pub(crate) async fn page(&self, path: &str) -> Option<(String, String)> {
        let stream = TcpStream::connect(("127.0.0.1", self.admin)).await.ok()?;
        let answer = get(stream, path).await?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.lines().next()?.to_owned(), body.to_owned()))
    }

    /// Waits until `/readyz` has this body.
    pub(crate) async fn readiness_is(&self, wanted: &str) {
        let mut last = None;
        let seen = async {
            let mut pace = interval(Duration::from_millis(20));
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                pace.tick().await;
                last = self.page("/readyz").await.map(|(_, body)| body.trim().to_owned());
                if last.as_deref() == Some(wanted) {
                    break;
                }
            }
        };
        let seen = timeout(LIMIT, seen).await;
        assert!(seen.is_ok(), "waited for {wanted:?}, but {last:?}: {}", self.log());
    }

    /// Waits until the log contains these words.
    pub(crate) async fn logs(&self, words: &str) {
        let mut pace = interval(Duration::from_millis(20));
        let seen = async {
            while !self.log().contains(words) {
                pace.tick().await;
            }
        };
        let seen = timeout(LIMIT, seen).await;
        assert!(seen.is_ok(), "waited for {words:?}: {}", self.log());
    }

    /// Returns a number of KiB from the status of the process: `VmRSS`.
    pub(crate) fn memory(&self, key: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        value.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Returns the log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Sends a request to the webhook's port over TLS, and returns the status line of the response; none if it does not
    /// come within this time.
    pub(crate) async fn asked_over_tls(&self, within: Duration) -> Option<String> {
        let asked = async {
            let stream = self.connect().await?;
            Some(get(stream, "/validate").await?.lines().next()?.to_owned())
        };
        timeout(within, asked).await.ok()?
    }

    /// Posts this review to a path of the webhook, and returns the status line of the response.
    pub(crate) async fn posted_over_tls(&self, path: &str, review: &Value) -> String {
        let body = review.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let asked = async {
            let stream = self.connect().await?;
            Some(ask(stream, &request).await?.lines().next()?.to_owned())
        };
        timeout(LIMIT, asked).await.ok().flatten().unwrap_or_else(|| panic!("no answer: {}", self.log()))
    }

    async fn connect(&self) -> Option<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.webhook)).await.ok()?;
        let connector = TlsConnector::from(Arc::clone(&self.trust));
        Some(connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap())
    }
}

fn spawn(
    mut program: Command,
    arguments: &[String],
    folder: &TempDir,
    api: SocketAddr,
    [admin, webhook]: [u16; 2],
    log: &str,
) -> Child {
    let file = |name: &str, text: &str| -> PathBuf {
        let place = folder.path().join(name);
        fs::write(&place, text).unwrap();
        place
    };
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://{api}") } }],
        "users": [{ "name": "c", "user": {} }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "c" } }],
    });
    let kubeconfig = file("kubeconfig", &kubeconfig.to_string());
    let baseline = file("baseline.yaml", "{enabled: false, mode: Warn, pin: true}");
    program
        .args(["serve", "--namespace=tagpin-system", "--pod=tagpin-a", "--log", log, "--baseline"])
        .arg(baseline)
        .args([format!("--admin-port={admin}"), format!("--webhook-port={webhook}")])
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .stderr(fs::File::create(folder.path().join("log")).unwrap())
        .spawn()
        .unwrap()
}

/// Returns a port that nobody listens on.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

fn trust(certificate: &CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

async fn get(stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> Option<String> {
    ask(stream, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Option<String> {
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // A TLS connection that ends without a close message has still delivered the whole response.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).ok()
}
