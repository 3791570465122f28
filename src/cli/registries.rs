//! `tagpin registries check FILE`: reads a configuration of registries as `tagpin serve` does, and shows its meaning.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::cli::exit::{Done, Exit, Failure};
use crate::cli::output;
use tagpin_registry::{Endpoint, Identity, Profiles, Registries};

/// Work with the configuration of registries
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration file and every file that it names, and show where each registry would be asked
    ///
    /// `tagpin serve` makes the same check at start and whenever the file changes. The chart writes the file from its
    /// values `registries`, `registryDefaults` and `registriesFile`.
    #[command(after_help = "\
Exit codes:
  0  the file can be used; warnings are printed on standard error
  2  the file cannot be used; the error names the file, line and key")]
    Check {
        /// The file with `registries:`
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Checks the file, and prints its meaning.
pub(crate) fn run(args: Args) -> Done {
    let Command::Check { file } = args.command;
    let registries = Registries::load(&file).map_err(Failure::wrong_use)?;
    for warning in registries.warnings() {
        output::note(warning);
    }
    output::print(&shown(&file, &registries)).map_err(Failure::could_not_find_out)?;
    Ok(Exit::Fine)
}

fn shown(file: &Path, registries: &Registries) -> String {
    let mut lines = vec![format!("{}: can be used", file.display())];
    for pattern in registries.patterns() {
        if pattern.contains('*') {
            lines.push(format!("{pattern}: each registry that matches, by the rules of the entry"));
            continue;
        }
        let profile = registries.profile(pattern);
        if profile.offline {
            lines.push(format!("{pattern}: never asked"));
            continue;
        }
        let asked: Vec<String> = profile.authorities().map(described).collect();
        lines.push(format!("{pattern}: {}", asked.join(", then ")));
    }
    lines.join("\n") + "\n"
}

fn described(endpoint: &Endpoint) -> String {
    let who = match &endpoint.identity {
        Identity::Asker => "with the asker's credentials".to_owned(),
        Identity::Anonymous => "anonymously".to_owned(),
        Identity::Own(candidate) => format!("with the {}", candidate.source),
    };
    format!("{} {who}", endpoint.root())
}
