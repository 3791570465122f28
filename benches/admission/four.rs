//! Different tags in four registries. One registry hangs, and one answers that it gets too many requests. Measures how
//! fast the other two are beside them, and the memory for all four.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use tagpin_domain::fact::Fact;
use tagpin_registry::{Cache, Client, Limit};
use tokio::runtime;
use tokio::task::JoinSet;

use crate::figures::{goal, median};
use crate::hanging::{Loopback, Manner, ask, assembled};
use crate::machine::resident;
use crate::review::digest;

/// Number of tags in each registry.
const TAGS: usize = 2500;
/// Number of look-ups in flight at each registry that works.
const AT_ONCE: usize = 8;
const ROUNDS: usize = 7;
/// Goal in bytes for the growth of the process, which is what the cached answers may take. Everything else that is held
/// for a look-up takes less.
const MEMORY: u64 = 16 * 1024 * 1024;

pub(crate) fn measure() {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (ratio, before, after) = runtime.block_on(async {
        let good =
            [Loopback::start(Manner::AnswersFromAfar).await, Loopback::start(Manner::AnswersFromAfar).await];
        let bad = [Loopback::start(Manner::Hangs).await, Loopback::start(Manner::Limits).await];
        round(&good, &[]).await;
        // Memory is measured around the first round with the bad registries. The look-ups that it leaves open still run
        // in later rounds.
        let before = resident();
        round(&good, &bad).await;
        let after = resident();
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let alone = round(&good, &[]).await;
            let beside = round(&good, &bad).await;
            ratios.push(alone.as_secs_f64() / beside.as_secs_f64());
        }
        (median(ratios), before, after)
    });
    runtime.shutdown_background();
    println!(
        "\n{} different tags over four registries: two answer after a few milliseconds, one hangs, one answers 429; \
         {ROUNDS} rounds",
        4 * TAGS
    );
    goal(format_args!("  speed of the two / alone {ratio:.2}"), "at least 0.95", ratio >= 0.95);
    goal(
        format_args!(
            "  the process has {:.1} MiB after a round, registries included, and had {:.1}",
            mebibytes(after),
            mebibytes(before)
        ),
        format_args!("at most {:.0} MiB more", mebibytes(MEMORY)),
        after.saturating_sub(before) <= MEMORY,
    );
}

/// Converts bytes to MiB, for people.
#[allow(clippy::cast_precision_loss, reason = "a figure with one place after the point")]
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1024 * 1024)
}

/// Returns the time that the good registries take for all of their tags. Each round begins with an empty cache.
async fn round(good: &[Loopback], bad: &[Loopback]) -> Duration {
    let cache = assembled();
    let mut unanswered = JoinSet::new();
    for registry in bad {
        for tag in 0..TAGS {
            let (cache, image) = (Arc::clone(&cache), format!("{}/app:{tag}", registry.address));
            unanswered.spawn(async move {
                let fact = ask(&cache, &image).await;
                assert!(!matches!(fact, Fact::Present(_)), "{image} is answered");
            });
        }
    }
    let started = Instant::now();
    let mut working = JoinSet::new();
    for registry in good {
        working.spawn(all(Arc::clone(&cache), registry.address.clone()));
    }
    while let Some(right) = working.join_next().await {
        assert_eq!(right.unwrap(), TAGS, "a registry that works was not understood");
    }
    let took = started.elapsed();
    while let Some(wrong) = unanswered.try_join_next() {
        wrong.unwrap();
    }
    took
}

/// Returns the number of tags of this registry that were answered right.
async fn all(cache: Arc<Cache<Limit<Client>>>, address: String) -> usize {
    let answered = stream::iter(0..TAGS)
        .map(|tag| {
            let (cache, image) = (&cache, format!("{address}/app:{tag}"));
            async move { ask(cache, &image).await }
        })
        .buffer_unordered(AT_ONCE);
    answered.filter(|fact| std::future::ready(*fact == Fact::Present(digest()))).count().await
}
