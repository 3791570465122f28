//! Registries behind a proxy on this machine, which resolves names itself: the proxy sees names alone, gets its own
//! credential, and leads to no host that nobody may reach.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use tagpin_registry::{
    CaBundle, Client, Credential, Endpoint, Network, NoProxy, ProxyWay, RegistryProfile, Transport,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::support::{AUTHORITY, TestNames, TestProfiles, ask, profile, provider};

const PRESENT: &str = "Present sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\n\
    docker-content-digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\
    content-length: 2\r\n\r\n";
/// `proxy-user:proxy-secret`
const BASIC: &str = "Basic cHJveHktdXNlcjpwcm94eS1zZWNyZXQ=";

/// A proxy or a registry; it ends when it is dropped.
struct Server {
    port: u16,
    /// The request lines so far.
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// The manner of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// A registry that speaks TLS and has every tag.
    Registry,
    /// A proxy that connects to a port of this machine, whatever the host.
    Proxy,
    /// A proxy that wants a password.
    WantsPassword,
    /// A proxy that decrypts: it answers in place of the registry.
    Decrypts,
    /// A proxy that refuses every host.
    Refuses,
}

async fn start(manner: Manner) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
    let (mut tasks, heard) = (JoinSet::new(), Arc::clone(&asked));
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, manner, Arc::clone(&heard)));
        }
    });
    Server { port, asked, _tasks: tasks }
}

/// Reads the head of a request.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(bytes).ok()
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, heard: Arc<Mutex<Vec<String>>>) {
    while let Some(request) = head(&mut stream).await {
        heard.lock().unwrap().push(request.lines().next().unwrap().to_owned());
        assert!(
            !request.contains("proxy-authorization"),
            "the credential of the proxy is for the proxy alone"
        );
        if stream.write_all(ANSWER.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, heard: Arc<Mutex<Vec<String>>>) {
    if manner == Manner::Registry {
        if let Ok(stream) = AUTHORITY.acceptor().accept(stream).await {
            answer(stream, heard).await;
        }
        return;
    }
    let Some(request) = head(&mut stream).await else { return };
    heard.lock().unwrap().push(request.lines().next().unwrap().to_owned());
    let authority = request.split(' ').nth(1).unwrap().to_owned();
    let password = request.lines().find_map(|line| line.strip_prefix("proxy-authorization: "));
    let refusal = match manner {
        Manner::WantsPassword if password != Some(BASIC) => Some("407 Proxy Authentication Required"),
        Manner::Refuses => Some("403 Forbidden"),
        _ => None,
    };
    if let Some(refusal) = refusal {
        let _ = stream.write_all(format!("HTTP/1.1 {refusal}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
        return;
    }
    if !request.starts_with("CONNECT ") {
        let _ = stream.write_all(ANSWER.as_bytes()).await;
        return;
    }
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    if manner == Manner::Decrypts {
        if let Ok(stream) = AUTHORITY.acceptor().accept(stream).await {
            answer(stream, heard).await;
        }
        return;
    }
    let port: u16 = authority.rsplit_once(':').unwrap().1.parse().unwrap();
    if let Ok(mut registry) = TcpStream::connect(("127.0.0.1", port)).await {
        let _ = copy_bidirectional(&mut stream, &mut registry).await;
    }
}

/// Returns a client behind this proxy. The registry at this URL trusts the CA of the tests if `trusts` is true; nothing
/// may be private.
fn behind(
    proxy: u16,
    credential: Option<Credential>,
    registry: &str,
    trusts: bool,
    network: Network,
) -> Client {
    behind_address(SocketAddr::from(([127, 0, 0, 1], proxy)), credential, registry, trusts, network)
}

fn behind_address(
    proxy: SocketAddr,
    credential: Option<Credential>,
    registry: &str,
    trusts: bool,
    network: Network,
) -> Client {
    provider();
    let way = ProxyWay::new(&format!("http://{proxy}"), credential).unwrap();
    let network = Network { proxy: Some(Arc::new(way)), ..network };
    let mut endpoint = Endpoint::new(registry.parse().unwrap()).unwrap();
    endpoint.tls.ca = trusts.then(|| AUTHORITY.bundle());
    let domain = registry.split_once("//").unwrap().1.to_owned();
    let profiles: HashMap<String, Arc<RegistryProfile>> =
        HashMap::from([(domain, Arc::new(profile(endpoint)))]);
    // The resolver fails the test for a name that it does not know: the proxy resolves the registry's.
    let names = TestNames(HashMap::new());
    Client::new(
        Transport::new(Arc::new(names)),
        Arc::new(TestProfiles(profiles, Arc::new(network))),
        Arc::new(()),
    )
}

fn password() -> Credential {
    Credential::basic("proxy-user".to_owned(), "proxy-secret".into())
}

#[tokio::test]
async fn a_registry_is_asked_through_the_proxy_which_resolves_its_name() {
    let (registry, proxy) = (start(Manner::Registry).await, start(Manner::Proxy).await);
    let domain = format!("registry.test:{}", registry.port);
    let client = behind(proxy.port, None, &format!("https://{domain}"), true, Network::default());
    assert_eq!(ask(&client, &format!("{domain}/team/app:1"), &[]).await, PRESENT);
    assert_eq!(proxy.asked(), [format!("CONNECT {domain} HTTP/1.1")]);
    assert_eq!(registry.asked(), ["HEAD /v2/team/app/manifests/1 HTTP/1.1"]);
}

#[tokio::test]
async fn the_proxy_gets_its_credential_and_its_refusal_is_a_cause_of_its_own() {
    let (registry, proxy) = (start(Manner::Registry).await, start(Manner::WantsPassword).await);
    let domain = format!("registry.test:{}", registry.port);
    for (credential, scheme, fact) in [
        (Some(password()), "https", PRESENT),
        (None, "https", "Unavailable Proxy"),
        (Some(password()), "http", PRESENT),
        (None, "http", "Unavailable Proxy"),
    ] {
        let client =
            behind(proxy.port, credential, &format!("{scheme}://{domain}"), true, Network::default());
        assert_eq!(ask(&client, &format!("{domain}/team/app:1"), &[]).await, fact, "{scheme}");
    }
    assert_eq!(registry.asked().len(), 1);
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_gone_is_tried_twice_and_then_the_way_rests() {
    for manner in [Some(Manner::Refuses), None] {
        let proxy = start(manner.unwrap_or(Manner::Proxy)).await;
        let port = proxy.port;
        let asked = Arc::clone(&proxy.asked);
        let _proxy = manner.map(|_| proxy);
        let client = behind(port, None, "https://registry.test:8443", true, Network::default());
        let image = "registry.test:8443/team/app:1";
        assert_eq!(ask(&client, image, &[]).await, "Unavailable Proxy");
        assert_eq!(ask(&client, image, &[]).await, "Unavailable BreakerOpen");
        assert_eq!(asked.lock().unwrap().len(), if manner.is_some() { 2 } else { 0 });
    }
}

#[tokio::test]
async fn hosts_of_no_proxy_are_asked_directly_under_the_rules_for_addresses() {
    let proxy = start(Manner::Proxy).await;
    for (rule, image, fact) in [
        (".test", "registry.test:8443/a:1", "AddressForbidden registry.test:8443 Registry"),
        ("10.0.0.0/8", "10.0.0.1:8443/a:1", "AddressForbidden 10.0.0.1:8443 Registry"),
    ] {
        let mut no_proxy = NoProxy::default();
        no_proxy.add(rule).unwrap();
        let registry = format!("https://{}", image.split_once('/').unwrap().0);
        let client = behind(proxy.port, None, &registry, true, Network { no_proxy, ..Network::default() });
        assert_eq!(ask(&client, image, &[]).await, fact);
    }
    assert!(proxy.asked().is_empty());
}

#[tokio::test]
async fn a_proxy_leads_to_no_private_address_and_no_name_inside_a_cluster() {
    let proxy = start(Manner::Proxy).await;
    for (host, never) in [
        ("10.0.0.1:8443", ""),
        ("[fd00::1]:8443", ""),
        ("127.0.0.1:8443", ""),
        ("169.254.169.254:8443", " never"),
        ("metadata.google.internal:8443", " never"),
        ("registry.shop.svc:8443", ""),
        ("registry.shop.svc.cluster.local:8443", ""),
        ("host.internal:8443", ""),
    ] {
        let client = behind(proxy.port, None, &format!("https://{host}"), true, Network::default());
        let fact = ask(&client, &format!("{host}/team/app:1"), &[]).await;
        assert_eq!(fact, format!("AddressForbidden {host} Registry{never}"));
    }
    assert!(proxy.asked().is_empty());
}

#[tokio::test]
async fn a_proxy_that_decrypts_needs_its_authority() {
    let proxy = start(Manner::Decrypts).await;
    let ca: Option<CaBundle> = Some(AUTHORITY.bundle());
    for (ca, fact) in [(None, "Unavailable Tls"), (ca, PRESENT)] {
        let client =
            behind(proxy.port, None, "https://registry.test", false, Network { ca, ..Network::default() });
        assert_eq!(ask(&client, "registry.test/team/app:1", &[]).await, fact);
    }
}

/// Tinyproxy as a process of the test. It wants the password, and passes everything on to a proxy of the test, which
/// knows the names. It is killed when it is dropped.
struct Tinyproxy {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Tinyproxy {
    fn start(next: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Its port cannot be left to the system. No other process has this address.
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let address = SocketAddr::from((Ipv4Addr::new(127, high.wrapping_add(2), middle, low), 3128));
        let config = folder.path().join("tinyproxy.conf");
        let text = format!(
            "Listen {}\nPort {}\nBasicAuth proxy-user proxy-secret\nUpstream http 127.0.0.1:{next}\n",
            address.ip(),
            address.port()
        );
        std::fs::write(&config, text).unwrap();
        let mut tinyproxy = Command::new("tinyproxy");
        tinyproxy.arg("-d").arg("-c").arg(config).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child =
            tinyproxy.spawn().expect("tinyproxy is installed: `cargo xtask packages` installs it");
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(said.any(|line| line.contains("Accepting connections")), "tinyproxy listens");
        // Its further lines must be read, or it would wait for a reader.
        thread::spawn(move || said.for_each(drop));
        Self { child, address, _folder: folder }
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn tinyproxy_leads_to_registries_also_through_one_that_decrypts() {
    let registry = start(Manner::Registry).await;
    let domain = format!("registry.test:{}", registry.port);
    let decrypted = || Network { ca: Some(AUTHORITY.bundle()), ..Network::default() };
    let image = format!("{domain}/team/app:1");
    for (next, trusts, network) in
        [(Manner::Proxy, true, Network::default()), (Manner::Decrypts, false, decrypted())]
    {
        let next = start(next).await;
        let tinyproxy = Tinyproxy::start(next.port);
        let behind = |credential, scheme: &str, network| {
            behind_address(tinyproxy.address, credential, &format!("{scheme}://{domain}"), trusts, network)
        };
        for scheme in ["https", "http"] {
            let refused = behind(None, scheme, network.clone());
            assert_eq!(ask(&refused, &image, &[]).await, "Unavailable Proxy", "{scheme}");
            let client = behind(Some(password()), scheme, network.clone());
            assert_eq!(ask(&client, &image, &[]).await, PRESENT, "{scheme}");
        }
        let asked = next.asked();
        let ways = [format!("CONNECT {domain} "), format!("HEAD http://{domain}/")];
        assert!(ways.iter().all(|way| asked.iter().any(|line| line.starts_with(way))), "{asked:?}");
    }
    assert_eq!(registry.asked(), ["HEAD /v2/team/app/manifests/1 HTTP/1.1"]);
}
