//! `tagpin doctor`: is the installation well, and if not, why and what to do.
//! It gathers, judges and prints; [`judge`] alone says what is red.

use anyhow::Context;
use clap::ValueEnum;
use tokio::runtime;

use crate::cli::doctor::report::Report;
use crate::cli::{Done, Failure, output};
use tagpin_kube::client;

mod configuration;
mod findings;
mod gather;
mod judge;
mod replica;
mod report;

/// Look at the installation in your cluster: what is broken, and what to do about it
///
/// It reads the cluster that your kubeconfig names ($KUBECONFIG, ~/.kube/config, its current context)
/// and changes nothing. What registries and policies look like is asked of every replica by itself,
/// through a port-forward, since your machine's view is not theirs.
///
/// One row for each thing: ok, note (worth knowing), unknown (nobody could say), red (broken).
/// A red row says what to do. Rows whose right you lack are unknown and name it. The rights:
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
  0  nothing is red
  1  something is red
  2  wrong use
  3  something could not be found out, and nothing is red

Examples:
  tagpin doctor
  tagpin doctor --output json | jq -r '.rows[] | select(.status == \"red\") | .remedy'")]
pub(crate) struct Args {
    /// Where tagpin is installed
    #[arg(long, short, default_value = "tagpin-system", value_name = "NAMESPACE")]
    namespace: String,

    /// What is printed
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table to read
    Text,
    /// One JSON object, whose fields stay: status, rows[].{check,status,detail,remedy}
    Json,
}

/// Looks, and prints what was seen.
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
