//! The command line: the subcommands, their results and the exit codes. It decides nothing about images.
//!
//! A subcommand is a module with `Args` (what was typed) and `run`; [`crate::serve`] joins the parts of the operator.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod asking;
mod completions;
mod crds;
mod doctor;
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

/// The exit code of a command. Scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Nothing is wrong.
    Fine = 0,
    /// Something that was looked for is missing, or breaks a rule.
    Violations = 1,
    /// An argument, or a file that it names, cannot be used.
    WrongUse = 2,
    /// The registry or the cluster did not answer, so the result is unknown.
    CouldNotFindOut = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The error that ended a command early, and the exit code for it.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    cause: anyhow::Error,
}

impl Failure {
    /// Returns the failure for an argument, or a file that it names, that cannot be used.
    fn wrong_use(cause: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::WrongUse, cause: cause.into() }
    }

    /// Returns the failure for a registry or a cluster that did not answer.
    fn could_not_find_out(cause: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::CouldNotFindOut, cause: cause.into() }
    }
}

/// The result of a subcommand's `run`.
type Done = Result<Exit, Failure>;
