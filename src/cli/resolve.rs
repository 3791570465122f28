//! `tagpin resolve`: the question that a review asks, asked by hand, with every step shown.
//! The client is the same; who asks is the person at the command line.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use clap::ValueEnum;
use tokio::runtime;
use tokio::time::Instant;

use crate::cli::resolve::answer::Answer;
use crate::cli::resolve::trace::Trace;
use crate::cli::{Done, Failure, output};
use crate::domain::asker::Asker;
use crate::domain::image::ImageRef;
use crate::registry::client::Client;
use crate::registry::config::{OperatorCredential, Registries};
use crate::registry::credential::{Candidate, Credential, Credentials};
use crate::registry::endpoint::Profiles;
use crate::registry::guard::SystemNames;
use crate::registry::suggest::Suggestions;
use crate::registry::transport::Transport;
use crate::registry::user_config::UserConfig;
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

    /// File with the `registries:` configuration, as in the chart's values
    #[arg(long, value_name = "FILE")]
    registries: Option<PathBuf>,

    /// How long the whole may take, in seconds
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
    timeout: u16,

    /// What is printed
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Lines to read
    Text,
    /// One JSON object, whose fields stay
    Json,
}

/// Asks, and prints what came of it.
pub(crate) fn run(args: Args) -> Done {
    let Args { image, registries, timeout, output } = args;
    let image = ImageRef::parse(&image)
        .with_context(|| format!("read the reference {image:?}"))
        .map_err(Failure::wrong_use)?;
    let registries = match &registries {
        None => Registries::default(),
        Some(file) => Registries::load(file).map_err(Failure::wrong_use)?,
    };
    let registries = Arc::new(registries);
    let user = user_config().map_err(Failure::wrong_use)?;
    let person = Person { user, registries: Arc::clone(&registries) };
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start").map_err(Failure::could_not_find_out)?;
    let budget = Duration::from_secs(timeout.into());
    let answer = runtime.block_on(ask(&image, person, registries, budget));
    let text = match output {
        Output::Text => answer.text(),
        Output::Json => answer.json().context("write JSON").map_err(Failure::could_not_find_out)?,
    };
    output::print(&text).map_err(Failure::could_not_find_out)?;
    Ok(answer.exit())
}

async fn ask(image: &ImageRef, person: Person, profiles: Arc<dyn Profiles>, budget: Duration) -> Answer {
    let deadline = Instant::now() + budget;
    let trace = Arc::new(Trace::default());
    let transport = Transport::new(Arc::new(SystemNames));
    let client = Client::new(transport, profiles, Arc::clone(&trace) as _);
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

/// The person at the command line: their own credentials, else those that the registries file gives.
struct Person {
    user: UserConfig,
    registries: Arc<Registries>,
}

#[async_trait]
impl Credentials for Person {
    async fn candidates(&self, asker: &Asker, image: &ImageRef, deadline: Instant) -> Vec<Candidate> {
        let own = self.user.candidates(asker, image, deadline).await;
        let has_own = own.iter().any(|own| !matches!(own.credential, Credential::Anonymous));
        match self.registries.credential(image.domain()) {
            Some(OperatorCredential::Given(given)) if !has_own => vec![given.clone()],
            // A secret of the cluster is not at hand here.
            _ => own,
        }
    }
}

fn user_config() -> anyhow::Result<UserConfig> {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from);
    match UserConfig::path(variable("DOCKER_CONFIG"), variable("HOME")) {
        None => Ok(UserConfig::default()),
        Some(file) => Ok(UserConfig::load(&file)?),
    }
}
