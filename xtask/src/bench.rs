//! Measures the published figures: the sizes of the binary and of the image, and, on a rig of its own, the memory of a
//! replica alone, with hostile and with many objects to watch, its time until it is ready, and the cost of creating a
//! pod. A missed goal is printed as such.

use std::env;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::command;
use crate::image::{self, Profile, mebibytes};
use crate::workspace;

const MIB: u64 = 1024 * 1024;
/// Goals in bytes for the stripped binary, the compressed image, and a replica in memory.
const GOALS: (u64, u64, u64) = (16 * MIB, 7 * MIB, 20 * MIB);
/// Numbers of pods and Deployments in the cluster, and the goal in bytes for a replica that watches them.
const MANY: ([&str; 2], u64) = (["2000", "500"], 40 * MIB);
/// Goal in bytes for a replica beside many objects that are as large as any that the API server stores.
const HOSTILE: u64 = 40 * MIB;
/// Larger numbers of pods and Deployments, which are measured without a goal.
const MORE: [&str; 2] = ["10000", "3000"];
/// Goal for the time from the start of a replica until it is ready.
const READY: Duration = Duration::from_millis(500);
/// Arguments of the installation. tagpin leaves two namespaces alone, to measure what creating a pod costs without it.
const INSTALL: &str = "install --profile release -- --set excludedNamespaces={bench-none,bench-null}";
/// Largest change in bytes from one look at the memory to the next for which a replica counts as quiet.
const QUIET: u64 = 128 * 1024;
/// Pause from one look at the memory to the next.
const LOOK: Duration = Duration::from_secs(20);
/// Time limit for a replica to become quiet.
const REST: Duration = Duration::from_secs(300);

/// Bytes that a replica has in memory.
#[derive(Clone, Copy)]
struct Memory {
    /// Resident memory, with the pages of the program that it has touched.
    resident: u64,
    /// Resident memory without the pages of the program.
    own: u64,
}

pub(crate) fn run() -> Result<ExitCode> {
    let made = image::make(Profile::Release)?;
    goal("binary, stripped", made.binary, GOALS.0);
    goal("image, compressed", made.compressed, GOALS.1);
    // A rig from an earlier run is not a fresh one.
    rig("down --purge")?;
    let figures = on_a_rig();
    rig("down --purge")?;
    figures.map(|()| ExitCode::SUCCESS)
}

fn on_a_rig() -> Result<()> {
    rig("up")?;
    rig(INSTALL)?;
    for Memory { resident, own } in at_rest()? {
        goal(&format!("idle replica (its own {})", mebibytes(own)), resident, GOALS.2);
    }
    for took in ready()? {
        let verdict = if took <= READY { "pass" } else { "MISS" };
        println!("replica ready after {took:?}   goal at most {READY:?}: {verdict}");
    }
    let bench = workspace::binary("bench", "cluster")?.display().to_string();
    inside(&[&bench, "hostile"])?;
    for took in ready()? {
        println!("replica with hostile stores ready after {took:?}");
    }
    for Memory { resident, own } in at_rest()? {
        let what = format!("replica with hostile stores (its own {})", mebibytes(own));
        goal(&what, resident, HOSTILE);
    }
    inside(&["kubectl", "delete", "namespace", "bench-hostile", "--timeout=300s"])?;
    inside(&[&bench, "creates"])?;
    inside(&[&bench, "objects", MANY.0[0], MANY.0[1]])?;
    for Memory { resident, own } in at_rest()? {
        let what = format!("replica, {} pods and {} Deployments", MANY.0[0], MANY.0[1]);
        goal(&format!("{what} (its own {})", mebibytes(own)), resident, MANY.1);
    }
    inside(&[&bench, "objects", MORE[0], MORE[1]])?;
    for Memory { resident, own } in at_rest()? {
        let memory = mebibytes(resident);
        println!(
            "replica, {} pods and {} Deployments (its own {}): {memory}",
            MORE[0],
            MORE[1],
            mebibytes(own)
        );
    }
    Ok(())
}

/// Starts the replicas anew, and returns the time until each is ready, by its own log.
fn ready() -> Result<Vec<Duration>> {
    const RELEASE: [&str; 3] = ["kubectl", "-n", "tagpin-system"];
    let old = said(&[&RELEASE[..], &["get", "pods", "-o", "name"]].concat())?;
    inside(&[&RELEASE[..], &["rollout", "restart", "deployment/tagpin"]].concat())?;
    inside(&[&RELEASE[..], &["rollout", "status", "deployment/tagpin", "--timeout=120s"]].concat())?;
    for pod in old.lines() {
        inside(&[&RELEASE[..], &["wait", "--for=delete", pod, "--timeout=120s"]].concat())?;
    }
    let pods = said(&[&RELEASE[..], &["get", "pods", "-o", "name"]].concat())?;
    let took = |pod: &str| {
        let log = said(&[&RELEASE[..], &["logs", pod]].concat())?;
        let ready = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line.get("message").is_some_and(|message| message == "ready"));
        let milliseconds = ready.and_then(|line| line.get("milliseconds")?.as_u64());
        Ok(Duration::from_millis(
            milliseconds.with_context(|| format!("{pod} does not say when it was ready"))?,
        ))
    };
    pods.lines().map(took).collect()
}

fn goal(what: &str, bytes: u64, most: u64) {
    let verdict = if bytes <= most { "pass" } else { "MISS" };
    println!("{what}: {}   goal at most {} MiB: {verdict}", mebibytes(bytes), most / MIB);
}

/// Returns the memory of the replicas once it no longer changes.
fn at_rest() -> Result<Vec<Memory>> {
    let end = Instant::now() + REST;
    let mut before = replicas()?;
    loop {
        ensure!(before.len() == 2, "{} replicas run, not two", before.len());
        std::thread::sleep(LOOK);
        let now = replicas()?;
        let quiet = |(a, b): (&Memory, &Memory)| a.resident.abs_diff(b.resident) <= QUIET;
        if now.len() == before.len() && now.iter().zip(&before).all(quiet) {
            return Ok(now);
        }
        if Instant::now() > end {
            bail!("the memory of the replicas still changes after {} s", REST.as_secs());
        }
        before = now;
    }
}

/// Returns the memory of each process named `tagpin` inside the rig. The order is the same each time.
fn replicas() -> Result<Vec<Memory>> {
    let look = "grep -hE '^(Name|VmRSS|RssAnon):' /proc/[0-9]*/status 2>/dev/null; true";
    let text = command::output_of(xtask()?.args(["exec", "--", "sh", "-c", look]))?;
    let mut found = Vec::new();
    let mut name = "";
    let mut resident = 0;
    for line in text.lines() {
        let (key, value) = line.split_once(':').context("a line of a status without a name")?;
        let bytes = || -> Result<u64> {
            let kib = value.trim().strip_suffix(" kB").context("memory in another unit than kB")?;
            Ok(kib.parse::<u64>()? * 1024)
        };
        match key {
            "Name" => name = value.trim(),
            "VmRSS" => resident = bytes()?,
            _ if name == "tagpin" => found.push(Memory { resident, own: bytes()? }),
            _ => {}
        }
    }
    Ok(found)
}

/// Runs a command inside the rig, and shows its output.
fn inside(words: &[&str]) -> Result<()> {
    let done = xtask()?.args(["exec", "--"]).args(words).stdin(Stdio::null()).status()?;
    ensure!(done.success(), "`{}` failed inside the rig", words.join(" "));
    Ok(())
}

/// Runs a command inside the rig, and returns its output.
fn said(words: &[&str]) -> Result<String> {
    command::output_of(xtask()?.args(["exec", "--"]).args(words))
}

/// Runs a command of the rig `bench`, and shows its output.
fn rig(words: &str) -> Result<()> {
    let done = xtask()?.args(words.split(' ')).stdin(Stdio::null()).status()?;
    ensure!(done.success(), "`cargo xtask rig --name bench {words}` failed");
    Ok(())
}

fn xtask() -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["rig", "--name", "bench"]);
    Ok(command)
}
