//! `tagpin crds`: prints the custom resource definitions as YAML.

use crate::cli::exit::{Done, Exit, Failure};
use crate::cli::output;
use tagpin_kube::crds;

/// Prints the custom resource definitions, for `kubectl apply --server-side -f -`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Prints the definitions.
pub(crate) fn run(_: Args) -> Done {
    let yaml = crds::yaml().map_err(Failure::could_not_find_out)?;
    output::print(&yaml).map_err(Failure::could_not_find_out)?;
    Ok(Exit::Fine)
}
