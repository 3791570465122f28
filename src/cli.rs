//! The command line: what can be typed, and what the process answers. It decides nothing about images.
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

/// Parses the command line, runs it and says how it went.
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

/// How a command ended: the exit code, as scripts read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Nothing is wrong.
    Fine = 0,
    /// Something that was looked for is missing, or breaks a rule.
    Violations = 1,
    /// What was typed, or a file that it names, can not be used.
    WrongUse = 2,
    /// The registry or the cluster did not answer, so nobody knows.
    CouldNotFindOut = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ended before it was done.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    cause: anyhow::Error,
}

impl Failure {
    /// What was typed, or a file that it names, can not be used.
    fn wrong_use(cause: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::WrongUse, cause: cause.into() }
    }

    /// The registry or the cluster did not answer.
    fn could_not_find_out(cause: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::CouldNotFindOut, cause: cause.into() }
    }
}

/// What a subcommand's `run` gives back.
type Done = Result<Exit, Failure>;
