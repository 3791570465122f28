//! Whether a digest that a tag names can also be pulled by digest, which is what a node does once it is pinned: a cache
//! that fetches by tag may not have it yet. It costs one GET for each new digest, which registries count as a pull.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::domain::digest::Digest;
use crate::domain::fact::{Fact, Unavailable};
use crate::registry::classify;
use crate::registry::credential::CredentialId;
use crate::registry::endpoint::{Confirm, RegistryProfile};
use crate::registry::expiring::Expiring;
use crate::registry::manifest::{self, Content};
use crate::registry::observe::{Event, Method, Purpose};
use crate::registry::session::{PullLimit, Question, Session};

/// How long a digest counts as served.
const SERVED: Duration = Duration::from_secs(24 * 60 * 60);
/// Digests that are remembered as served.
const DIGESTS: usize = 16 * 1024;
/// How long what a registry said of its limit counts.
const SAID: Duration = Duration::from_secs(60 * 60);
/// Limits that are remembered.
const LIMITS: usize = 512;
/// How long a cache that was just asked by tag is given before it is asked by digest.
const FETCHES: Duration = Duration::from_millis(300);
/// How often it is given that.
const ATTEMPTS: usize = 2;
/// Images of an index that a cache is made to fetch.
const CHILDREN: usize = 8;

/// What is known of digests and limits.
pub(super) struct Confirmations {
    served: Expiring<Served, ()>,
    limits: Expiring<(String, CredentialId), PullLimit>,
}

/// A digest in a repository, for a credential.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Served {
    digest: Digest,
    repository: String,
    credential: CredentialId,
}

impl Confirmations {
    pub(super) fn new() -> Self {
        Self { served: Expiring::new(DIGESTS), limits: Expiring::new(LIMITS) }
    }

    /// The fact that is left of "the tag names this digest" once it is asked for by digest, if it is to be.
    pub(super) async fn confirm(
        &self,
        profile: &RegistryProfile,
        session: &mut Session<'_>,
        tag: &str,
        digest: Digest,
    ) -> Fact {
        let through = profile.pulls_through(session.path());
        let (host, credential) = session.scope();
        let limit = self.limit(&host, credential, session.pull_limit());
        let repository = format!("{host}/{}", session.repository());
        let key = Served { digest: digest.clone(), repository, credential };
        if self.served.get(&key, Instant::now()).is_some() {
            return Fact::Present(digest);
        }
        match profile.confirm {
            Confirm::Never if !through => return Fact::Present(digest),
            Confirm::Always => {}
            Confirm::Never | Confirm::Auto => {
                if limit.is_some_and(PullLimit::is_low) {
                    session.observe(&Event::Spared);
                    return Fact::Present(digest);
                }
            }
        }
        match by_digest(session, tag, &digest).await {
            Ok(content) => {
                let platforms: Vec<String> = content
                    .children
                    .iter()
                    .filter_map(|child| Some(child.platform.as_ref()?.to_string()))
                    .collect();
                session.observe(&Event::Confirmed { digest: &digest, platforms: &platforms });
                if through {
                    fetch_children(session, &content).await;
                }
                let now = Instant::now();
                self.served.put(key, (), now + SERVED);
                self.limit(&host, credential, session.pull_limit());
                Fact::Present(digest)
            }
            Err(fact) => fact,
        }
    }

    /// What is left of the registry's limit, as it said last.
    fn limit(&self, host: &str, credential: CredentialId, said: Option<PullLimit>) -> Option<PullLimit> {
        let (key, now) = ((host.to_owned(), credential), Instant::now());
        if let Some(said) = said {
            self.limits.put(key, said, now + SAID);
            return Some(said);
        }
        self.limits.get(&key, now)
    }
}

/// The manifest behind a digest; a cache that has not got it is asked by tag first, which makes it fetch.
async fn by_digest(session: &mut Session<'_>, tag: &str, digest: &Digest) -> Result<Content, Fact> {
    for attempt in 0..=ATTEMPTS {
        let reply = match session.ask(&question(session, digest.as_str())).await {
            Ok(reply) => reply,
            Err(refusal) => return Err(classify::refusal(&refusal, session.candidate())),
        };
        match reply.answer.status {
            200 => return manifest::of_digest(&reply.answer, digest),
            404 if attempt == 0 => {
                // Whatever it answers, it has been asked.
                let _ = session.ask(&question(session, tag)).await;
            }
            404 => {}
            _ => return Err(classify::reply(&reply, session.candidate())),
        }
        if attempt < ATTEMPTS {
            sleep(FETCHES).await;
        }
    }
    Err(classify::unavailable(Unavailable::NotByDigest, None))
}

/// Makes the cache fetch what the nodes pull next; what it answers is its own business.
async fn fetch_children(session: &mut Session<'_>, content: &Content) {
    for child in content.children.iter().take(CHILDREN) {
        let _ = session.ask(&question(session, child.digest.as_str())).await;
    }
}

fn question(session: &Session<'_>, reference: &str) -> Question {
    Question {
        purpose: Purpose::Manifest,
        method: Method::Get,
        url: session.url(&["manifests", reference]),
        accept: Some(manifest::ACCEPT),
        limit: manifest::BODY,
    }
}
