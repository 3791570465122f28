//! Warm admission of one review over HTTPS, against the references, in alternating rounds.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tagpin::serve::compose::IN_FLIGHT;
use tokio::runtime::{self, Runtime};
use tokio::task::{LocalSet, yield_now};

use crate::client::Connection;
use crate::figures::{best, goal, median};
use crate::machine::ThreadClock;
use crate::review::{self, digest, patched};
use crate::server::{Authority, Server};
use crate::tagpin_webhook::{self, Registry};
use crate::usual_webhook::{self, Digests};

/// Connections at the same time, each with one request at a time.
const CONNECTIONS: usize = 8;
/// Requests to each webhook in a round.
const REQUESTS: usize = 3000;
const ROUNDS: usize = 21;

/// A webhook that takes part.
struct Contender {
    name: &'static str,
    server: Server,
    request: Rc<[u8]>,
    connections: Vec<Connection>,
    rounds: Vec<Round>,
}

/// What one round took.
struct Round {
    wall: Duration,
    server: Duration,
    client: Duration,
}

/// Everything a round needs on this side.
struct Bench {
    runtime: Runtime,
    authority: Authority,
    clock: ThreadClock,
}

/// Measures, prints and compares with the goals.
pub(crate) fn measure() {
    let bench = Bench {
        runtime: runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        authority: Authority::new(),
        clock: ThreadClock::here(),
    };
    let review = review::review();
    let registry = Registry::new(Duration::ZERO);
    let tagpin = bench.runtime.block_on(async { tagpin_webhook::router(registry.clone(), IN_FLIGHT) });
    let started = Instant::now();
    let (mut pin, answer) = bench.contender("tagpin /mutate", tagpin.clone(), "/mutate?timeout=5s", &review);
    let pinned = patched(&review, &answer);
    let text = pinned.to_string();
    assert_eq!(text.matches(digest().as_str()).count(), 3, "not every image is pinned: {text}");

    let mut after = review.clone();
    after["request"]["object"] = pinned.clone();
    let (mut validate, judged) = bench.contender("tagpin /validate", tagpin, "/validate?timeout=10s", &after);
    assert_eq!(patched(&after, &judged), pinned, "the pinned pod is not allowed");

    let digests = images(&review).map(|image| (image, digest().to_string())).collect::<Digests>();
    let (mut usual, said) =
        bench.contender("usual webhook", usual_webhook::usual(digests), "/mutate?timeout=5s", &review);
    assert_eq!(patched(&review, &said), pinned, "the references do not do the same");
    let uid = review["request"]["uid"].as_str().unwrap();
    let constant = usual_webhook::constant(&answer, uid);
    let (mut constant, said) = bench.contender("constant answer", constant, "/mutate?timeout=5s", &review);
    assert_eq!(said, answer);
    let bytes = usual_webhook::bytes(answer.clone());
    let (mut bytes, said) = bench.contender("bytes, unread", bytes, "/mutate?timeout=5s", &review);
    assert_eq!(said, answer);

    println!(
        "review   {} bytes, {CONNECTIONS} connections, HTTPS; a thread for each webhook and one for the client, which does not sleep; \
         {ROUNDS} rounds of {REQUESTS} requests to each; CPU time for a request, and its share of the round\n",
        review.to_string().len(),
    );
    for round in 0..=ROUNDS {
        let mut all = [&mut pin, &mut constant, &mut usual, &mut validate, &mut bytes];
        // Who comes after whom is not always the same.
        all.rotate_left(round % 5);
        for contender in all {
            let took = bench.round(contender);
            // The first is for warming up.
            if round > 0 {
                contender.rounds.push(took);
            }
        }
    }
    let minutes = usize::try_from(started.elapsed().as_secs() / 60).unwrap();
    assert!(registry.asked() <= 3 * (1 + minutes), "each tag is asked for once a minute");

    println!("{:<18}{:>12}{:>12}{:>16}{:>16}", "", "requests/s", "best", "server CPU", "client CPU");
    for contender in [&bytes, &constant, &pin, &usual, &validate] {
        contender.print();
    }
    println!(
        "\nratios of requests/s: the median of {ROUNDS} rounds; of the best rounds; of the server's CPU time"
    );
    compare(&pin, &constant, 0.75);
    compare(&pin, &usual, 1.0);
}

/// The images of the review's pod.
fn images(review: &Value) -> impl Iterator<Item = String> {
    let spec = &review["request"]["object"]["spec"];
    let lists = ["containers", "initContainers"].map(|list| spec[list].as_array().unwrap());
    lists.into_iter().flatten().map(|container| container["image"].as_str().unwrap().to_owned())
}

impl Bench {
    /// Starts a webhook, and asks it once.
    fn contender(
        &self,
        name: &'static str,
        router: axum::Router,
        path: &str,
        review: &Value,
    ) -> (Contender, Vec<u8>) {
        let server = Server::start(router, &self.authority);
        let request: Rc<[u8]> = review::request(path, review).into();
        let (connections, answer) = self.runtime.block_on(async {
            let mut connections = Vec::new();
            for _ in 0..CONNECTIONS {
                connections.push(Connection::open(server.address, &self.authority.trust).await);
            }
            let answer = connections[0].ask(&request).await.to_vec();
            (connections, answer)
        });
        (Contender { name, server, request, connections, rounds: Vec::new() }, answer)
    }

    fn round(&self, contender: &mut Contender) -> Round {
        let left = Rc::new(Cell::new(REQUESTS));
        let busy = Rc::new(Cell::new(CONNECTIONS));
        let connections = std::mem::take(&mut contender.connections);
        let local = LocalSet::new();
        let before = (contender.server.clock.used(), self.clock.used(), Instant::now());
        let tasks: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                let (left, busy, request) =
                    (Rc::clone(&left), Rc::clone(&busy), Rc::clone(&contender.request));
                local.spawn_local(async move {
                    while let Some(less) = left.get().checked_sub(1) {
                        left.set(less);
                        connection.ask(&request).await;
                    }
                    busy.set(busy.get() - 1);
                    connection
                })
            })
            .collect();
        // A client that sleeps must be woken by the server, at the server's expense, and only by one that keeps it waiting.
        local.spawn_local(async move {
            while busy.get() > 0 {
                yield_now().await;
            }
        });
        self.runtime.block_on(local);
        let wall = before.2.elapsed();
        let (server, client) = (contender.server.clock.used() - before.0, self.clock.used() - before.1);
        contender.connections =
            self.runtime.block_on(async { futures::future::try_join_all(tasks).await.unwrap() });
        Round { wall, server, client }
    }
}

impl Contender {
    fn rates(&self) -> impl Iterator<Item = f64> {
        self.rounds.iter().map(|round| REQUESTS as f64 / round.wall.as_secs_f64())
    }

    /// The server's CPU time for a request in µs.
    fn cpu(&self) -> impl Iterator<Item = f64> {
        self.rounds.iter().map(|round| round.server.as_secs_f64() * 1e6 / REQUESTS as f64)
    }

    fn print(&self) {
        let share = |part: fn(&Round) -> Duration| {
            median(self.rounds.iter().map(|round| part(round).as_secs_f64() / round.wall.as_secs_f64()))
        };
        let client = median(self.rounds.iter().map(|r| r.client.as_secs_f64() * 1e6 / REQUESTS as f64));
        println!(
            "{:<18}{:>12.0}{:>12.0}{:>8.1} µs {:>3.0} %{:>8.1} µs {:>3.0} %",
            self.name,
            median(self.rates()),
            best(self.rates()),
            median(self.cpu()),
            share(|round| round.server) * 100.0,
            client,
            share(|round| round.client) * 100.0,
        );
    }
}

fn compare(ours: &Contender, theirs: &Contender, wanted: f64) {
    let ratio = median(ours.rates().zip(theirs.rates()).map(|(ours, theirs)| ours / theirs));
    let best = best(ours.rates()) / best(theirs.rates());
    let cpu = median(theirs.cpu()) / median(ours.cpu());
    let names = format!("{} / {}", ours.name, theirs.name);
    goal(
        format_args!("  {names:<34}{ratio:>6.2}{best:>6.2}{cpu:>6.2}"),
        format_args!("at least {wanted:.2}"),
        ratio >= wanted,
    );
}
