//! A million different names in a thousand registries, as an attacker may write them: measures the memory that they
//! leave in use.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use tagpin::serve::compose::IN_FLIGHT;
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::Fact;
use tagpin_domain::image::ImageRef;
use tagpin_review::Resolve as _;
use tokio::runtime;

use crate::figures::goal;
use crate::four::mebibytes;
use crate::machine::resident;
use crate::tagpin_webhook::{Registry, around};

const NAMES: usize = 1_000_000;
const REGISTRIES: usize = 1000;
/// Number of names after which every bound is reached. A later entry must take the place of an earlier one.
const FULL: usize = 200_000;
const AT_ONCE: usize = 64;
/// Bytes by which the process may grow while it holds nothing more, because allocators do not return memory at once.
const SLACK: u64 = 8 * 1024 * 1024;

pub(crate) fn measure() {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let before = resident();
    let (at_full, at_end, held, took) = runtime.block_on(async {
        let (_, composed) = around(Registry::new(Duration::ZERO), IN_FLIGHT);
        let cache = composed.cache;
        let asker = Asker::new("shop".to_owned(), Vec::new());
        let ask = |names: std::ops::Range<usize>| {
            let (cache, asker) = (&cache, &asker);
            stream::iter(names).for_each_concurrent(AT_ONCE, move |number| async move {
                let image = format!("r{}.example/some/longer/path/to/app:{number}", number % REGISTRIES);
                let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
                let fact = cache.resolve(&ImageRef::parse(&image).unwrap(), asker, None, deadline).await;
                assert!(matches!(fact, Fact::Present(_)), "{image}: {fact:?}");
            })
        };
        let started = Instant::now();
        ask(0..FULL).await;
        let at_full = resident();
        ask(FULL..NAMES).await;
        (at_full, resident(), cache.held(), started.elapsed())
    });
    let (entries, bytes) = held;
    println!("\n{NAMES} different names of {REGISTRIES} registries in {:.1} s", took.as_secs_f64());
    println!(
        "  {entries} answers are held, {:.1} MiB by count; the process had {:.1} MiB before",
        mebibytes(bytes),
        mebibytes(before)
    );
    goal(
        format_args!(
            "  the process has {:.1} MiB, and had {:.1} after {FULL} names",
            mebibytes(at_end),
            mebibytes(at_full)
        ),
        format_args!("at most {:.0} MiB more", mebibytes(SLACK)),
        at_end.saturating_sub(at_full) <= SLACK,
    );
}
