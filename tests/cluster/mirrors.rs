//! A node and tagpin with the same tree of `certs.d` ask the same registries for a tag, in the same order
//! (`tests/cases/registry/hosts.yaml`).

use std::convert::Infallible;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION, USER_AGENT, WWW_AUTHENTICATE};
use axum::http::response::Builder;
use axum::http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::support::manifests::{container, pod_with};
use crate::support::rig;
use crate::support::{LIMIT, Namespace, undisturbed, wait_for};

/// The address of the registries, which the rig's own registries have too.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 41, 0, 1);
/// The path of the image's manifest, below the name of the case.
const TAG: &str = "/app/manifests/1";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
const DIGEST: &str = "sha256:f20c43161d73848408ef247f0ec7111b19fe58ffebc0cbcaa0d2c8bda4967268";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    hosts: String,
    folder: Option<String>,
    port: Option<u16>,
    #[serde(default)]
    a: Says,
    #[serde(default)]
    b: Says,
    #[serde(default)]
    s: Says,
    #[serde(default)]
    tls: Vec<String>,
}

/// The answer of a registry for the tag.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Says {
    #[default]
    Has,
    Bare,
    GetOnly,
    Lacks,
    Denies,
    Private,
    Limits,
    Breaks,
    Moved,
}

/// The requests to all registries.
type Asked = Arc<Mutex<Vec<Question>>>;

/// A request to a registry.
struct Question {
    by_tagpin: bool,
    /// The registry, the path, and the header of the operator.
    text: String,
}

/// The rig's tree with the folders of the cases, which are removed when this is dropped.
struct Tree {
    root: PathBuf,
    added: Vec<PathBuf>,
}

struct Authority {
    ca: String,
    server: Arc<ServerConfig>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([ADDRESS.to_string()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Self { ca: ca.pem(), server: Arc::new(server) }
    }
}

impl Tree {
    /// Writes the folder of a case.
    fn add(&mut self, folder: &str, hosts: &str, authority: &Authority) {
        let folder = self.root.join(folder);
        fs::create_dir(&folder).unwrap();
        self.added.push(folder.clone());
        fs::write(folder.join("ca.crt"), &authority.ca).unwrap();
        fs::write(folder.join("hosts.toml"), hosts).unwrap();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.added.iter().for_each(|folder| fs::remove_dir_all(folder).unwrap());
    }
}

impl Case {
    /// Starts the registries of the case, and writes its folder into the tree.
    async fn start(&self, tree: &mut Tree, authority: &Authority, asked: &Asked) {
        let (mut listeners, mut hosts) = (Vec::new(), self.hosts.clone());
        for name in ["a", "b", "s", "gone"] {
            let listener = TcpListener::bind((ADDRESS, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            hosts = hosts.replace(&format!("{{{name}}}"), &address.to_string());
            listeners.push((name, listener, address));
        }
        let other = listeners[1].2;
        for (name, listener, _) in listeners {
            let says = match name {
                "a" => self.a,
                "b" => self.b,
                "s" => self.s,
                // The listener of `gone` is dropped, so nobody listens on its port.
                _ => continue,
            };
            let tls = self.tls.iter().any(|own| own == name);
            let acceptor = tls.then(|| TlsAcceptor::from(Arc::clone(&authority.server)));
            let name = format!("{name} of {}", self.name);
            let registry = Registry { name, says, other, asked: Arc::clone(asked) };
            tokio::spawn(registry.serve(listener, acceptor));
        }
        let folder = self.folder.as_deref().unwrap_or("{name}").replace("{name}", &self.domain());
        tree.add(&folder, &hosts, authority);
    }

    fn domain(&self) -> String {
        format!("{}.registry.test", self.name)
    }

    /// Returns the registry in the name of the image.
    fn host(&self) -> String {
        let domain = self.domain();
        self.port.map_or(domain.clone(), |port| format!("{domain}:{port}"))
    }

    fn image(&self) -> String {
        format!("{}/{}/app:1", self.host(), self.name)
    }

    /// Returns the requests of tagpin or of the node for the image of the case, without repetitions, because a node
    /// retries after a failure.
    fn asked(&self, asked: &Asked, by_tagpin: bool) -> Vec<String> {
        let path = format!("/{}{TAG}", self.name);
        let mut all = Vec::new();
        for one in &*asked.lock().unwrap() {
            if one.by_tagpin == by_tagpin && one.text.contains(&path) && !all.contains(&one.text) {
                all.push(one.text.clone());
            }
        }
        all
    }
}

#[derive(Clone)]
struct Registry {
    name: String,
    says: Says,
    other: SocketAddr,
    asked: Asked,
}

impl Registry {
    async fn serve(self, listener: TcpListener, acceptor: Option<TlsAcceptor>) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (registry, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(async move {
                let Some(acceptor) = acceptor else { return registry.converse(stream).await };
                // A client that does not trust the certificate disconnects.
                if let Ok(stream) = acceptor.accept(stream).await {
                    registry.converse(stream).await;
                }
            });
        }
    }

    async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|request| {
            let answer = self.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        // A client that speaks TLS to a plain registry gets an error here.
        drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let (path, ended) = (request.uri().path_and_query().unwrap().as_str(), |builder: Builder| {
            builder.body(Body::empty()).unwrap()
        });
        if !request.uri().path().ends_with(TAG) {
            return ended(Response::builder().status(StatusCode::NOT_FOUND));
        }
        let header = |name| request.headers().get_all(name).iter().map(|value| value.to_str().unwrap());
        let tenants: Vec<_> = header("x-tenant").collect();
        let by_tagpin = header(USER_AGENT.as_str()).any(|agent| agent.starts_with("tagpin/"));
        let text = format!("{} {path} {tenants:?}", self.name);
        self.asked.lock().unwrap().push(Question { by_tagpin, text });
        let status = |status| Response::builder().status(status);
        let found = || status(StatusCode::OK).header(CONTENT_TYPE, MANIFEST_TYPE);
        let full = |builder: Builder| builder.body(Body::from(MANIFEST)).unwrap();
        match self.says {
            Says::GetOnly if request.method() == Method::HEAD => {
                ended(status(StatusCode::METHOD_NOT_ALLOWED))
            }
            Says::Has | Says::GetOnly => full(found().header("docker-content-digest", DIGEST)),
            Says::Bare => full(found()),
            Says::Lacks => {
                let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
                let builder = status(StatusCode::NOT_FOUND).header(CONTENT_TYPE, "application/json");
                builder.body(Body::from(body)).unwrap()
            }
            Says::Denies => ended(status(StatusCode::FORBIDDEN)),
            Says::Private => {
                ended(status(StatusCode::UNAUTHORIZED).header(WWW_AUTHENTICATE, "Basic realm=\"case\""))
            }
            Says::Limits => ended(status(StatusCode::TOO_MANY_REQUESTS)),
            Says::Breaks => ended(status(StatusCode::INTERNAL_SERVER_ERROR)),
            Says::Moved => {
                let there = format!("http://{}{path}", self.other);
                ended(status(StatusCode::TEMPORARY_REDIRECT).header(LOCATION, there))
            }
        }
    }
}

/// Runs `tagpin resolve` with the tree, and returns its output.
fn resolve(case: &Case, tree: &Path, from: &str) -> Value {
    let host = case.host();
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("registries.yaml");
    let text = format!(
        "registries: [{{ match: '{host}', allowPrivate: true, resolveFrom: {from} }}]\n\
         registriesFile: {{ format: certs.d, path: '{}' }}\n",
        tree.display()
    );
    fs::write(&config, text).unwrap();
    let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    tagpin.args(["resolve", &case.image(), "--output=json", "--registries"]).arg(&config);
    let output = tagpin.env_clear().env("HOME", home.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // tagpin refuses an entry that asks mirrors if there is no mirror; the registry itself is asked then.
    if said.contains("resolveFrom") && from != "upstream" {
        return resolve(case, tree, "upstream");
    }
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{host}: {said}"))
}

#[test]
fn the_node_asks_the_same_registries_for_a_tag() {
    let Some(rig) = rig::here("reads the configuration of a node") else { return };
    let _cluster = undisturbed();
    let cases = fs::read_to_string("tests/cases/registry/hosts.yaml").unwrap();
    let cases: Vec<Case> = serde_saphyr::from_str(&cases).unwrap();
    let runtime = Runtime::new().unwrap();
    let authority = Authority::new();
    let mut tree = Tree { root: rig.folder().join("etc/hosts"), added: Vec::new() };
    let asked = Asked::default();
    cases.iter().for_each(|case| runtime.block_on(case.start(&mut tree, &authority, &asked)));

    let namespace = Namespace::without_policy("mirrors");
    let containers: Vec<String> = cases.iter().map(|case| container(&case.name, &case.image())).collect();
    namespace
        .apply(&pod_with("node", &format!("{{ containers: [ {} ] }}", containers.join(", "))))
        .succeeded();
    wait_for("the node to try every image", LIMIT, || {
        let pod = namespace.get("pod", "node");
        let statuses = pod["status"]["containerStatuses"].as_array()?;
        let tried = |status: &&Value| {
            let reason = status["state"]["waiting"]["reason"].as_str();
            matches!(reason, Some("ErrImagePull" | "ImagePullBackOff"))
        };
        (statuses.iter().filter(tried).count() == cases.len()).then_some(())
    });
    namespace.kubectl(&["delete", "pod", "node", "--grace-period=0", "--force"]).succeeded();

    let mut wrong = Vec::new();
    for case in &cases {
        let answer = resolve(case, &tree.root, "mirrors-then-upstream");
        let (node, tagpin) = (case.asked(&asked, false), case.asked(&asked, true));
        if node != tagpin || node.is_empty() {
            wrong.push(format!(
                "{}: {}  the node asks {node:#?}\n  tagpin asks   {tagpin:#?}\n{answer:#}",
                case.name, case.hosts
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
