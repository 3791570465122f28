//! A load on admission in which every request is counted: pods and Deployments, compliant and forbidden in turn.
//!
//! The pods have a scheduling gate, so that no node has to run them. The pods that controllers create for the
//! Deployments are counted too, by a watch.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Sub;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{LIMIT, Namespace, kubectl, wait_for};

/// Minimum number of requests of a load; fewer prove nothing.
const ENOUGH: usize = 500;
/// Number of workers, and the time from one request of a worker to the next.
const WORKERS: usize = 4;
const PACE: Duration = Duration::from_millis(90);
/// Time between two clean-ups.
const SWEEP: Duration = Duration::from_secs(4);
/// Words that the refusal of a forbidden request must contain.
const OURS: [&str; 2] = ["validate.tagpin.dev", "[TagForbidden]"];

/// A load that sends requests until it is ended.
pub(crate) struct Load {
    runtime: Runtime,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    seen: Arc<Mutex<Counts>>,
    before: ApiServer,
}

/// The outcomes of all requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// Compliant pods that were stored with a digest.
    pub(crate) pinned: usize,
    /// Compliant Deployments that were stored.
    pub(crate) applied: usize,
    /// Forbidden requests that were refused with tagpin's message.
    pub(crate) refused: usize,
    /// All other requests.
    pub(crate) lost: Vec<Lost>,
    /// The UIDs of the pods that controllers created, with a digest (true) and without.
    pub(crate) children: BTreeMap<bool, BTreeSet<String>>,
    /// The digest of each tag; the tags do not move.
    digests: BTreeMap<String, String>,
}

/// A request with another outcome than it must have.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    pub(crate) kind: LostKind,
    pub(crate) sent: Instant,
    pub(crate) answered: Instant,
}

/// The way in which a request was lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LostKind {
    /// A compliant pod without a digest.
    Unpinned,
    /// A forbidden object that was stored.
    Admitted,
    /// The API server answered with an error that is not tagpin's refusal.
    Answered(String),
    /// No answer came.
    Unanswered,
}

/// The API server's own counters for tagpin's webhooks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ApiServer {
    /// The start of the API server and of its counters, in seconds since 1970.
    started: f64,
    /// Calls that failed, so that the request passed without tagpin.
    pub(crate) failed_open: usize,
    /// Requests that tagpin's webhooks refused.
    pub(crate) rejected: usize,
}

/// The result of a load.
#[derive(Debug)]
pub(crate) struct Result {
    pub(crate) counts: Counts,
    /// The API server's counters over the time of the load.
    pub(crate) api_server: ApiServer,
}

impl Load {
    /// Starts a load in this namespace, and returns once answers arrive.
    pub(crate) fn start(namespace: &Namespace) -> Self {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async { client().await });
        let (stop, seen) = (CancellationToken::new(), Arc::new(Mutex::new(Counts::default())));
        let before = ApiServer::now();
        let mut tasks = JoinSet::new();
        for number in 0..WORKERS {
            let worker = Worker {
                number,
                pods: Api::namespaced(client.clone(), &namespace.name),
                deployments: Api::namespaced(client.clone(), &namespace.name),
                seen: Arc::clone(&seen),
            };
            tasks.spawn_on(worker.ask(stop.clone()), runtime.handle());
        }
        let pods: Api<Pod> = Api::namespaced(client, &namespace.name);
        tasks.spawn_on(sweep(pods.clone(), stop.clone()), runtime.handle());
        tasks.spawn_on(children(pods, Arc::clone(&seen), stop.clone()), runtime.handle());
        let load = Self { runtime, stop, tasks, seen, before };
        load.goes_on(WORKERS * 4);
        load
    }

    /// Waits for this many more requests with the right outcome.
    #[track_caller]
    pub(crate) fn goes_on(&self, requests: usize) {
        let wanted = self.so_far().good() + requests;
        wait_for("more good requests", LIMIT, || (self.so_far().good() >= wanted).then_some(()));
    }

    /// Returns the counts so far.
    pub(crate) fn so_far(&self) -> Counts {
        lock(&self.seen).clone()
    }

    /// Ends the load once there were enough requests, and returns the result.
    #[track_caller]
    pub(crate) fn end(mut self) -> Result {
        wait_for("enough requests", LIMIT, || (self.so_far().requests() >= ENOUGH).then_some(()));
        self.stop.cancel();
        let tasks = std::mem::take(&mut self.tasks);
        self.runtime.block_on(tasks.join_all());
        let result = Result { counts: self.so_far(), api_server: ApiServer::now() - self.before };
        // `eprintln!` would be captured by the test harness, but the result is worth reading also if the test passes.
        drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{result}\n")));
        result
    }
}

impl Counts {
    /// Returns the number of requests with the right outcome.
    pub(crate) fn good(&self) -> usize {
        self.pinned + self.applied + self.refused
    }

    /// Returns the number of all finished requests.
    pub(crate) fn requests(&self) -> usize {
        self.good() + self.lost.len()
    }

    /// Returns the number of lost requests by kind.
    pub(crate) fn lost_by_kind(&self) -> BTreeMap<&LostKind, usize> {
        let mut kinds = BTreeMap::new();
        for lost in &self.lost {
            *kinds.entry(&lost.kind).or_default() += 1;
        }
        kinds
    }

    /// Returns the number of pods that controllers created with a digest, or without.
    pub(crate) fn children(&self, pinned: bool) -> usize {
        self.children.get(&pinned).map_or(0, BTreeSet::len)
    }

    fn count(&mut self, sent: Instant, outcome: std::result::Result<Good, LostKind>) {
        match outcome {
            Ok(Good::Pinned) => self.pinned += 1,
            Ok(Good::Applied) => self.applied += 1,
            Ok(Good::Refused) => self.refused += 1,
            Err(kind) => self.lost.push(Lost { kind, sent, answered: Instant::now() }),
        }
    }

    /// Returns true if this image has this tag and the digest that the tag always had.
    fn is_pinned(&mut self, image: &str, tag: &str) -> bool {
        let digest = image.strip_prefix(tag).and_then(|rest| rest.strip_prefix("@sha256:"));
        let Some(digest) = digest.filter(|digest| digest.len() == 64) else { return false };
        self.digests.entry(tag.to_owned()).or_insert_with(|| digest.to_owned()) == digest
    }
}

impl Result {
    /// Checks that every compliant pod was pinned, every forbidden request was refused, and no request failed or passed
    /// without tagpin.
    #[track_caller]
    pub(crate) fn nothing_lost(&self) {
        assert!(self.counts.lost.is_empty(), "{self}");
        assert_eq!(self.counts.children(false), 0, "{self}");
        assert!(self.counts.children(true) > 0, "{self}");
        assert_eq!(self.api_server.failed_open, 0, "{self}");
        assert_eq!(self.api_server.rejected, self.counts.refused, "{self}");
    }
}

impl std::fmt::Display for Result {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { counts, api_server } = self;
        write!(
            f,
            "load: {} requests: {} pods pinned, {} Deployments applied, {} refused, lost {:?}; \
             {} children pinned and {} not; the API server: {} failed open, {} rejected",
            counts.requests(),
            counts.pinned,
            counts.applied,
            counts.refused,
            counts.lost_by_kind(),
            counts.children(true),
            counts.children(false),
            api_server.failed_open,
            api_server.rejected,
        )
    }
}

impl ApiServer {
    /// Reads the counters of the webhooks that pin and validate. The canary's webhook is left out, because its failures
    /// are intended.
    pub(crate) fn now() -> Self {
        let text = kubectl(&["get", "--raw", "/metrics"]).succeeded();
        let started = text.lines().find_map(|line| line.strip_prefix("process_start_time_seconds "));
        let sum = |metric: &str| {
            let lines = text.lines().filter(|line| line.starts_with(&format!("{metric}{{")));
            let ours = lines
                .filter(|line| line.contains("name=\"pin.tagpin.dev\"") || line.contains("name=\"validate"));
            ours.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
        };
        Self {
            started: started.unwrap().parse().unwrap(),
            failed_open: sum("apiserver_admission_webhook_fail_open_count"),
            rejected: sum("apiserver_admission_webhook_rejection_count"),
        }
    }
}

impl Sub for ApiServer {
    type Output = Self;

    /// Returns the difference of the counters; if the API server restarted, only the counts since then.
    fn sub(self, before: Self) -> Self {
        if self.started > before.started {
            return self;
        }
        let (failed_open, rejected) =
            (self.failed_open - before.failed_open, self.rejected - before.rejected);
        Self { failed_open, rejected, ..self }
    }
}

/// The right outcome of a request.
enum Good {
    Pinned,
    Applied,
    Refused,
}

/// A worker that sends compliant and forbidden pods and Deployments in turn.
struct Worker {
    number: usize,
    pods: Api<Pod>,
    deployments: Api<Deployment>,
    seen: Arc<Mutex<Counts>>,
}

impl Worker {
    async fn ask(self, stop: CancellationToken) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in 0_usize.. {
            tokio::select! {
                _ = pace.tick() => {}
                () = stop.cancelled() => return,
            }
            let sent = Instant::now();
            let name = format!("load-{}-{turn}", self.number);
            let tag = if turn % 8 < 4 { "web:1.4.1" } else { "web:1.4.2" };
            let outcome = match turn % 4 {
                0 => self.good_pod(&name, tag).await,
                1 => forbidden(self.pods.create(&PostParams::default(), &pod(&name, "web:latest")).await),
                2 => self
                    .apply(&format!("web-{}", self.number), tag)
                    .await
                    .map(|_| Good::Applied)
                    .map_err(failed),
                _ => forbidden(self.apply(&name, "web:latest").await),
            };
            lock(&self.seen).count(sent, outcome);
        }
    }

    async fn good_pod(&self, name: &str, tag: &str) -> std::result::Result<Good, LostKind> {
        let stored = self.pods.create(&PostParams::default(), &pod(name, tag)).await.map_err(failed)?;
        let pinned = lock(&self.seen).is_pinned(&image(&stored), tag);
        if pinned { Ok(Good::Pinned) } else { Err(LostKind::Unpinned) }
    }

    async fn apply(&self, name: &str, image: &str) -> kube::Result<Deployment> {
        let document = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": name },
            "spec": {
                "replicas": 1,
                "revisionHistoryLimit": 1,
                "strategy": { "type": "Recreate" },
                "selector": { "matchLabels": { "app": name } },
                "template": { "metadata": { "labels": { "app": name } }, "spec": spec(image) },
            },
        });
        let params = PatchParams::apply("tagpin-test").force();
        self.deployments.patch(name, &params, &Patch::Apply(document)).await
    }
}

/// Deletes the pods that were counted.
async fn sweep(pods: Api<Pod>, stop: CancellationToken) {
    let mut pace = interval(SWEEP);
    loop {
        tokio::select! {
            _ = pace.tick() => {}
            () = stop.cancelled() => return,
        }
        let at_once = DeleteParams::default().grace_period(0);
        // While the API server is down, the pods stay until the next clean-up.
        drop(pods.delete_collection(&at_once, &ListParams::default().labels("load=pod")).await);
    }
}

/// Counts the pods that controllers create.
async fn children(pods: Api<Pod>, seen: Arc<Mutex<Counts>>, stop: CancellationToken) {
    let mut made = std::pin::pin!(
        watcher(pods, watcher::Config::default().labels("load!=pod")).default_backoff().applied_objects()
    );
    while let Some(next) = stop.run_until_cancelled(made.try_next()).await {
        // A broken watch is opened again, and lists what it missed.
        let Ok(Some(pod)) = next else { continue };
        let mut seen = lock(&seen);
        let image = image(&pod);
        let tag = image.split('@').next().unwrap_or_default().to_owned();
        let pinned = seen.is_pinned(&image, &tag);
        seen.children.entry(pinned).or_default().extend(pod.metadata.uid);
    }
}

async fn client() -> Client {
    // Another test may have installed a provider; the first one stays.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut config = Config::infer().await.unwrap();
    // Failures must be counted, so they are not retried.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

fn pod(name: &str, image: &str) -> Pod {
    let document = json!({ "metadata": { "name": name, "labels": { "load": "pod" } }, "spec": spec(image) });
    serde_json::from_value(document).unwrap()
}

/// Returns the spec of a pod that the scheduler leaves alone.
fn spec(image: &str) -> Value {
    json!({
        "schedulingGates": [ { "name": "tagpin.dev/load" } ],
        "containers": [ { "name": "app", "image": image } ],
    })
}

fn image(pod: &Pod) -> String {
    pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default()
}

fn forbidden<K>(answer: kube::Result<K>) -> std::result::Result<Good, LostKind> {
    match answer {
        Ok(_) => Err(LostKind::Admitted),
        Err(kube::Error::Api(status)) if OURS.iter().all(|word| status.message.contains(word)) => {
            Ok(Good::Refused)
        }
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: kube::Error) -> LostKind {
    match error {
        kube::Error::Api(status) => LostKind::Answered(format!("{} {}", status.code, status.message)),
        _ => LostKind::Unanswered,
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
