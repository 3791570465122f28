//! The command line: the subcommands, their results and the exit codes. It decides nothing about images.
//!
//! A subcommand is a module with `Args` (what was typed) and `run`; [`crate::serve`] joins the parts of the operator.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod asking;
mod completions;
mod crds;
mod doctor;
mod exit;
mod laptop;
mod man;
mod output;
mod registries;
mod resolve;
mod serve;
mod tags;

/// Parses the command line, runs the subcommand and returns its exit code. An error goes to standard error.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Crds(args) => crds::run(args),
        Command::Resolve(args) => resolve::run(args),
        Command::Completions(args) => completions::run(args, Cli::command()),
        Command::Man(args) => man::run(args, Cli::command()),
        Command::Tags(args) => tags::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Registries(args) => registries::run(args),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::error(&failure.cause);
            failure.exit.into()
        }
    }
}

/// Pins image tags to digests, refuses what a policy forbids.
#[derive(Debug, Parser)]
#[command(name = "tagpin", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "\
Exit codes:
  0  fine
  1  violations were found
  2  wrong use or input
  3  could not find out (registry, cluster)")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Crds(crds::Args),
    Resolve(resolve::Args),
    Completions(completions::Args),
    Man(man::Args),
    Tags(tags::Args),
    Doctor(doctor::Args),
    Registries(registries::Args),
}
