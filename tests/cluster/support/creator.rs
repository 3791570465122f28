//! A creator of one pod every 100 ms in a namespace, which records the outcome of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{LIMIT, Namespace, wait_for};

const EVERY: Duration = Duration::from_millis(100);
/// The image of each pod.
pub(crate) const ASKED: &str = "web:1.4.2";

/// Creates pods, and deletes each at once, until it is ended. Nobody schedules the pods, because only the API server's
/// answers matter.
pub(crate) struct Creator {
    stop: CancellationToken,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<Created>,
}

/// The outcomes of the pods, in the order of the answers.
#[derive(Debug, Default)]
pub(crate) struct Created {
    /// The image of each pod that was created.
    pub(crate) images: Vec<String>,
    /// The errors for the other pods.
    pub(crate) failures: Vec<String>,
}

impl Creator {
    pub(crate) fn start(namespace: &Namespace) -> Self {
        Self::with(namespace, false)
    }

    /// Starts to create pods by dry run: the API server reviews and answers, but stores nothing.
    pub(crate) fn dry(namespace: &Namespace) -> Self {
        Self::with(namespace, true)
    }

    fn with(namespace: &Namespace, dry_run: bool) -> Self {
        let (stop, answered) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let thread = thread::spawn({
            let (stop, answered, namespace) = (stop.clone(), Arc::clone(&answered), namespace.name.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(create(&namespace, dry_run, stop, answered))
            }
        });
        Self { stop, answered, thread }
    }

    /// Waits for the answers to this many more pods.
    #[track_caller]
    pub(crate) fn goes_on(&self, pods: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + pods;
        wait_for(&format!("{pods} more pods"), LIMIT, || {
            (self.answered.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    }

    pub(crate) fn end(self) -> Created {
        self.stop.cancel();
        self.thread.join().unwrap()
    }
}

impl Created {
    /// Returns the number of pods with a digest.
    pub(crate) fn pinned(&self) -> usize {
        self.images.iter().filter(|image| image.contains("@sha256:")).count()
    }
}

async fn create(
    namespace: &str,
    dry_run: bool,
    stop: CancellationToken,
    answered: Arc<AtomicUsize>,
) -> Created {
    // Another test may have installed a provider; the first one stays.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut config = Config::infer().await.unwrap();
    // Failures must be counted, so they are not retried.
    config.default_retry = false;
    let pods: Api<Pod> = Api::namespaced(Client::try_from(config).unwrap(), namespace);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    let mut created = Created::default();
    for number in 0.. {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let (pods, answered) = (pods.clone(), Arc::clone(&answered));
        under_way.spawn(async move {
            let params = PostParams { dry_run, ..PostParams::default() };
            let answer = pods.create(&params, &pod(number)).await;
            answered.fetch_add(1, Ordering::Relaxed);
            let created = answer?;
            if !dry_run {
                // Thousands of pods would slow down everything else.
                pods.delete(&name(number), &DeleteParams::default()).await?;
            }
            Ok(created)
        });
        while let Some(answer) = under_way.try_join_next() {
            created.add(answer.unwrap());
        }
    }
    while let Some(answer) = under_way.join_next().await {
        created.add(answer.unwrap());
    }
    created
}

impl Created {
    fn add(&mut self, answer: kube::Result<Pod>) {
        match answer {
            Ok(pod) => {
                let containers = pod.spec.unwrap().containers;
                self.images.extend(containers.into_iter().next().unwrap().image);
            }
            Err(error) => self.failures.push(error.to_string()),
        }
    }
}

fn name(number: usize) -> String {
    format!("created-{number}")
}

fn pod(number: usize) -> Pod {
    let container = json!({ "name": "app", "image": ASKED });
    let pod = json!({
        "metadata": { "name": name(number) },
        "spec": { "schedulerName": "nobody", "containers": [container] },
    });
    serde_json::from_value(pod).unwrap()
}
