//! `tagpin resolve`: looks up a tag as a review does, and shows every step. It uses the same client as a review, and
//! the credentials of the person at the command line.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use crate::cli::asking::{Asking, Output, Person};
use crate::cli::exit::{Done, Failure};
use crate::cli::output;
use crate::cli::resolve::account::{Account, Passed};
use crate::cli::resolve::answer::Answer;
use crate::cli::resolve::trace::Trace;
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::{Class, Fact};
use tagpin_domain::image::ImageRef;
use tagpin_domain::platform::Platform;
use tagpin_registry::{Candidate, Client, Credentials, Lookup, Suggestions};
use tagpin_review::{Effort, Suggest};

mod account;
mod answer;
mod trace;

/// Look up which digest a tag names, and show each request and its answer
///
/// It asks the registry as the operator does, with your own credentials: those of docker (config.json in
/// $DOCKER_CONFIG or ~/.docker, and the credential helpers that it names), then those of Podman
/// (auth.json). $HTTPS_PROXY and $NO_PROXY count if --registries names no proxy.
///
/// The registry that you type is asked wherever it is: also at a private address, under a name of one
/// word, and on this machine, there over plain http if it does not speak TLS. A note says if the cluster
/// does not ask it. With --as, and inside a pod, the rules of the cluster apply, and an entry in
/// --registries allows what they refuse:
///
///   registries: [ { match: "registry.corp:5000", allowPrivate: true } ]
///
/// An image with a digest is asked for by its digest. If it has a tag too, and the tag names another
/// digest now, the answer says so.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
#[command(after_help = "\
Exit codes:
  0  the tag has a digest, or the registry has the digest
  1  the tag, the digest or the repository does not exist, or no node (of --platform) can run the image
  2  the reference, a file or the service account cannot be used
  3  no answer from the registry or the cluster: not allowed, not reached, or not asked")]
pub(crate) struct Args {
    /// The image, as in a pod: nginx:1.29, ghcr.io/acme/api:1.4.7
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Also show which image a node of this platform gets: linux/arm64, linux/arm/v7
    ///
    /// This costs a pull: it reads the manifest, nested indexes (four deep), and the configuration of an image whose
    /// index names no platform.
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    platform: Option<Platform>,

    /// Ask with the pull secrets of a service account, read from the cluster of your kubeconfig
    ///
    /// Your user needs the right to get that service account and its secrets. Your own credentials are not used then. Credentials of a cloud that --registries gives count after the pull secrets, as in the cluster. The
    /// cloud is asked as you, because only tagpin's own pod has its identity.
    #[arg(long = "as", value_name = "NAMESPACE/NAME")]
    account: Option<Account>,

    /// Show the headers of every request and response, without secrets
    #[arg(long)]
    trace: bool,

    #[command(flatten)]
    asking: Asking,
}

/// Looks the tag up, and prints the result.
pub(crate) fn run(args: Args) -> Done {
    let Args { image, platform, account, trace, asking } = args;
    let image = ImageRef::parse(&image)
        .with_context(|| format!("read the reference {image:?}"))
        .map_err(Failure::wrong_use)?;
    let person = asking.person(&image, account.is_some())?;
    let question = Question { image, platform, account, trace: Arc::new(Trace::new(trace)) };
    let answer = asking.wait_for(question.ask(person, asking.budget()))??;
    let text = match asking.output {
        Output::Text => answer.text(),
        Output::Json => answer.json().context("write JSON").map_err(Failure::could_not_find_out)?,
    };
    output::print(&text).map_err(Failure::could_not_find_out)?;
    Ok(answer.exit())
}

/// The question, and what is needed to answer it.
struct Question {
    image: ImageRef,
    platform: Option<Platform>,
    account: Option<Account>,
    trace: Arc<Trace>,
}

impl Question {
    async fn ask(&self, person: Person, budget: Duration) -> Result<Answer, Failure> {
        let Self { image, platform, account, trace } = self;
        let deadline = Instant::now() + budget;
        let transport = Arc::clone(&person.transport);
        let profiles = person.profiles();
        let client = Client::new(Arc::clone(&transport), Arc::clone(&profiles), Arc::clone(trace) as _);
        let passed = Arc::new(Passed::default());
        let laptop = person.laptop().cloned();
        let (asker, credentials): (Asker, Arc<dyn Credentials>) = match account {
            None => (Asker::anonymous(), Arc::new(person)),
            Some(account) => {
                let registries = Arc::clone(&person.registries);
                let transport = Arc::clone(&transport);
                let (asker, secrets) = account.find(registries, transport, Arc::clone(&passed)).await?;
                (asker, Arc::new(secrets))
            }
        };
        let held = credentials.candidates(&asker, image, deadline).await;
        let candidates = &held.candidates;
        let suggestions = Suggestions::for_person(client.clone(), credentials, budget);
        let mut fact = look_up(&client, image, candidates, deadline).await;
        if let Some(laptop) = laptop {
            if laptop.asks_again(&fact) {
                fact = look_up(&client, image, candidates, deadline).await;
            }
            laptop.note(Some(&fact), &transport).await.iter().for_each(|note| output::note(note));
        }
        // Only now is it known which rights are missing.
        note(candidates, &passed);
        let fact = held.tell(fact, &asker);
        let similar = match Answer::wants_similar(&fact) {
            true => suggestions.similar_tags(image, &asker, Effort::Until(deadline)).await,
            false => Vec::new(),
        };
        let mut answer = Answer::new(image, &fact, &*profiles, similar);
        if let (Fact::Present(digest), Some(tag)) = (&fact, tag_beside_digest(image)) {
            answer.tell_tag(digest, &client.look_up(&tag, candidates, deadline).await);
        }
        if let (Fact::Present(digest), Some(wanted)) = (&fact, platform) {
            let found = client.for_platform(image, digest, wanted, candidates, deadline).await;
            answer.tell_platform(wanted, found);
        }
        if fact.class() == Class::Unauthorized && candidates.iter().any(|own| own.credential.is_secret()) {
            let anonymous = [Candidate::anonymous()];
            answer.tell_anonymous(&look_up(&client, image, &anonymous, deadline).await);
        }
        answer.steps = trace.steps();
        Ok(answer)
    }
}

/// Asks for the digest that the image names, or else for its tag.
async fn look_up(client: &Client, image: &ImageRef, candidates: &[Candidate], deadline: Instant) -> Fact {
    match image.digest() {
        Some(_) => client.look_up_digest(image, candidates, deadline).await,
        None => client.look_up(image, candidates, deadline).await,
    }
}

/// Returns the reference by tag alone, if the image names a tag beside its digest.
fn tag_beside_digest(image: &ImageRef) -> Option<ImageRef> {
    image.digest()?;
    ImageRef::parse(&format!("{}:{}", image.repository(), image.tag()?)).ok()
}

/// Prints notes about credentials, beside the answer.
fn note(candidates: &[Candidate], passed: &Passed) {
    for own in candidates.iter().filter(|own| own.stretched) {
        output::note(&format!(
            "the location in {} is only the start of this repository's name; nodes use it as well",
            own.source
        ));
    }
    passed.notes().iter().for_each(|note| output::note(note));
}
