//! Measures one look-up alone: answered from the cache, and asked of a registry on this machine. The second is compared
//! with the same HEAD request, sent by the same HTTP library without tagpin.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tagpin::serve::compose::IN_FLIGHT;
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::Fact;
use tagpin_domain::image::ImageRef;
use tagpin_registry::{Candidate, Client, Lookup as _, SystemNames, Transport};
use tokio::runtime;

use crate::figures::{goal, median};
use crate::hanging::{Here, Loopback, Manner};
use crate::review::digest;
use crate::tagpin_webhook::{Registry, around};

/// Answers from the cache in a round. All rounds together take less than the minute for which an answer is valid.
const WARM: u32 = 20_000;
/// Number of requests of each kind in a round.
const COLD: u32 = 500;
const ROUNDS: usize = 15;

pub(crate) fn measure() {
    warm();
    cold();
}

fn warm() {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let (_, composed) = around(Registry::new(Duration::ZERO), IN_FLIGHT);
    let resolve = composed.registries.resolve;
    let image = ImageRef::parse("ghcr.io/acme/api:1.4.7").unwrap();
    let asker = Asker::new("shop".to_owned(), Vec::new());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60 * 60);
    assert_eq!(runtime.block_on(resolve.resolve(&image, &asker, None, deadline)), Fact::Present(digest()));
    // The answer is in the cache, so nothing has to wait.
    let ask = || resolve.remembered(&image, &asker, None, tokio::time::Instant::now()).unwrap();
    let round = || {
        let started = Instant::now();
        for _ in 0..WARM {
            assert!(matches!(ask(), Fact::Present(_)));
        }
        started.elapsed().as_secs_f64() / f64::from(WARM) * 1e6
    };
    let each = median((0..ROUNDS).map(|_| round()));
    println!("\na question that is answered from memory, {WARM} of them, {ROUNDS} rounds");
    goal(format_args!("  {each:.2} µs each"), "under 2 µs", each < 2.0);
}

fn cold() {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (ratio, more) = runtime.block_on(async {
        let registry = Loopback::start(Manner::Answers).await;
        let transport = Transport::new(Arc::new(SystemNames));
        let client = Client::new(transport, Arc::new(Here), Arc::new(()));
        let bare = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut pairs = Vec::new();
        for _ in 0..=ROUNDS {
            pairs.push((by_client(&client, &registry).await, bare_head(&bare, &registry).await));
        }
        // The first pair opened the connections.
        let pairs = pairs.split_off(1);
        let ratio = median(pairs.iter().map(|(ours, theirs)| ours / theirs));
        (ratio, median(pairs.iter().map(|(ours, theirs)| ours - 1.05 * theirs)))
    });
    println!(
        "\na question to a registry on this machine beside a bare HEAD, {COLD} of each, {ROUNDS} rounds"
    );
    goal(
        format_args!("  {ratio:.2} of a HEAD, {more:.0} µs more than 1.05 of it"),
        "at most 150 µs more",
        more <= 150.0,
    );
}

/// Returns the microseconds that the client takes for one look-up.
async fn by_client(client: &Client, registry: &Loopback) -> f64 {
    let started = Instant::now();
    for tag in 0..COLD {
        let image = ImageRef::parse(&format!("{}/team/app:{tag}", registry.address)).unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let fact = client.look_up(&image, &[Candidate::anonymous()], deadline).await;
        assert_eq!(fact, Fact::Present(digest()));
    }
    started.elapsed().as_secs_f64() / f64::from(COLD) * 1e6
}

/// Returns the microseconds for one HEAD request whose digest is read.
async fn bare_head(client: &reqwest::Client, registry: &Loopback) -> f64 {
    let started = Instant::now();
    for tag in 0..COLD {
        let url = format!("http://{}/v2/team/app/manifests/{tag}", registry.address);
        let answer = client.head(url).send().await.unwrap();
        assert_eq!(answer.headers()["docker-content-digest"], digest().as_str());
    }
    started.elapsed().as_secs_f64() / f64::from(COLD) * 1e6
}
