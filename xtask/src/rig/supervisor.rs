//! PID 1 of a machine: prepares the machine, starts its components, restarts those that end, and reaps orphans. There
//! is no orderly end: the machine ends when this process is killed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::component::Component;
use super::components;
use super::control::{self, Life, Order, Request, Response, SOCKET, Seen};
use super::machine;
use super::node::Node;
use super::probe::{self, until};
use super::state::State;

/// Time limit for a component to end after SIGTERM, or after SIGKILL.
const POLITE: Duration = Duration::from_secs(3);
/// Time limit for a component to serve.
const SERVING: Duration = Duration::from_secs(60);
/// Pause between an unexpected end of a component and its next start.
const PAUSE: Duration = Duration::from_millis(500);

/// The components of this machine and their states.
pub(crate) struct Supervisor {
    state: State,
    node: Node,
    nodes: u8,
    boot: Timestamp,
    table: Mutex<BTreeMap<String, Entry>>,
}

struct Entry {
    component: Component,
    wanted: bool,
    process: Option<Pid>,
    restarts: u32,
}

/// Turns this process, PID 1 of fresh namespaces, into a machine. Returns only if that fails.
pub(crate) fn run(state: State, number: u8) -> Result<()> {
    let nodes = state.shape()?.nodes;
    let node = Node::numbered(number);
    machine::prepare(&state, node, nodes)?;
    let entry = |component: Component| {
        (component.name.clone(), Entry { component, wanted: true, process: None, restarts: 0 })
    };
    let table: BTreeMap<String, Entry> =
        components::of(&state, node, nodes)?.into_iter().map(entry).collect();
    let names: Vec<String> = table.keys().cloned().collect();
    let supervisor =
        Arc::new(Supervisor { state, node, nodes, boot: Timestamp::now(), table: Mutex::new(table) });
    serve(&supervisor)?;
    for name in names {
        supervisor.start_when_possible(name, Duration::ZERO);
    }
    supervisor.reap()
}

impl Supervisor {
    /// Returns the state of every component. `MACHINE/COMPONENT` names a component of a further machine.
    pub(crate) fn status(&self) -> Vec<Seen> {
        let seen = |(name, entry): (&String, &Entry)| Seen {
            name: name.clone(),
            state: match (entry.process, entry.wanted) {
                (Some(_), _) => Life::Running,
                (None, true) => Life::Waiting,
                (None, false) => Life::Stopped,
            },
            restarts: entry.restarts,
        };
        let mut all: Vec<Seen> = self.table().iter().map(seen).collect();
        let machines = self
            .table()
            .values()
            .filter(|entry| entry.component.machine)
            .map(|entry| entry.component.name.clone())
            .collect::<Vec<_>>();
        for machine in machines {
            if let Ok(Response::Status(inner)) = self.ask_machine(&machine, &Request::Status) {
                all.extend(
                    inner.into_iter().map(|seen| Seen { name: format!("{machine}/{}", seen.name), ..seen }),
                );
            }
        }
        all
    }

    /// Passes a request on to a further machine of this rig.
    pub(crate) fn ask_machine(&self, machine: &str, request: &Request) -> Result<Response> {
        let unshare = self.process(machine).with_context(|| format!("machine {machine} does not run"))?;
        let unshare = unshare.as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"))?;
        let init = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        control::ask(init.with_context(|| format!("machine {machine} does not run yet"))?, request)
    }

    /// Returns what is missing for pods to run on every node, or none if all is there.
    pub(crate) fn missing(&self) -> Option<String> {
        probe::missing(&self.state, self.nodes, self.boot)
    }

    /// Waits until the component serves.
    pub(crate) fn wait(&self, name: &str) -> Result<()> {
        let serving = self.component(name)?.serving;
        let serves =
            || self.process(name).is_some() && serving.as_ref().is_none_or(|probe| probe.holds(&self.state));
        if !until(SERVING, serves) {
            bail!("{name} does not serve; its log is {}", self.log(name).display());
        }
        Ok(())
    }

    /// Ends a component, and does not start it again.
    pub(crate) fn stop(&self, name: &str) -> Result<()> {
        if !self.component(name)?.machine {
            self.entry(name, |entry| entry.wanted = false);
            self.signal(name, Signal::TERM);
            if until(POLITE, || self.process(name).is_none()) {
                return Ok(());
            }
        }
        self.kill(name)
    }

    /// Ends a component as a crash does, and does not start it again.
    pub(crate) fn kill(&self, name: &str) -> Result<()> {
        self.component(name)?;
        self.entry(name, |entry| entry.wanted = false);
        self.signal(name, Signal::KILL);
        if !until(POLITE, || self.process(name).is_none()) {
            bail!("{name} does not end");
        }
        Ok(())
    }

    /// Starts a component that was stopped, and waits until it serves.
    pub(crate) fn start(self: &Arc<Self>, name: &str) -> Result<()> {
        self.component(name)?;
        let was_wanted = self.entry(name, |entry| std::mem::replace(&mut entry.wanted, true));
        if was_wanted == Some(false) {
            self.start_when_possible(name.to_owned(), Duration::ZERO);
        }
        self.wait(name)
    }

    /// Starts a component once the components that it needs serve. This happens in a thread of its own.
    fn start_when_possible(self: &Arc<Self>, name: String, pause: Duration) {
        let supervisor = Arc::clone(self);
        thread::spawn(move || {
            thread::sleep(pause);
            let Ok(component) = supervisor.component(&name) else { return };
            for needed in &component.after {
                // The wait has no limit: a needed component may have been stopped on purpose.
                while !until(SERVING, || needed.holds(&supervisor.state)) {}
            }
            if let Err(error) = supervisor.spawn(&component) {
                eprintln!("{name}: {error:#}");
                supervisor.start_when_possible(name, PAUSE);
            }
        });
    }

    fn spawn(&self, component: &Component) -> Result<()> {
        let log = self.log(&component.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("{}", log.display()))?;
        let mut path = self.state.bin().into_os_string();
        path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let mut command = Command::new(&component.program);
        command.args(&component.args).current_dir("/").process_group(0);
        // HOME is a folder of the machine's own, because the kubelet would find the developer's credentials in the real
        // one.
        command.env_clear().env("PATH", path).env("HOME", "/run");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // The lock is held during the start, so that the reaper cannot see a process that is not in the table yet.
        let mut table = self.table();
        let Some(entry) = table.get_mut(&component.name) else { return Ok(()) };
        if entry.wanted && entry.process.is_none() {
            let child = command.spawn().with_context(|| format!("{}", component.program.display()))?;
            entry.process = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        }
        Ok(())
    }

    /// Reaps every process that ends, components and orphans alike, for ever.
    fn reap(self: &Arc<Self>) -> Result<()> {
        loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) => self.ended(pid, &format!("{status:?}")),
                Ok(None) | Err(Errno::INTR) => {}
                // No process runs at this moment.
                Err(Errno::CHILD) => thread::sleep(Duration::from_millis(50)),
                Err(error) => bail!("waiting for processes: {error}"),
            }
        }
    }

    fn ended(self: &Arc<Self>, pid: Pid, status: &str) {
        let mut table = self.table();
        let Some((name, entry)) = table.iter_mut().find(|(_, entry)| entry.process == Some(pid)) else {
            return;
        };
        entry.process = None;
        eprintln!("{name} ended: {status}");
        if entry.wanted {
            entry.restarts += 1;
            self.start_when_possible(name.clone(), PAUSE);
        }
    }

    fn signal(&self, name: &str, signal: Signal) {
        if let Some(pid) = self.process(name) {
            // The process may have ended by itself in the meantime.
            let _ = kill_process(pid, signal);
        }
    }

    fn component(&self, name: &str) -> Result<Component> {
        let table = self.table();
        table.get(name).map(|entry| entry.component.clone()).with_context(|| {
            let known: Vec<&str> = table.keys().map(String::as_str).collect();
            format!("no component is called `{name}`; there are {}", known.join(", "))
        })
    }

    fn process(&self, name: &str) -> Option<Pid> {
        self.table().get(name).and_then(|entry| entry.process)
    }

    fn entry<T>(&self, name: &str, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.table().get_mut(name).map(change)
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, name: &str) -> std::path::PathBuf {
        if self.node.is_first() {
            self.state.log(name)
        } else {
            self.state.log(&format!("{}-{name}", self.node.name()))
        }
    }
}

/// Answers requests for as long as the machine lives.
fn serve(supervisor: &Arc<Supervisor>) -> Result<()> {
    let listener = UnixListener::bind(Path::new(SOCKET)).with_context(|| SOCKET.to_owned())?;
    let supervisor = Arc::clone(supervisor);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let supervisor = Arc::clone(&supervisor);
            if let Ok(stream) = stream {
                thread::spawn(move || {
                    if let Err(error) = answer(&supervisor, stream) {
                        eprintln!("a command was not answered: {error:#}");
                    }
                });
            }
        }
    });
    Ok(())
}

fn answer(supervisor: &Arc<Supervisor>, mut stream: UnixStream) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let response = decide(supervisor, serde_json::from_str(&line)?);
    let response = response.unwrap_or_else(|error| Response::Failed(format!("{error:#}")));
    writeln!(stream, "{}", serde_json::to_string(&response)?)?;
    Ok(())
}

fn decide(supervisor: &Arc<Supervisor>, request: Request) -> Result<Response> {
    match request {
        Request::Status => Ok(Response::Status(supervisor.status())),
        Request::Missing => Ok(Response::Missing(supervisor.missing())),
        Request::Component(order, name) => {
            if let Some((machine, component)) = name.split_once('/') {
                return supervisor.ask_machine(machine, &Request::Component(order, component.to_owned()));
            }
            match order {
                Order::Wait => supervisor.wait(&name),
                Order::Stop => supervisor.stop(&name),
                Order::Kill => supervisor.kill(&name),
                Order::Start => supervisor.start(&name),
            }
            .map(|()| Response::Done)
        }
    }
}
