//! Where it is measured, and what a thread has used of it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Model, cores and kernel of this machine.
pub(crate) fn print() {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "machine  {}, {cores} cores, Linux {}, load {}",
        model.map_or("a processor without a name", |(_, name)| name),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
    );
}

/// Bytes of this process in memory.
pub(crate) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// What one thread has used of a processor so far.
#[derive(Debug, Clone)]
pub(crate) struct ThreadClock(PathBuf);

impl ThreadClock {
    /// Of the thread that calls.
    pub(crate) fn here() -> Self {
        let thread = fs::read_link("/proc/thread-self").unwrap();
        Self(PathBuf::from("/proc").join(thread).join("schedstat"))
    }

    pub(crate) fn used(&self) -> Duration {
        let text = fs::read_to_string(&self.0).expect("the kernel tells what a thread has used");
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }
}
