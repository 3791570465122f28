//! `tagpin doctor`: checks an installation, and prints what is broken and how to repair it.
//! [`gather`] asks the cluster, [`judge`] makes rows of the answers, and [`report`] prints them.

use anyhow::Context;
use clap::ValueEnum;
use tokio::runtime;

use crate::cli::doctor::report::Report;
use crate::cli::exit::{Done, Failure};
use crate::cli::output;
use tagpin_kube::client;

mod configuration;
mod findings;
mod gather;
mod judge;
mod question;
mod replica;
mod report;

/// Check the installation in your cluster, and print what is broken and how to repair it
///
/// The command reads the cluster of your kubeconfig's current context ($KUBECONFIG, ~/.kube/config)
/// and changes nothing. It asks every replica through a port-forward for its policies and for the
/// answers of registries, because a replica may reach other registries than your machine does.
///
/// Each check prints a row with a status: ok, note (worth knowing), unknown (the check failed) or
/// red (broken). A red row has a remedy. A check that needs a right which you lack is unknown, and
/// its row names the right. The command needs these rights:
///
///   get       customresourcedefinitions, mutatingwebhookconfigurations, validatingwebhookconfigurations
///   list      namespaces, pods, clusterimagepolicies.tagpin.dev, imagepolicies.tagpin.dev
///   create    subjectaccessreviews.authorization.k8s.io
///   in tagpin's namespace: get deployments, leases, secrets/tagpin-webhook-tls; create pods/portforward;
///   get the configmaps and secrets that the Deployment mounts: configmaps/tagpin, and those of your values
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
#[command(after_help = "\
Exit codes:
  0  every row is ok or a note
  1  at least one row is red
  2  wrong use
  3  no row is red, and at least one is unknown

Examples:
  tagpin doctor
  tagpin doctor --output json | jq -r '.rows[] | select(.status == \"red\") | .remedy'")]
pub(crate) struct Args {
    /// The namespace that tagpin is installed in
    #[arg(long, short, default_value = "tagpin-system", value_name = "NAMESPACE")]
    namespace: String,

    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table
    Text,
    /// One JSON object with stable fields: status, rows[].{check,status,detail,remedy}
    Json,
}

/// Checks the installation, and prints the report.
pub(crate) fn run(args: Args) -> Done {
    let Args { namespace, output } = args;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start").map_err(Failure::could_not_find_out)?;
    let found = runtime.block_on(async {
        let client = client::connect().await?;
        anyhow::Ok(gather::gather(client, namespace).await)
    });
    let report = Report::new(judge::judge(&found.map_err(Failure::could_not_find_out)?));
    let text = match output {
        Output::Text => report.text(),
        Output::Json => report.json().context("write JSON").map_err(Failure::could_not_find_out)?,
    };
    output::print(&text).map_err(Failure::could_not_find_out)?;
    Ok(report.exit())
}
