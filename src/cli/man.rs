//! `tagpin man`: prints or writes the manual pages, one for each command, from the texts of `--help`.

use std::path::PathBuf;

use anyhow::Context;
use clap_mangen::Man;

use crate::cli::exit::{Done, Exit, Failure};
use crate::cli::output;

/// Prints the manual page (`tagpin man | man -l -`), or writes one for each command into a folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder, which exists: `tagpin man --folder /usr/local/share/man/man1`
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Prints the manual page, or writes one for each command into the folder.
pub(crate) fn run(args: Args, command: clap::Command) -> Done {
    if let Some(folder) = args.folder {
        clap_mangen::generate_to(command, &folder)
            .with_context(|| format!("write the manual pages into {}", folder.display()))
            .map_err(Failure::wrong_use)?;
        return Ok(Exit::Fine);
    }
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(Failure::could_not_find_out)?;
    output::print_bytes(&page).map_err(Failure::could_not_find_out)?;
    Ok(Exit::Fine)
}
