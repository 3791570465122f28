//! `tagpin resolve`: the question that a review asks, asked by hand, with every step shown.
//! The client is the same; who asks is the person at the command line.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use crate::cli::asking::{Asking, Output, Person};
use crate::cli::resolve::answer::Answer;
use crate::cli::resolve::trace::Trace;
use crate::cli::{Done, Failure, output};
use crate::domain::asker::Asker;
use crate::domain::image::ImageRef;
use crate::registry::client::Client;
use crate::registry::credential::Credentials;
use crate::registry::guard::SystemNames;
use crate::registry::suggest::Suggestions;
use crate::registry::transport::Transport;
use crate::registry::{Effort, Lookup, Suggest};

mod answer;
mod trace;

/// Ask a registry which digest a tag has, and show what was asked, answered and chosen
///
/// It asks as the operator does, with the credentials of your docker configuration (config.json in
/// $DOCKER_CONFIG or ~/.docker; credential helpers are not run). Private addresses are out of reach,
/// and localhost and hosts of a single label are not asked, until --registries names them:
///
///   registries: [ { match: "localhost:5000", allowPrivate: true } ]
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
#[command(after_help = "\
Exit codes:
  0  the tag has a digest
  1  the tag or its repository does not exist, or is nothing that a node can run
  2  the reference or a file can not be used
  3  the registry did not say: not allowed, not reached, not asked")]
pub(crate) struct Args {
    /// The image, as in a pod: nginx:1.29, ghcr.io/acme/api:1.4.7
    #[arg(value_name = "IMAGE")]
    image: String,

    #[command(flatten)]
    asking: Asking,
}

/// Asks, and prints what came of it.
pub(crate) fn run(args: Args) -> Done {
    let Args { image, asking } = args;
    let image = ImageRef::parse(&image)
        .with_context(|| format!("read the reference {image:?}"))
        .map_err(Failure::wrong_use)?;
    let person = asking.person()?;
    let answer = asking.wait_for(ask(&image, person, asking.budget()))?;
    let text = match asking.output {
        Output::Text => answer.text(),
        Output::Json => answer.json().context("write JSON").map_err(Failure::could_not_find_out)?,
    };
    output::print(&text).map_err(Failure::could_not_find_out)?;
    Ok(answer.exit())
}

async fn ask(image: &ImageRef, person: Person, budget: Duration) -> Answer {
    let deadline = Instant::now() + budget;
    let trace = Arc::new(Trace::default());
    let transport = Transport::new(Arc::new(SystemNames));
    let client = Client::new(transport, Arc::clone(&person.registries) as _, Arc::clone(&trace) as _);
    let asker = Asker::anonymous();
    let candidates = person.candidates(&asker, image, deadline).await;
    let suggestions = Suggestions::new(client, Arc::new(person), budget);
    let fact = suggestions.look_up(image, &candidates, deadline).await;
    let similar = match Answer::wants_similar(&fact) {
        true => suggestions.similar_tags(image, &asker, Effort::Until(deadline)).await,
        false => Vec::new(),
    };
    Answer::new(image, &fact, similar, trace.steps())
}
