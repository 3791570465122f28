//! The machine: its name, its cores, and the processor time of threads and processes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Prints the model, the cores and the kernel of this machine.
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

/// Returns the bytes of this process in memory.
pub(crate) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Returns the first two cores that this process may use, or the same core twice if there is only one.
pub(crate) fn cores() -> [usize; 2] {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let mut cores = allowed.trim().split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse().unwrap()..=last.parse().unwrap()
    });
    let first = cores.next().unwrap();
    [first, cores.next().unwrap_or(first)]
}

/// Returns the start of a command line: the program that is added to it runs on this core alone.
pub(crate) fn on_core(core: usize) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &core.to_string()]);
    command
}

/// Keeps the calling thread, and the threads that it starts, on this core.
pub(crate) fn stay_on_core(core: usize) {
    let thread = fs::read_link("/proc/thread-self").unwrap();
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "--pid", &core.to_string()]).arg(thread.file_name().unwrap());
    assert!(command.output().unwrap().status.success(), "{command:?}");
}

/// The processor time of one thread.
pub(crate) struct ThreadClock(PathBuf);

impl ThreadClock {
    /// Returns the clock of the calling thread.
    pub(crate) fn here() -> Self {
        Self(Path::new("/proc").join(fs::read_link("/proc/thread-self").unwrap()))
    }

    /// Returns the time that the thread has used.
    pub(crate) fn used(&self) -> Duration {
        used(&self.0).unwrap()
    }
}

/// The processor time of one process.
pub(crate) struct ProcessClock(PathBuf);

impl ProcessClock {
    /// Returns the clock of the process with this identifier.
    pub(crate) fn of(id: u32) -> Self {
        Self(PathBuf::from(format!("/proc/{id}/task")))
    }

    /// Returns the time that each thread of the process has used.
    pub(crate) fn used(&self) -> Threads {
        let threads = fs::read_dir(&self.0).unwrap().map(|thread| thread.unwrap());
        // A thread may have ended by now.
        let used = threads.filter_map(|thread| Some((thread.file_name(), used(&thread.path())?)));
        Threads(used.collect())
    }
}

/// The processor time of each thread of a process.
pub(crate) struct Threads(BTreeMap<OsString, Duration>);

impl Threads {
    /// Returns the time that the threads have used since `before`.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let since = |(thread, used): (&OsString, &Duration)| {
            *used - before.0.get(thread).copied().unwrap_or_default()
        };
        self.0.iter().map(since).sum()
    }
}

/// Returns the processor time of the thread with this folder in /proc, if the thread still exists.
fn used(thread: &Path) -> Option<Duration> {
    let text = fs::read_to_string(thread.join("schedstat")).ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}
