//! Warm admission of one review over HTTPS, compared with the references in alternating rounds. Each webhook is a
//! process.
//!
//! All webhooks share one core and are asked in turn. The client has another core, and does not leave it. So the rate
//! is what one core answers. The client costs the same for all webhooks, and its cost does not hide their differences.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, thread};

use futures::future::{join_all, try_join_all};
use rustls::ClientConfig;
use serde_json::Value;
use tagpin_domain::mark;
use tokio::runtime::{self, Runtime};
use tokio::task::{AbortHandle, JoinHandle, LocalSet, yield_now};

use crate::client::Connection;
use crate::figures::{goal, median};
use crate::machine::{ProcessClock, ThreadClock, cores, on_core, stay_on_core};
use crate::published;
use crate::reference::{Kind, Reference};
use crate::replica::Replica;
use crate::review::{self, digest, patched};
use crate::serving::Serving;

/// Numbers of connections, each with one request at a time.
const CONNECTIONS: [usize; 3] = [1, 8, 32];
/// Number of requests to each webhook in a round.
const REQUESTS: usize = 2000;
const ROUNDS: usize = 15;
/// The environment variable with the path of another binary to measure.
const OTHER: &str = "TAGPIN_BENCH_BINARY";
/// Time by which the p99 may exceed that of the constant answer.
const SLOWER: Duration = Duration::from_millis(1);

/// A webhook that is measured.
struct Contender {
    name: &'static str,
    clock: ProcessClock,
    address: SocketAddr,
    trust: Arc<ClientConfig>,
    request: Rc<[u8]>,
    connections: Vec<Connection>,
    rounds: Vec<Round>,
}

/// The figures of one round.
struct Round {
    wall: Duration,
    server: Duration,
    client: Duration,
    p50: Duration,
    p99: Duration,
}

/// The client's side of a round: its runtime and its clock.
struct Bench {
    runtime: Runtime,
    clock: ThreadClock,
}

/// Measures the webhooks, prints the figures and compares them with the goals.
pub(crate) fn measure() {
    let binary = published::binary();
    let other = env::var_os(OTHER).map(PathBuf::from);
    let [for_webhooks, for_client] = cores();
    let measured = thread::spawn(move || {
        stay_on_core(for_client);
        // The servers that the replicas ask run on this runtime, because the client shares its own thread with nothing.
        let around = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let start = |binary| around.block_on(Replica::start(on_core(for_webhooks), binary));
        let other = other.as_deref().map(start);
        compare_all(&start(&binary), other.as_ref(), for_webhooks);
    });
    measured.join().unwrap();
}

fn compare_all(tagpin: &Replica, other: Option<&Replica>, core: usize) {
    let bench = Bench {
        runtime: runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        clock: ThreadClock::here(),
    };
    let started = Instant::now();
    let review = review::review();
    let replica = |name, replica: &Replica, path, review: &Value| {
        let Serving { process, webhook, trust, .. } = &replica.serving;
        bench.contender(name, process.id(), ([127, 0, 0, 1], *webhook).into(), trust, path, review)
    };
    let reference = |name, kind| {
        let reference = Reference::start(on_core(core), kind);
        let (address, trust) = (reference.address, &reference.trust);
        let (contender, answer) =
            bench.contender(name, reference.id(), address, trust, "/mutate?timeout=5s", &review);
        (reference, contender, answer)
    };

    let (pin, answer) = replica("tagpin /mutate", tagpin, "/mutate?timeout=5s", &review);
    let mut pinned = patched(&review, &answer);
    let text = pinned.to_string();
    assert_eq!(
        text.matches(&format!("@{}", digest().as_str())).count(),
        3,
        "not every image is pinned: {text}"
    );
    let mut after = review.clone();
    after["request"]["object"] = pinned.clone();
    let (validate, judged) = replica("tagpin /validate", tagpin, "/validate?timeout=10s", &after);
    assert_eq!(patched(&after, &judged), pinned, "the pinned pod is not allowed");
    let other = other.map(|other| replica("other /mutate", other, "/mutate?timeout=5s", &review).0);

    let digests = images(&review).map(|image| (image, digest().to_string())).collect();
    let (_usual, usual, said) = reference("usual webhook", Kind::Usual { digests });
    let mark = pinned["metadata"]["annotations"].as_object_mut().unwrap().remove(mark::ANNOTATION);
    assert!(mark.is_some(), "the pod has no mark: {text}");
    assert_eq!(patched(&review, &said), pinned, "the references do not do the same");
    let text = String::from_utf8(answer.clone()).unwrap();
    let uid = review["request"]["uid"].as_str().unwrap().to_owned();
    let (_constant, constant, said) =
        reference("constant answer", Kind::Constant { answer: text.clone(), uid });
    assert_eq!(said, answer);
    let (_bytes, bytes, said) = reference("bytes, unread", Kind::Bytes { answer: text });
    assert_eq!(said, answer);

    println!(
        "review   {} bytes, HTTPS; a process for each webhook, all on one core, and the client on another, which does \
         not sleep; {ROUNDS} rounds of {REQUESTS} requests to each",
        review.to_string().len(),
    );
    let mut all = vec![bytes, constant, pin, usual, validate];
    all.extend(other);
    for connections in CONNECTIONS {
        bench.rounds(&mut all, connections);
        print(&all, connections);
    }
    let minutes = usize::try_from(started.elapsed().as_secs() / 60).unwrap();
    let asked = tagpin.registry.reached();
    assert!(asked <= 3 * (1 + minutes), "each tag is asked for once a minute, and not {asked} times");
}

/// Returns the images of the review's pod.
fn images(review: &Value) -> impl Iterator<Item = String> {
    let spec = &review["request"]["object"]["spec"];
    let lists = ["containers", "initContainers"].map(|list| spec[list].as_array().unwrap());
    lists.into_iter().flatten().map(|container| container["image"].as_str().unwrap().to_owned())
}

impl Bench {
    /// Asks a webhook once, and returns its answer.
    fn contender(
        &self,
        name: &'static str,
        process: u32,
        address: SocketAddr,
        trust: &Arc<ClientConfig>,
        path: &str,
        review: &Value,
    ) -> (Contender, Vec<u8>) {
        let request: Rc<[u8]> = review::request(path, review).into();
        let answer = self
            .runtime
            .block_on(async { Connection::open(address, trust).await.ask(&request).await.to_vec() });
        let clock = ProcessClock::of(process);
        let (trust, connections, rounds) = (Arc::clone(trust), Vec::new(), Vec::new());
        (Contender { name, clock, address, trust, request, connections, rounds }, answer)
    }

    /// Asks all webhooks in turn, over this number of connections at the same time.
    fn rounds(&self, all: &mut [Contender], connections: usize) {
        for contender in &mut *all {
            contender.rounds.clear();
            // The connections are new each time, because a webhook closes a connection that has been idle for some
            // time. Each asks once at the start, because a webhook closes a new one that asks nothing within seconds.
            let opened = (0..connections).map(async |_| {
                let mut connection = Connection::open(contender.address, &contender.trust).await;
                connection.ask(&contender.request).await;
                connection
            });
            contender.connections = self.runtime.block_on(join_all(opened));
        }
        for round in 0..=ROUNDS {
            // The order rotates, so that no webhook is always first.
            let count = all.len();
            for position in 0..count {
                let contender = &mut all[(position + round) % count];
                let figures = self.round(contender);
                // The first round is for warming up.
                if round > 0 {
                    contender.rounds.push(figures);
                }
            }
        }
    }

    fn round(&self, contender: &mut Contender) -> Round {
        let left = Rc::new(Cell::new(REQUESTS));
        let latencies = Rc::new(RefCell::new(Vec::with_capacity(REQUESTS)));
        let connections = std::mem::take(&mut contender.connections);
        let local = LocalSet::new();
        let before = (contender.clock.used(), self.clock.used(), Instant::now());
        let tasks: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                let (left, request) = (Rc::clone(&left), Rc::clone(&contender.request));
                let latencies = Rc::clone(&latencies);
                local.spawn_local(async move {
                    while let Some(less) = left.get().checked_sub(1) {
                        left.set(less);
                        let asked = Instant::now();
                        connection.ask(&request).await;
                        latencies.borrow_mut().push(asked.elapsed());
                    }
                    connection
                })
            })
            .collect();
        // The client does not sleep. Otherwise a server that keeps it waiting would have to wake it, at the server's
        // expense.
        let asking: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        local.spawn_local(async move {
            while !asking.iter().all(AbortHandle::is_finished) {
                yield_now().await;
            }
        });
        self.runtime.block_on(local);
        let wall = before.2.elapsed();
        let (server, client) = (contender.clock.used().since(&before.0), self.clock.used() - before.1);
        contender.connections = self.runtime.block_on(try_join_all(tasks)).unwrap();
        let mut latencies = latencies.take();
        latencies.sort_unstable();
        let [p50, p99] = [50, 99].map(|percent| latencies[REQUESTS * percent / 100]);
        Round { wall, server, client, p50, p99 }
    }
}

impl Contender {
    fn rates(&self) -> impl Iterator<Item = f64> {
        self.rounds.iter().map(|round| REQUESTS as f64 / round.wall.as_secs_f64())
    }

    /// Returns the median of a time, in µs.
    fn micros(&self, time: fn(&Round) -> Duration) -> f64 {
        median(self.rounds.iter().map(|round| time(round).as_secs_f64() * 1e6))
    }

    fn print(&self) {
        let requests = REQUESTS as f64;
        println!(
            "{:<18}{:>12.0}{:>10.0} µs{:>10.0} µs{:>10.1} µs{:>10.1} µs",
            self.name,
            median(self.rates()),
            self.micros(|round| round.p50),
            self.micros(|round| round.p99),
            self.micros(|round| round.server) / requests,
            self.micros(|round| round.client) / requests,
        );
    }
}

fn print(all: &[Contender], connections: usize) {
    let what = if connections == 1 { "connection" } else { "connections" };
    println!(
        "\n{:<18}{:>12}{:>13}{:>13}{:>13}{:>13}",
        format!("{connections} {what}"),
        "requests/s",
        "p50",
        "p99",
        "server CPU",
        "client CPU"
    );
    all.iter().for_each(Contender::print);
    println!("  ratios of requests/s: the median of the rounds; of the server's CPU time for a request");
    let [_, constant, pin, usual, _, other @ ..] = all else { panic!("some webhook is missing") };
    for pin in [pin].into_iter().chain(other) {
        compare(pin, constant, &[0.75, 0.85]);
        compare(pin, usual, &[1.0]);
        let more = pin.micros(|round| round.p99) - constant.micros(|round| round.p99);
        goal(
            format_args!("  {:<34}{more:>9.0} µs", format!("{}, p99 over the constant's", pin.name)),
            format_args!("at most {SLOWER:?}"),
            more <= SLOWER.as_secs_f64() * 1e6,
        );
    }
}

fn compare(ours: &Contender, theirs: &Contender, goals: &[f64]) {
    let ratio = median(ours.rates().zip(theirs.rates()).map(|(ours, theirs)| ours / theirs));
    let cpu = theirs.micros(|round| round.server) / ours.micros(|round| round.server);
    let names = format!("{} / {}", ours.name, theirs.name);
    for wanted in goals {
        goal(
            format_args!("  {names:<34}{ratio:>6.2}{cpu:>6.2}"),
            format_args!("at least {wanted:.2}"),
            ratio >= *wanted,
        );
    }
}
