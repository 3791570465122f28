//! `cargo xtask`: the tasks that are too much for a Makefile, such as the rig (a real Kubernetes for every demo and
//! cluster test) and the image of tagpin.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to people")]

mod bench;
mod command;
mod crds;
mod demo;
mod image;
mod oci;
mod packages;
mod rig;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of this repository that are more than a line of a Makefile.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Xtask {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// A real Kubernetes on this machine, in namespaces of its own
    ///
    /// API server, controller manager, scheduler, kubelet and kube-proxy of one release on kine and
    /// SQLite, containerd and runc, and two registries. Nothing outside is touched, and nothing is
    /// left when it is down. It needs root, Linux, Go 1.26, and the Debian packages that `up` fetches.
    Rig(rig::Rig),
    /// Bring up a cluster with tagpin in it and show its main job, step by step
    Demo,
    /// The figures of what is published: sizes, and the memory of a replica on a rig of its own
    Bench,
    /// Build one of the programs of tests/rig if it is not in the cache; the last line printed is its folder
    Part { name: String },
    /// Install the Debian packages that rig and tests need, if any is missing; those with services are only unpacked
    Packages,
    /// The image of tagpin
    Image(image::Image),
    /// Writes the generated files: crds/ and the chart's template of them
    Crds,
    /// PID 1 of one machine of a rig (started by `rig up`)
    #[command(hide = true)]
    Supervise { state: PathBuf, machine: u8 },
}

fn main() -> ExitCode {
    let done = match Xtask::parse().job {
        Job::Rig(rig) => rig.run(),
        Job::Demo => demo::run(),
        Job::Bench => bench::run(),
        Job::Part { name } => rig::part(&name).map(|folder| {
            println!("{}", folder.display());
            ExitCode::SUCCESS
        }),
        Job::Packages => packages::ensure().map(|()| ExitCode::SUCCESS),
        Job::Image(image) => image.run(),
        Job::Crds => crds::write().map(|()| ExitCode::SUCCESS),
        Job::Supervise { state, machine } => rig::supervise(&state, machine).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
