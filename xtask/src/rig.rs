//! The rig: a real Kubernetes on this machine, in namespaces of its own. This module has its commands.

mod certificates;
mod cgroups;
mod component;
mod components;
mod config;
mod control;
mod entry;
mod images;
mod install;
mod machine;
mod node;
mod parts;
mod power;
mod probe;
mod process;
pub(crate) mod python;
mod registries;
mod state;
mod suite;
mod supervisor;
mod tags;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use self::control::{Order, Request, Response, Seen};
use self::entry::inside;
use self::power::{ask, down, up};
use self::state::State;
use self::tags::Tag;
use crate::image::Profile;
use crate::{command, packages, workspace};

/// A real Kubernetes on this machine, in namespaces of its own
#[derive(Args)]
#[command(after_help = FILES)]
pub(crate) struct Rig {
    /// The rig's name; several rigs run side by side
    #[arg(long, global = true, default_value = "default", env = "TAGPIN_RIG")]
    name: String,
    /// The folder that holds a folder for each rig [default: .rig in the repository]
    #[arg(long, global = true, value_name = "DIR", env = "TAGPIN_RIG_HOME")]
    home: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

/// The files and images of a rig, for people who look at it from outside. `--help` prints this text.
const FILES: &str = "\
Below .rig/NAME:
  kubeconfig         the administrator's; its address is answered inside only
  registries.yaml    the mirrors in k3s' format, for tagpin
  private-registry/  ca.crt, username and password of private.registry.test
  logs/              one per component; audit.log has what webhooks said about pods and workloads
  manifests/NODE/    static pods: a manifest put here is run by that node's kubelet

Images: web:1.4.1, web:1.4.2, web:latest, moving:1.0.0, multi:2.0.1 (amd64 and arm64),
attested:1.0.0, sidecar:1.0.0 and tool:1.0.0 of docker.io (its mirror is http://10.41.0.1:5000),
and private.registry.test/team/api:1.0.0 behind a password. hiding.registry.test:8443 leads to the same
images, and answers 404 to those who have no password.

For example:
  cargo xtask rig up
  cargo xtask rig exec -- kubectl run web --image=web:1.4.2
  cargo xtask rig push-tag docker.io/library/moving:1.0.0 --content v2
  cargo xtask rig stop registry-mirror
  cargo xtask rig down --purge";

#[derive(Subcommand)]
enum Action {
    /// Start it, or do nothing when it runs
    ///
    /// Builds what is not in the cache (8 minutes the first time on two cores, then nothing),
    /// starts everything, fills the registries and returns when pods can run. A rig that was
    /// stopped comes back with its data, like a machine that was rebooted.
    Up {
        /// Nodes, the one with the control plane included [default: as last time, else 1]
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=2))]
        nodes: Option<u8>,
    },
    /// Pull the plug: nothing of it runs afterwards
    Down {
        /// Remove its data too: the next start is the first one
        #[arg(long)]
        purge: bool,
    },
    /// Show the components that run, and those that pods still miss
    Status {
        /// For people or for programs
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Run a command inside, or a shell
    ///
    /// It runs in all namespaces of the rig, in this directory, with kubectl, helm and a
    /// kubeconfig at hand; input, output and exit code are its own.
    Exec {
        /// The command and its arguments
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Stop one component: kube-apiserver, kubelet, registry-mirror, ...
    ///
    /// `rig status` lists them. A second machine is a component, too: to stop rig-2 is to pull
    /// its plug. Its own components are called rig-2/kubelet and so on.
    Stop {
        component: String,
        /// End it as a crash does: it takes leave of nobody
        #[arg(long)]
        kill: bool,
    },
    /// Start a component that was stopped, and wait until it serves
    Start { component: String },
    /// Make the image of tagpin and push it as docker.io/tagpin/tagpin:VERSION
    ///
    /// Prints the reference with its digest. Deploy that: a node that has the tag already does
    /// not ask for it again.
    Load {
        /// The build profile of tagpin
        #[arg(long, value_enum, default_value_t = Profile::Dev)]
        profile: Profile,
    },
    /// Install tagpin's chart in it, with this tree's image and the rig's registries
    ///
    /// Shows the commands that it runs. Arguments after `--` go to helm: `-- --set replicas=1`.
    Install {
        /// The build profile of tagpin
        #[arg(long, value_enum, default_value_t = Profile::Dev)]
        profile: Profile,
        /// More for `helm upgrade --install`
        #[arg(last = true)]
        helm: Vec<String>,
    },
    /// Start it, install tagpin and run the cluster tests inside; a rig that passed is purged
    ///
    /// With KUBECONFIG set they run on that cluster instead, where tagpin must be installed.
    Test {
        /// Leave it up
        #[arg(long)]
        keep: bool,
        /// For the test binary: names of tests, --list, --exact
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Push the test images again, so that every tag leads where it led at first
    Push,
    /// Make a tag lead to a new image, which serves CONTENT on port 8080; prints its digest
    PushTag {
        /// docker.io/REPOSITORY:TAG or private.registry.test/REPOSITORY:TAG
        tag: Tag,
        #[arg(long)]
        content: String,
    },
    /// Delete a tag; its manifest stays and can be pulled by digest
    DeleteTag { tag: Tag },
    /// Print the digest that a tag leads to
    Digest { tag: Tag },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Becomes PID 1 of a machine. This is the entry point of the process that `up` starts.
pub(crate) fn supervise(root: &Path, machine: u8) -> Result<()> {
    supervisor::run(State::at(root), machine)
}

/// Returns the folder with the programs of one folder below `tests/rig`, built if need be. For a program that Debian
/// packages as a service, returns the folder of the program, fetched if need be.
pub(crate) fn part(name: &str) -> Result<PathBuf> {
    if packages::is_of_a_service(name) {
        packages::ensure()?;
        let program = packages::program(name)?;
        return Ok(program.parent().context("a program without a folder")?.to_path_buf());
    }
    if python::is_one(name) { python::folder(name) } else { parts::folder(name) }
}

impl Rig {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let home = self.home.unwrap_or_else(|| workspace::root().join(".rig"));
        let state = State::named(&home, &self.name)?;
        match self.action {
            Action::Up { nodes } => up(&state, nodes)?,
            Action::Down { purge } => down(&state, purge)?,
            Action::Status { output } => status(&state, output)?,
            Action::Exec { command } => return Err(exec(&state, &command)?),
            Action::Stop { component, kill } => {
                let order = if kill { Order::Kill } else { Order::Stop };
                drop(ask(&state, &Request::Component(order, component))?);
            }
            Action::Start { component } => drop(ask(&state, &Request::Component(Order::Start, component))?),
            Action::Load { profile } => {
                process::running(&state)?;
                let (repository, digest) = install::load(&state, profile)?;
                println!("{repository}:{}@{digest}", env!("CARGO_PKG_VERSION"));
            }
            Action::Install { profile, helm } => {
                process::running(&state)?;
                install::run(|words| inside(&state, words), &install::commands(&state, profile, &helm)?)?;
            }
            Action::Test { keep, arguments } => return suite::run(&state, keep, &arguments),
            Action::Push => {
                process::root_only()?;
                println!("{} tags pushed", tags::push_images(&state, true)?);
            }
            Action::PushTag { tag, content } => {
                process::root_only()?;
                let workshop = images::Workshop::open(&state)?;
                let (layout, digest) = workshop.web(&content)?;
                tag.push(&state, &layout)?;
                println!("{digest}");
            }
            Action::DeleteTag { tag } => {
                process::root_only()?;
                tag.delete(&state)?;
            }
            Action::Digest { tag } => println!("{}", tag.digest(&state).context("no such tag")?),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn status(state: &State, output: Output) -> Result<()> {
    let Some(pid) = process::find(state)? else {
        match output {
            Output::Text => println!("down"),
            Output::Json => println!("{}", serde_json::json!({ "up": false })),
        }
        return Ok(());
    };
    // The supervisor makes mounts and networks before it can answer.
    let (components, missing) = match (ask(state, &Request::Status), ask(state, &Request::Missing)) {
        (Ok(Response::Status(components)), Ok(Response::Missing(missing))) => (components, missing),
        (Err(error), _) | (_, Err(error)) => (Vec::new(), Some(format!("the supervisor: {error:#}"))),
        (Ok(_), Ok(_)) => bail!("an answer to another question"),
    };
    match output {
        Output::Text => {
            println!(
                "{}",
                missing.as_ref().map_or("ready".to_owned(), |missing| format!("not ready: {missing}"))
            );
            for Seen { name, state, restarts } in components {
                println!("  {name:<24} {state:?}, restarted {restarts} times");
            }
        }
        Output::Json => {
            let all = serde_json::json!({
                "up": true,
                "ready": missing.is_none(),
                "missing": missing,
                "components": components,
                "supervisor": pid,
                "folder": state.root(),
                "kubeconfig": state.kubeconfig(),
            });
            println!("{all:#}");
        }
    }
    Ok(())
}

/// Replaces this process by the command inside the rig. Returns only an error.
fn exec(state: &State, words: &[String]) -> Result<anyhow::Error> {
    Ok(command::become_it(inside(state, words)?))
}
