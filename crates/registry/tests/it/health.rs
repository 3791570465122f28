//! Hosts that hang, hiccup or are gone, with the real client: one hiccup costs a moment, a dead mirror costs one review
//! its head start, and a host that rests is tried by one request. `tests/cases/registry/health.yaml` has the rest.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tagpin_registry::{Client, Names, RegistryProfile, ResolveFrom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use super::support::{Heard, PATIENCE, TestNames, TestProfiles, ask, client, client_of, endpoint, profile};

/// The time limit of a validation.
const REVIEW: Duration = Duration::from_millis(2200);

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\n\
    docker-content-digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\
    content-length: 2\r\n\r\n";
const PRESENT: &str = "Present sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A registry that answers every request, or none.
struct Registry {
    address: SocketAddr,
    connected: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Registry {
    async fn start(answers: bool) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answers)
    }

    fn on(listener: TcpListener, answers: bool) -> Self {
        let (address, connected) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (mut tasks, count) = (JoinSet::new(), Arc::clone(&connected));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(stream, answers));
            }
        });
        Self { address, connected, _tasks: tasks }
    }

    fn authority(&self, name: &str) -> String {
        format!("{name}:{}", self.address.port())
    }

    fn connected(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, answers: bool) {
    let mut asked = [0; 4096];
    while stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
        if answers && stream.write_all(ANSWER.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Waits until this host rests.
async fn rests(client: &Client, authority: &str) {
    let mut look = interval(Duration::from_millis(20));
    let resting = async {
        while !client.resting().iter().any(|host| host.origin.ends_with(authority)) {
            look.tick().await;
        }
    };
    timeout(PATIENCE, resting).await.unwrap_or_else(|_| panic!("{authority} does not rest"));
}

/// A resolver that fails this often before it answers.
struct Failing(AtomicUsize);

#[async_trait]
impl Names for Failing {
    async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let failed = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match failed {
            Ok(_) => Err(io::Error::other("temporary failure in name resolution")),
            Err(_) => Ok(vec![[127, 0, 0, 1].into()]),
        }
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_once_is_tried_again_and_twice_makes_its_host_rest() {
    let registry = Registry::start(true).await;
    let domain = registry.authority("registry.test");
    for (failures, first, then) in [(1, PRESENT, PRESENT), (2, "Unavailable Dns", "Unavailable BreakerOpen")]
    {
        let profiles = TestProfiles::one(profile(endpoint(&format!("http://{domain}"))), &domain);
        let client = client(profiles, Failing(AtomicUsize::new(failures)), Arc::new(()));
        let image = format!("{domain}/team/app:1");
        assert_eq!(ask(&client, &image, &[]).await, first, "{failures}");
        assert_eq!(ask(&client, &image, &[]).await, then, "{failures}");
    }
}

#[tokio::test]
async fn a_host_that_takes_no_connection_is_tried_twice_and_then_rests() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    // Connections that nobody accepts fill the queue, so that the next ones hang.
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    let (client, domain) = client_of(&format!("http://registry.test:{}", address.port()));
    let image = format!("{domain}/team/app:1");
    assert_eq!(ask(&client, &image, &[]).await, "Unavailable Connect");
    let asked = Instant::now();
    assert_eq!(ask(&client, &image, &[]).await, "Unavailable BreakerOpen");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_mirror_that_hangs_costs_a_review_its_head_start_and_later_ones_nothing() {
    let (mirror, upstream) = (Registry::start(false).await, Registry::start(true).await);
    let domain = upstream.authority("registry.test");
    let dead = mirror.authority("other.test");
    let registry = profile(endpoint(&format!("http://{domain}")));
    let registry = RegistryProfile {
        mirrors: vec![endpoint(&format!("http://{dead}"))],
        resolve_from: ResolveFrom::MirrorsThenUpstream,
        // What ships, not the patience of the tests.
        head_start: RegistryProfile::of("registry.test").head_start,
        ..registry
    };
    let heard = Arc::new(Heard::default());
    let client = client(TestProfiles::one(registry, &domain), TestNames::default(), Arc::clone(&heard) as _);
    for repository in ["app", "other"] {
        let asked = Instant::now();
        let image = format!("{domain}/team/{repository}:1");
        assert_eq!(ask(&client, &image, &[]).await, PRESENT);
        let took = asked.elapsed();
        assert!(took >= Duration::from_millis(400) && took < REVIEW, "{took:?}");
    }
    assert_eq!(client.resting(), []);
    assert_eq!(mirror.connected(), 2);
    // The mirror is waited for although both look-ups have their answers.
    rests(&client, &dead).await;
    let before = mirror.connected();
    assert_eq!(ask(&client, &format!("{domain}/team/fifth:1"), &[]).await, PRESENT);
    assert_eq!(mirror.connected(), before);
    let heard = heard.0.lock().unwrap();
    assert!(heard.iter().any(|event| event.contains("EndpointSkipped")), "{heard:?}");
}

#[tokio::test]
async fn a_host_that_is_back_is_found_by_one_request() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let (client, domain) = client_of(&format!("http://registry.test:{}", address.port()));
    let image = format!("{domain}/team/app:1");
    assert_eq!(ask(&client, &image, &[]).await, "Unavailable Connect");
    assert_eq!(client.resting().len(), 1);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    let registry = Registry::on(socket.listen(16).unwrap(), true);
    assert_eq!(ask(&client, &image, &[]).await, "Unavailable BreakerOpen");
    assert_eq!(registry.connected(), 0);
    let mut look = interval(Duration::from_millis(50));
    let back = async {
        while ask(&client, &image, &[]).await != PRESENT {
            look.tick().await;
        }
    };
    timeout(PATIENCE, back).await.expect("a host that is back is found");
    assert_eq!((registry.connected(), client.resting().len()), (1, 0));
}
