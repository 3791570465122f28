//! What is published in figures: the size of the binary and of the image, and the memory of a replica that has nothing
//! to do, on a rig of its own. A goal that is missed is printed as such.

use std::env;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::command;
use crate::image::{self, Profile, mebibytes};

const MIB: u64 = 1024 * 1024;
/// Bytes of the stripped binary, of the compressed image, and of a replica in memory.
const GOALS: (u64, u64, u64) = (16 * MIB, 7 * MIB, 20 * MIB);
/// A replica is quiet when its memory has not changed by more than this
const QUIET: u64 = 128 * 1024;
/// from one look to the next.
const LOOK: Duration = Duration::from_secs(20);
/// How long a replica may take to come to rest.
const REST: Duration = Duration::from_secs(300);

/// Bytes that a replica has in memory.
#[derive(Clone, Copy)]
struct Memory {
    /// With the pages of its program that it has touched
    resident: u64,
    /// without them.
    own: u64,
}

pub(crate) fn run() -> Result<ExitCode> {
    let made = image::make(Profile::Release)?;
    goal("binary, stripped", made.binary, GOALS.0);
    goal("image, compressed", made.compressed, GOALS.1);
    // A rig of before is no fresh one.
    rig("down --purge")?;
    let replicas = rig("up").and_then(|()| rig("install --profile release")).and_then(|()| at_rest());
    rig("down --purge")?;
    for Memory { resident, own } in replicas? {
        goal(&format!("idle replica (its own {})", mebibytes(own)), resident, GOALS.2);
    }
    Ok(ExitCode::SUCCESS)
}

fn goal(what: &str, bytes: u64, most: u64) {
    let verdict = if bytes <= most { "pass" } else { "MISS" };
    println!("{what}: {}   goal at most {} MiB: {verdict}", mebibytes(bytes), most / MIB);
}

/// The replicas' memory once it changes no more.
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

/// What each process named `tagpin` inside the rig has in memory, in the order of their numbers.
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

/// A command of the rig `bench`, which says how it goes.
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
