//! The result of a command: its exit code, or the failure that ended it.

use std::process::ExitCode;

/// The exit code of a command. Scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
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
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) cause: anyhow::Error,
}

impl Failure {
    /// Returns the failure for an argument, or a file that it names, that cannot be used.
    pub(super) fn wrong_use(cause: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::WrongUse, cause: cause.into() }
    }

    /// Returns the failure for a registry or a cluster that did not answer.
    pub(super) fn could_not_find_out(cause: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::CouldNotFindOut, cause: cause.into() }
    }
}

/// The result of a subcommand's `run`.
pub(super) type Done = Result<Exit, Failure>;
