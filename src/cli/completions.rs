//! `tagpin completions`: prints the script by which a shell completes the commands. `cli` defines the commands.

use clap_complete::{Shell, generate};

use crate::cli::exit::{Done, Exit, Failure};
use crate::cli::output;

/// Prints a shell's completions: `source <(tagpin completions bash)`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell that reads them
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: Args, mut command: clap::Command) -> Done {
    let name = command.get_name().to_owned();
    // The script is written into memory first: a closed pipe is an error to report, and the generator would panic.
    let mut script = Vec::new();
    generate(args.shell, &mut command, name, &mut script);
    output::print_bytes(&script).map_err(Failure::could_not_find_out)?;
    Ok(Exit::Fine)
}
