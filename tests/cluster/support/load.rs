//! A load on admission that is counted to the last request: pods and Deployments, compliant and forbidden in turn.
//!
//! Its pods are gated, so that no node has to run them. What the replication controllers make of its Deployments is
//! counted too, from a watch.

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

/// Fewer requests than this prove nothing.
const ENOUGH: usize = 500;
/// Who asks at the same time, and how long each waits from one request to the next.
const WORKERS: usize = 4;
const PACE: Duration = Duration::from_millis(90);
/// Between clean-ups.
const SWEEP: Duration = Duration::from_secs(4);
/// What a forbidden request must be told.
const OURS: [&str; 2] = ["validate.tagpin.dev", "[TagForbidden]"];

/// Requests without a pause, until it is ended.
pub(crate) struct Load {
    runtime: Runtime,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    seen: Arc<Mutex<Counts>>,
    before: ApiServer,
}

/// What became of every request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// Compliant pods that were stored with a digest.
    pub(crate) pinned: usize,
    /// Compliant Deployments that were stored.
    pub(crate) applied: usize,
    /// Forbidden requests that were refused in our words.
    pub(crate) refused: usize,
    /// All others.
    pub(crate) lost: Vec<Lost>,
    /// Pods that controllers made, by whether they have a digest.
    pub(crate) children: BTreeMap<bool, BTreeSet<String>>,
    /// The digest of each tag: a tag that does not move has one.
    digests: BTreeMap<String, String>,
}

/// A request that did not become what it had to.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    pub(crate) kind: LostKind,
    pub(crate) sent: Instant,
    pub(crate) answered: Instant,
}

/// How a request was lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LostKind {
    /// A compliant pod without a digest.
    Unpinned,
    /// A forbidden object that was stored.
    Admitted,
    /// The API server answered with an error that is not our refusal.
    Answered(String),
    /// No answer came.
    Unanswered,
}

/// The API server's own counts of our webhooks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ApiServer {
    /// When it started, in seconds since 1970: it counts from then.
    started: f64,
    /// Calls that failed, so that the request went on without us.
    pub(crate) failed_open: usize,
    /// Requests that were refused in our name.
    pub(crate) rejected: usize,
}

/// What a load came to.
#[derive(Debug)]
pub(crate) struct Result {
    pub(crate) counts: Counts,
    /// What the API server counted meanwhile.
    pub(crate) api_server: ApiServer,
}

impl Load {
    /// Starts to ask in this namespace, and returns when answers come.
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

    /// Waits for so many more requests that went as they should.
    #[track_caller]
    pub(crate) fn goes_on(&self, requests: usize) {
        let wanted = self.so_far().good() + requests;
        wait_for("more good requests", LIMIT, || (self.so_far().good() >= wanted).then_some(()));
    }

    /// What was counted so far.
    pub(crate) fn so_far(&self) -> Counts {
        lock(&self.seen).clone()
    }

    /// Ends it once there were enough requests, and tells what became of them.
    #[track_caller]
    pub(crate) fn end(mut self) -> Result {
        wait_for("enough requests", LIMIT, || (self.so_far().requests() >= ENOUGH).then_some(()));
        self.stop.cancel();
        let tasks = std::mem::take(&mut self.tasks);
        self.runtime.block_on(tasks.join_all());
        let result = Result { counts: self.so_far(), api_server: ApiServer::now() - self.before };
        // Not by `eprintln!`: what a test came to is worth reading when it passed, too.
        drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{result}\n")));
        result
    }
}

impl Counts {
    /// Requests that went as they should.
    pub(crate) fn good(&self) -> usize {
        self.pinned + self.applied + self.refused
    }

    /// All requests that are over.
    pub(crate) fn requests(&self) -> usize {
        self.good() + self.lost.len()
    }

    /// How many were lost in which way.
    pub(crate) fn lost_by_kind(&self) -> BTreeMap<&LostKind, usize> {
        let mut kinds = BTreeMap::new();
        for lost in &self.lost {
            *kinds.entry(&lost.kind).or_default() += 1;
        }
        kinds
    }

    /// Pods of controllers, with a digest or without.
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

    /// Whether this image, written with this tag, has the digest that the tag always had.
    fn is_pinned(&mut self, image: &str, tag: &str) -> bool {
        let digest = image.strip_prefix(tag).and_then(|rest| rest.strip_prefix("@sha256:"));
        let Some(digest) = digest.filter(|digest| digest.len() == 64) else { return false };
        self.digests.entry(tag.to_owned()).or_insert_with(|| digest.to_owned()) == digest
    }
}

impl Result {
    /// Every compliant pod pinned, every forbidden request refused, no error, nothing that went by us.
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
    /// What its metrics say, of the webhooks that judge; the canary's failures are its purpose.
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

    /// What was counted since; only since it started again, if it did.
    fn sub(self, before: Self) -> Self {
        if self.started > before.started {
            return self;
        }
        let (failed_open, rejected) =
            (self.failed_open - before.failed_open, self.rejected - before.rejected);
        Self { failed_open, rejected, ..self }
    }
}

/// What a request had to become.
enum Good {
    Pinned,
    Applied,
    Refused,
}

/// One caller: compliant and forbidden, pod and Deployment, in turn.
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

/// Removes the pods that were counted.
async fn sweep(pods: Api<Pod>, stop: CancellationToken) {
    let mut pace = interval(SWEEP);
    loop {
        tokio::select! {
            _ = pace.tick() => {}
            () = stop.cancelled() => return,
        }
        let at_once = DeleteParams::default().grace_period(0);
        // While the API server is away, they wait for the next time.
        drop(pods.delete_collection(&at_once, &ListParams::default().labels("load=pod")).await);
    }
}

/// Counts the pods that controllers make.
async fn children(pods: Api<Pod>, seen: Arc<Mutex<Counts>>, stop: CancellationToken) {
    let mut made = std::pin::pin!(
        watcher(pods, watcher::Config::default().labels("load!=pod")).default_backoff().applied_objects()
    );
    while let Some(next) = stop.run_until_cancelled(made.try_next()).await {
        // A watch that breaks is opened again, and lists what it missed.
        let Ok(Some(pod)) = next else { continue };
        let mut seen = lock(&seen);
        let image = image(&pod);
        let tag = image.split('@').next().unwrap_or_default().to_owned();
        let pinned = seen.is_pinned(&image, &tag);
        seen.children.entry(pinned).or_default().extend(pod.metadata.uid);
    }
}

async fn client() -> Client {
    // Another test may have been first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut config = Config::infer().await.unwrap();
    // What fails is counted, not tried again.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

fn pod(name: &str, image: &str) -> Pod {
    let document = json!({ "metadata": { "name": name, "labels": { "load": "pod" } }, "spec": spec(image) });
    serde_json::from_value(document).unwrap()
}

/// Of a pod that no scheduler looks at.
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
