//! Registries that hang or refuse too many requests, beside ones that work: measures what they cost look-ups at the
//! others. The client is the real one. All registries are on this machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use tagpin::serve::compose::IN_FLIGHT;
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::Fact;
use tagpin_domain::image::ImageRef;
use tagpin_kube::Cluster;
use tagpin_objects::kinds::Kinds;
use tagpin_registry::{
    Cache, Client, Endpoint, Limit, Network, Profiles, RegistryProfile, SystemNames, Transport,
};
use tagpin_review::Resolve as _;
use tagpin_testing::NoObjects;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::figures::{goal, median};
use crate::review::digest;
use crate::tagpin_webhook::{Registry, composed};

/// Number of tags that are looked up in a round, and number of look-ups in flight.
const TAGS: (usize, usize) = (2000, 8);
/// Number of look-ups that the bad registry leaves open during a round, including those that wait.
const OPEN: usize = 256;
/// Numbers of bad registries, each with the number of open look-ups that reach one of them: the maximum for one
/// namespace at one host, and at all hosts together. The others wait for a permit.
const BAD: [(usize, usize); 2] = [(1, 8), (64, 24)];
/// The namespace that asks the bad registries, and the one that asks the good registry.
const NAMESPACES: (&str, &str) = ("loud", "shop");
const ROUNDS: usize = 15;
/// Time until a near registry on the network answers.
const AFAR: Duration = Duration::from_millis(4);

/// The way in which a registry answers requests.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    /// The registry has every tag.
    Answers,
    /// The registry has every tag, and answers as late as a near registry on the network.
    AnswersFromAfar,
    /// The registry never answers.
    Hangs,
    /// The registry answers each request with status 429.
    Limits,
}

/// A registry, and the number of requests that have reached it.
pub(crate) struct Loopback {
    /// Host and port.
    pub(crate) address: String,
    reached: watch::Receiver<usize>,
}

/// The profiles of registries on this machine, which are asked over plain HTTP.
pub(crate) struct Here;

impl Profiles for Here {
    fn profile(&self, domain: &str) -> Arc<RegistryProfile> {
        let mut upstream = Endpoint::new(format!("http://{domain}").parse().unwrap()).unwrap();
        upstream.allow_private = true;
        Arc::new(RegistryProfile {
            upstream: Some(upstream),
            looks_inside: false,
            ..RegistryProfile::of(domain)
        })
    }

    fn network(&self) -> Arc<Network> {
        Arc::default()
    }
}

/// Compares rounds with and without registries that hang, in turns.
pub(crate) fn measure() {
    for (number, reach) in BAD {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let ratios = runtime.block_on(async {
            let good = Loopback::start(Manner::Answers).await;
            let mut bad = Vec::new();
            for _ in 0..number {
                bad.push(Loopback::start(Manner::Hangs).await);
            }
            round(&good, &[], 0).await;
            let mut ratios = Vec::new();
            for _ in 0..ROUNDS {
                let alone = round(&good, &[], 0).await;
                let beside = round(&good, &bad, reach).await;
                ratios.push(alone.as_secs_f64() / beside.as_secs_f64());
            }
            ratios
        });
        runtime.shutdown_background();
        let ratio = median(ratios);
        println!(
            "\n{} look-ups of different tags beside {number} registries that hang, of which another namespace leaves \
             {OPEN} look-ups open, {ROUNDS} rounds",
            TAGS.0
        );
        goal(format_args!("  speed beside them / alone {ratio:.2}"), "at least 0.95", ratio >= 0.95);
    }
}

/// Returns the time that all look-ups at the good registry take, while as many look-ups reach the bad registries.
/// Look-ups that an earlier round left open are not in the cache.
async fn round(good: &Loopback, bad: &[Loopback], reach: usize) -> Duration {
    let cache = assembled();
    let mut open = Vec::new();
    let reached = || bad.iter().map(Loopback::reached).sum::<usize>();
    let before = reached();
    for (tag, bad) in bad.iter().cycle().take(OPEN).enumerate() {
        let (cache, image) = (Arc::clone(&cache), format!("{}/app:{tag}", bad.address));
        open.push(tokio::spawn(async move { ask_for(NAMESPACES.0, &cache, &image).await }));
    }
    while reached() < before + reach {
        sleep(Duration::from_millis(1)).await;
    }
    let started = Instant::now();
    let answered = stream::iter(0..TAGS.0)
        .map(|tag| {
            let (cache, image) = (&cache, format!("{}/app:{tag}", good.address));
            async move { ask(cache, &image).await }
        })
        .buffer_unordered(TAGS.1);
    let right = answered.filter(|fact| std::future::ready(*fact == Fact::Present(digest()))).count().await;
    let took = started.elapsed();
    assert_eq!(right, TAGS.0, "the good registry was not understood");
    for question in open {
        assert!(!question.is_finished(), "a registry that hangs has answered");
        question.abort();
    }
    took
}

/// Returns the real client behind the limits and an empty cache.
pub(crate) fn assembled() -> Arc<Cache<Limit<Client>>> {
    let cluster = Arc::new(Cluster::new(Kinds::default(), NoObjects));
    let client = Client::new(Transport::new(Arc::new(SystemNames)), Arc::new(Here), Arc::new(()));
    let suggest = Arc::new(Registry::new(Duration::ZERO));
    composed(&cluster, IN_FLIGHT, |_| (client, suggest)).cache
}

pub(crate) async fn ask(cache: &Cache<Limit<Client>>, image: &str) -> Fact {
    ask_for(NAMESPACES.1, cache, image).await
}

async fn ask_for(namespace: &str, cache: &Cache<Limit<Client>>, image: &str) -> Fact {
    let asker = Asker::new(namespace.to_owned(), Vec::new());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    cache.resolve(&ImageRef::parse(image).unwrap(), &asker, None, deadline).await
}

impl Loopback {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (count, reached) = watch::channel(0);
        let count = Arc::new(count);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, manner, Arc::clone(&count)));
            }
        });
        Self { address, reached }
    }

    /// Returns the number of requests that have reached this registry.
    pub(crate) fn reached(&self) -> usize {
        *self.reached.borrow()
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, count: Arc<watch::Sender<usize>>) {
    let present = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.index.v1+json\r\nContent-Length: 856\r\n\
         Docker-Content-Digest: {}\r\n\r\n",
        digest()
    );
    let answer = match manner {
        Manner::Answers | Manner::AnswersFromAfar => present.as_str(),
        Manner::Limits => "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nRetry-After: 30\r\n\r\n",
        Manner::Hangs => "",
    };
    let mut head = Vec::new();
    while stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        count.send_modify(|count| *count += 1);
        if matches!(manner, Manner::AnswersFromAfar) {
            sleep(AFAR).await;
        }
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
