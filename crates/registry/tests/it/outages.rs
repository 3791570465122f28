//! Every fault of a registry, each on a host of its own and all at once: known tags keep working, other look-ups are
//! answered in time, faulty hosts are not asked for a while, and a healthy one is not affected.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use jiff::Timestamp;
use tagpin_domain::asker::Asker;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::{Fact, LastKnown, Unavailable};
use tagpin_domain::image::ImageRef;
use tagpin_registry::{
    Around, Cache, Candidate, Client, Credentials, Held, Limit, RegistryProfile, assemble,
};
use tagpin_review::Resolve;
use tagpin_review::Seeds;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use super::support::{TestNames, TestProfiles, client, endpoint, profile};

/// Deadline of one look-up, far below the five seconds after which a registry is given up, so that a deadline that is
/// ignored shows on any machine.
const DEADLINE: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(4);

/// A fault of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Ill {
    Refused,
    NoName,
    BrokenTls,
    Failing,
    Limiting,
    Hanging,
    OneByteASecond,
}

const ALL: [Ill; 7] = [
    Ill::Refused,
    Ill::NoName,
    Ill::BrokenTls,
    Ill::Failing,
    Ill::Limiting,
    Ill::Hanging,
    Ill::OneByteASecond,
];

impl Ill {
    /// Returns the cause that a look-up reports; none for "too many requests".
    const fn cause(self) -> Option<Unavailable> {
        match self {
            Self::Refused => Some(Unavailable::Connect),
            Self::NoName => Some(Unavailable::Dns),
            Self::BrokenTls => Some(Unavailable::Tls),
            Self::Failing => Some(Unavailable::Status(503)),
            Self::Limiting => None,
            Self::Hanging | Self::OneByteASecond => Some(Unavailable::Timeout),
        }
    }
}

/// A host, and the number of connections to it.
struct Host {
    domain: String,
    connected: Arc<AtomicUsize>,
}

const HEALTHY: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\n\
    docker-content-digest: sha256:DIGEST\r\ncontent-length: 2\r\n\r\n";

fn digest() -> Digest {
    Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap()
}

/// Starts a registry; without a fault it is healthy.
async fn host(ill: Option<Ill>, tasks: &mut JoinSet<()>) -> (Host, RegistryProfile) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = if ill == Some(Ill::NoName) { "nowhere.test" } else { "registry.test" };
    let domain = format!("{name}:{port}");
    let scheme = if ill == Some(Ill::BrokenTls) { "https" } else { "http" };
    let profile = profile(endpoint(&format!("{scheme}://{domain}")));
    let connected = Arc::new(AtomicUsize::new(0));
    if ill == Some(Ill::Refused) {
        drop(listener);
    } else {
        let connected = Arc::clone(&connected);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connected.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(stream, ill));
            }
        });
    }
    (Host { domain, connected }, profile)
}

/// Sends one response, whatever is asked.
async fn serve(mut stream: TcpStream, ill: Option<Ill>) {
    let answer = match ill {
        None => HEALTHY.replace("DIGEST", &"a".repeat(64)),
        Some(Ill::Failing) => "HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n".to_owned(),
        Some(Ill::Limiting) => "HTTP/1.1 429 x\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n".to_owned(),
        Some(Ill::OneByteASecond) => HEALTHY.to_owned(),
        Some(Ill::BrokenTls) => "SSH-2.0-OpenSSH\r\n".to_owned(),
        Some(Ill::Refused | Ill::NoName | Ill::Hanging) => String::new(),
    };
    let mut asked = [0; 4096];
    while stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
        if ill == Some(Ill::OneByteASecond) {
            let mut second = interval(Duration::from_secs(1));
            for byte in answer.as_bytes() {
                second.tick().await;
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        } else if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Pins: the tag `known` was pinned an hour ago.
struct Pinned;

impl Seeds for Pinned {
    fn last_known(&self, image: &ImageRef, _: &Asker, _: Timestamp) -> Option<LastKnown> {
        let known = image.to_string().ends_with(":known");
        known.then(|| LastKnown { digest: digest(), age: Duration::from_secs(3600), artifact: false })
    }
}

struct Nobodys;

#[async_trait]
impl Credentials for Nobodys {
    async fn candidates(&self, _: &Asker, _: &ImageRef, _: Instant) -> Held {
        vec![Candidate::anonymous()].into()
    }

    fn at_hand(&self, _: &Asker, _: &ImageRef, _: &RegistryProfile) -> Option<Held> {
        None
    }
}

/// Looks up one image as a review does, and checks that it is never late.
async fn ask(cache: &Cache<Limit<Client>>, host: &Host, name: &str) -> Fact {
    let image = ImageRef::parse(&format!("{}/team/{name}", host.domain)).unwrap();
    let asker = Asker::new("shop".to_owned(), Vec::new());
    let asked = Instant::now();
    let fact = cache.resolve(&image, &asker, None, asked + DEADLINE).await;
    assert!(asked.elapsed() < LATE, "{} {name}: {:?}", host.domain, asked.elapsed());
    fact
}

/// Returns the cause of a fact, and whether it has a last known digest.
fn told(fact: &Fact) -> (Option<Unavailable>, bool) {
    match fact {
        Fact::Unavailable { cause, last_known, .. } => (Some(*cause), last_known.is_some()),
        Fact::RateLimited { last_known, .. } => (None, last_known.is_some()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_ails_registries_known_tags_go_on_others_are_answered_in_time_and_a_healthy_one_is_spared() {
    let (mut tasks, mut profiles, mut hosts) = (JoinSet::new(), HashMap::new(), HashMap::new());
    let (well, its_profile) = host(None, &mut tasks).await;
    profiles.insert(well.domain.clone(), Arc::new(its_profile));
    for ill in ALL {
        let (host, profile) = host(Some(ill), &mut tasks).await;
        profiles.insert(host.domain.clone(), Arc::new(profile));
        hosts.insert(ill, host);
    }
    let profiles = Arc::new(TestProfiles(profiles, Arc::default()));
    let client = client(profiles.clone(), TestNames::default(), Arc::new(()));
    let cache = assemble(
        client.clone(),
        Arc::default(),
        Around {
            credentials: Arc::new(Nobodys),
            profiles,
            seeds: Arc::new(Pinned),
            now: Timestamp::now,
            observer: Arc::new(()),
        },
    );

    // A host that is late or fails rests once that is true for two repositories.
    let names = ["app:known", "app:new", "other:new"];
    let ailing = join_all(ALL.into_iter().map(async |ill| {
        let host = &hosts[&ill];
        let facts = join_all(names.map(|name| ask(&cache, host, name))).await;
        for (name, fact) in names.iter().zip(&facts) {
            let (cause, known) = told(fact);
            assert_eq!(known, name.ends_with(":known"), "{ill:?} {name}: {fact:?}");
            // The first of the answers may have made the host rest for the others.
            let expected = cause == ill.cause() || cause == Some(Unavailable::BreakerOpen);
            assert!(expected, "{ill:?} {name}: {fact:?}");
        }
        assert!(facts.iter().any(|fact| told(fact).0 == ill.cause()), "{ill:?}: {facts:?}");

        // A registry with a rate limit says so itself. Any other one rests, and no look-up waits for it.
        if ill != Ill::Limiting {
            let mut look = interval(Duration::from_millis(20));
            let rests = async {
                while !client.resting().iter().any(|host_at| host_at.origin.ends_with(&host.domain)) {
                    look.tick().await;
                }
            };
            timeout(Duration::from_secs(30), rests).await.unwrap_or_else(|_| panic!("{ill:?} does not rest"));
        }
        let before = host.connected.load(Ordering::SeqCst);
        let fact = ask(&cache, host, "third:new").await;
        let left_alone = if ill == Ill::Limiting { None } else { Some(Unavailable::BreakerOpen) };
        assert_eq!(told(&fact), (left_alone, false), "{ill:?}: {fact:?}");
        assert_eq!(host.connected.load(Ordering::SeqCst), before, "{ill:?} was asked");
    }));
    let tags: Vec<String> = (0..20).map(|number| format!("app:1.0.{number}")).collect();
    let healthy = join_all(tags.iter().map(|tag| ask(&cache, &well, tag)));
    let (_, healthy) = tokio::join!(ailing, healthy);
    assert!(healthy.iter().all(|fact| *fact == Fact::Present(digest())), "{healthy:?}");
    assert_eq!(ask(&cache, &well, "app:2.0.0").await, Fact::Present(digest()));
}
