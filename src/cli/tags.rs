//! `tagpin tags`: lists the tags of a repository, the newest version first.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use futures::stream::{self, StreamExt};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::cli::asking::{self, Asking, Output, Person};
use crate::cli::exit::{Done, Exit, Failure};
use crate::cli::output;
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::Fact;
use tagpin_domain::glob::Globs;
use tagpin_domain::image::ImageRef;
use tagpin_domain::work::Work;
use tagpin_registry::{Client, Credentials, Lookup, Profiles};

/// Maximum number of digests that are looked up at once.
const AT_ONCE: usize = 4;

/// List the tags of a repository, the newest version first
///
/// Versions come first, the newest before the older and a release before its flavours (1.29.3 before
/// 1.29.3-alpine), then words. Signatures and attestations are left out. It asks as `tagpin resolve`
/// does, with your own credentials, also at a private address and on this machine.
///
///   tagpin tags nginx --matching '1.29.*'
///   tagpin tags ghcr.io/acme/api --matching 'v2.*' --digests
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
#[command(after_help = "\
Exit codes:
  0  the tags are listed, perhaps none
  1  the repository does not exist
  2  the name, the glob or a file cannot be used
  3  no answer from the registry: not allowed, not reached, not asked, or too late for some digests")]
pub(crate) struct Args {
    /// The repository, without a tag: nginx, ghcr.io/acme/api
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Only tags that match this glob: `*` is any run of characters, `?` is one, `{a,b}` is either
    #[arg(long, value_name = "GLOB")]
    matching: Option<String>,

    /// Ask for the digest of each tag that is listed: one request for each
    #[arg(long)]
    digests: bool,

    #[command(flatten)]
    asking: Asking,
}

/// The output; the names of its fields are stable.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    /// The normalised repository.
    repository: String,
    /// `Present`, `Offline`, or the code of a denial.
    outcome: &'static str,
    tags: Vec<Tag>,
    /// True if the registry has no more tags than were read.
    whole: bool,
    problem: Option<String>,
    remedy: Option<String>,
    retry_after_seconds: Option<u64>,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Debug, Serialize)]
struct Tag {
    tag: String,
    /// With `--digests`: the digest, if the registry gave it.
    digest: Option<String>,
}

/// Lists the tags, and prints them.
pub(crate) fn run(args: Args) -> Done {
    let Args { image, matching, digests, asking } = args;
    let image = ImageRef::parse(&image)
        .with_context(|| format!("read the name {image:?}"))
        .map_err(Failure::wrong_use)?;
    if image.tag().is_some() || image.digest().is_some() {
        let name = image.written_name();
        return Err(Failure::wrong_use(anyhow!(
            "list the tags of {:?}: write the name alone ({name}), and --matching GLOB for some of its tags",
            image.original()
        )));
    }
    let matching = matching.map(|glob| Globs::new(&[glob])).transpose();
    let matching = matching.context("read --matching").map_err(Failure::wrong_use)?;
    let person = asking.person(&image, false)?;
    let deadline = asking.budget();
    let answer = asking.wait_for(async {
        let deadline = Instant::now() + deadline;
        list(&image, &person, matching.as_ref(), digests, deadline).await
    })?;
    let text = match asking.output {
        Output::Text => answer.text(&image),
        Output::Json => {
            let json = serde_json::to_string_pretty(&answer).context("write JSON");
            json.map_err(Failure::could_not_find_out)? + "\n"
        }
    };
    output::print(&text).map_err(Failure::could_not_find_out)?;
    if asking.output == Output::Text {
        answer.notes().iter().for_each(|note| output::note(note));
    }
    Ok(answer.exit)
}

async fn list(
    image: &ImageRef,
    person: &Person,
    matching: Option<&Globs>,
    digests: bool,
    deadline: Instant,
) -> Answer {
    let transport = Arc::clone(&person.transport);
    let client = Client::new(Arc::clone(&transport), person.profiles(), Arc::new(()));
    let (nobody, laptop) = (Asker::anonymous(), person.laptop());
    let held = person.candidates(&nobody, image, deadline).await;
    let candidates = &held.candidates;
    let mut listed = client.list_tags(image, candidates, deadline).await;
    if let (Some(laptop), Err(fact)) = (laptop, &listed)
        && laptop.asks_again(fact)
    {
        listed = client.list_tags(image, candidates, deadline).await;
    }
    let fact = listed.as_ref().err();
    if let Some(laptop) = laptop
        && let Some(note) = laptop.note(fact, &transport).await
    {
        output::note(&note);
    }
    let (mut tags, whole) = match listed {
        Ok(list) => (list.tags, list.whole),
        Err(fact) => return Answer::without(image, &held.tell(fact, &nobody), &*person.registries),
    };
    // One glob never takes all the work of an object for one tag.
    tags.retain(|tag| matching.is_none_or(|matching| matching.is_match(tag, &Work::default()) == Ok(true)));
    let client = &client;
    let digest_of = |tag: String| async move {
        let named = ImageRef::parse(&format!("{}:{tag}", image.repository())).ok().filter(|_| digests);
        let digest = match named {
            None => None,
            Some(named) => match timeout_at(deadline, client.look_up(&named, candidates, deadline)).await {
                Ok(Fact::Present(digest)) => Some(digest.to_string()),
                _ => None,
            },
        };
        Tag { tag, digest }
    };
    let tags: Vec<Tag> = stream::iter(tags.into_iter().map(digest_of)).buffered(AT_ONCE).collect().await;
    let told = !digests || tags.iter().all(|tag| tag.digest.is_some());
    Answer {
        repository: image.repository().to_owned(),
        outcome: "Present",
        tags,
        whole,
        problem: None,
        remedy: None,
        retry_after_seconds: None,
        exit: if told { Exit::Fine } else { Exit::CouldNotFindOut },
    }
}

impl Answer {
    /// Creates the output for a repository without a list.
    fn without(image: &ImageRef, fact: &Fact, registries: &dyn Profiles) -> Self {
        let (problem, remedy) = asking::problem(image, fact, registries).unzip();
        Self {
            repository: image.repository().to_owned(),
            outcome: asking::outcome(fact),
            tags: Vec::new(),
            whole: false,
            problem,
            remedy,
            retry_after_seconds: fact.retry_after().map(|wait| wait.as_secs()),
            exit: asking::exit(fact),
        }
    }

    fn text(&self, image: &ImageRef) -> String {
        let width = self.tags.iter().map(|tag| tag.tag.len()).max().unwrap_or_default();
        let mut lines: Vec<String> = self.tags.iter().map(|tag| tag.line(width)).collect();
        if let Some(problem) = &self.problem {
            lines.push(format!("image \"{}\": {problem} [{}]", image.original(), self.outcome));
        }
        lines.extend(self.retry_after_seconds.map(|wait| format!("  try again in {wait} s")));
        lines.extend(self.remedy.as_ref().map(|remedy| format!("  to do:  {remedy}")));
        lines.into_iter().map(|line| line + "\n").collect()
    }

    /// Returns notes for a person, printed beside the list, which programs may read line by line.
    fn notes(&self) -> Vec<&'static str> {
        let listed = self.problem.is_none();
        let mut notes = Vec::new();
        if listed && self.tags.is_empty() {
            notes.push("no tags");
        }
        if listed && !self.whole {
            notes.push("the repository has more tags than could be read");
        }
        if listed && self.exit == Exit::CouldNotFindOut {
            notes.push("some digests did not arrive in time: list fewer tags with --matching, or allow more time with --timeout");
        }
        notes
    }
}

impl Tag {
    fn line(&self, width: usize) -> String {
        match &self.digest {
            Some(digest) => format!("{:width$}  {digest}", self.tag),
            None => self.tag.clone(),
        }
    }
}
