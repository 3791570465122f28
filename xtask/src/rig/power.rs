//! The start and the end of a rig, and the wait until pods can run.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::control::{self, Order, Request, Response};
use super::registries::Registry;
use super::state::{Shape, State};
use super::{certificates, config, parts, probe, process, tags};
use crate::packages;

/// Time limit for a rig to run pods, once everything is built.
const UP: Duration = Duration::from_secs(120);

/// Starts the rig, and returns when pods can run.
pub(super) fn up(state: &State, nodes: Option<u8>) -> Result<()> {
    process::root_only()?;
    let _lock = state.lock()?;
    let started = Instant::now();
    let was = state.exists().then(|| state.shape()).transpose()?.map(|shape| shape.nodes);
    let nodes = nodes.or(was).unwrap_or(1);
    let running = process::find(state)?.is_some();
    if running && was != Some(nodes) {
        bail!("it runs with another number of nodes: `cargo xtask rig down` first");
    }
    if !running {
        packages::ensure()?;
        parts::ensure(state)?;
        process::end(state)?;
        state.write_shape(&Shape { nodes })?;
        certificates::ensure(state, nodes)?;
        config::write_all(state, nodes)?;
        process::start(state)?;
    }
    if let Err(error) = stocked(state).and_then(|()| ready(state)) {
        process::end(state)?;
        return Err(error);
    }
    if running {
        println!("the rig was up already");
    } else {
        println!("the rig is up after {:.1} s", started.elapsed().as_secs_f32());
    }
    println!("  look around  cargo xtask rig exec -- kubectl get pods -A");
    println!("  stop         cargo xtask rig down");
    println!("  its files    {}", state.root().display());
    Ok(())
}

/// Pushes the missing test images to the registries, once the registries serve.
fn stocked(state: &State) -> Result<()> {
    await_supervisor(state)?;
    for registry in Registry::ALL {
        ask(state, &Request::Component(Order::Wait, registry.component().to_owned()))?;
    }
    match tags::push_images(state, false)? {
        0 => {}
        pushed => println!("{pushed} test images pushed"),
    }
    Ok(())
}

/// Waits until the supervisor answers commands.
fn await_supervisor(state: &State) -> Result<()> {
    let mut seen = false;
    let answers = || {
        let running = process::find(state).is_ok_and(|found| found.is_some());
        let ended = seen && !running;
        seen |= running;
        ended || running && ask(state, &Request::Status).is_ok()
    };
    if probe::until(UP, answers) && process::find(state)?.is_some() {
        return Ok(());
    }
    bail!("the supervisor does not run; {} says why", state.log("supervisor").display())
}

/// Waits until pods can run, and prints what is missing until then.
fn ready(state: &State) -> Result<()> {
    let end = Instant::now() + UP;
    let mut told = String::new();
    loop {
        let Response::Missing(missing) = ask(state, &Request::Missing)? else {
            bail!("an answer to another question")
        };
        let Some(missing) = missing else { return Ok(()) };
        let subject = missing.split(':').next().unwrap_or_default().to_owned();
        if subject != told {
            println!("waiting for {subject}");
            told = subject;
        }
        if Instant::now() > end {
            bail!(
                "not ready after {} s: {missing}; logs are in {}",
                UP.as_secs(),
                state.root().join("logs").display()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Ends the rig; with `purge`, removes its data too.
pub(super) fn down(state: &State, purge: bool) -> Result<()> {
    if !state.root().exists() {
        println!("there is no such rig");
        return Ok(());
    }
    process::root_only()?;
    let _lock = state.lock()?;
    let ran = process::end(state)?;
    println!("{}", if ran { "the rig is down" } else { "the rig was not running" });
    if purge {
        fs::remove_dir_all(state.root()).with_context(|| format!("{}", state.root().display()))?;
        println!("its data is removed");
    }
    Ok(())
}

/// Sends a request to the supervisor of a running rig, and returns its response.
pub(super) fn ask(state: &State, request: &Request) -> Result<Response> {
    control::ask(process::running(state)?, request)
}
