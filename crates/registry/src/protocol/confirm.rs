//! Confirms that the digest that a tag names is served by digest, because this is how a node pulls it once it is
//! pinned. A cache that fetches by tag may not have it yet. It costs one GET for each new digest, which registries
//! count as a pull. The same GET tells an image from a chart, which a response to HEAD does not.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::credential::CredentialId;
use crate::observe::{Method, Purpose, Step};
use crate::profile::endpoint::{Confirm, RegistryProfile};
use crate::protocol::classify;
use crate::protocol::manifest::{self, Content};
use crate::protocol::reply::{PullLimit, Question};
use crate::protocol::session::Session;
use crate::sharing::expiring::Expiring;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::{Fact, Unavailable};

/// Time for which a digest counts as served.
const SERVED: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum number of digests that are remembered as served.
const DIGESTS: usize = 16 * 1024;
/// Time for which the limit that a registry reported is valid.
const SAID: Duration = Duration::from_secs(60 * 60);
/// Maximum number of limits that are remembered.
const LIMITS: usize = 512;
/// Time that a cache gets to fetch after it was asked by tag.
const FETCHES: Duration = Duration::from_millis(300);
/// Number of times that it gets that time.
const ATTEMPTS: usize = 2;
/// Maximum time to look into a manifest, and the time until the next attempt after one that failed.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5 * 60));
/// Maximum number of images of an index that a cache is made to fetch.
const CHILDREN: usize = 8;

/// The digests that are served, and the limits that registries reported.
pub(super) struct Confirmations {
    served: Expiring<Served, Inside>,
    limits: Expiring<(String, CredentialId), PullLimit>,
}

/// The content of a digest, as far as it was looked into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// An image, or nothing is known.
    Image,
    /// Something else.
    Artifact { wasm: bool },
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

    /// Returns the fact for a tag that names this digest, after asking for the digest if the profile says so. A single
    /// manifest may be an image or anything else.
    pub(super) async fn confirm(
        &self,
        profile: &RegistryProfile,
        session: &mut Session<'_>,
        tag: &str,
        digest: Digest,
        is_single: bool,
    ) -> Fact {
        let through = profile.pulls_through(session.path());
        let (host, credential) = session.scope();
        let limit = self.limit(&host, credential, session.pull_limit());
        let (repository, _) = session.place();
        let key = Served { digest: digest.clone(), repository, credential };
        match self.served.get(&key, Instant::now()) {
            Some(Inside::Image) => return Fact::Present(digest),
            Some(Inside::Artifact { wasm }) => return Fact::Artifact { digest, wasm },
            None => {}
        }
        let only_looks = profile.confirm == Confirm::Never && !through;
        if only_looks && !(is_single && profile.looks_inside) {
            return Fact::Present(digest);
        }
        if profile.confirm != Confirm::Always && limit.is_some_and(PullLimit::is_low) {
            session.observe(Step::Spared);
            return Fact::Present(digest);
        }
        if only_looks {
            return self.look_inside(session, digest, key).await;
        }
        match by_digest(session, tag, &digest).await {
            Ok(content) => {
                let platforms: Vec<String> = content
                    .children
                    .iter()
                    .filter_map(|child| Some(child.platform.as_ref()?.to_string()))
                    .collect();
                session.observe(Step::Confirmed { digest: &digest, platforms: &platforms });
                if through {
                    fetch_children(session, &content).await;
                }
                self.served.put(key, Inside::Image, Instant::now() + SERVED);
                self.limit(&host, credential, session.pull_limit());
                Fact::Present(digest)
            }
            Err(fact) => self.put_artifact(key, fact),
        }
    }

    /// Returns the fact for the digest of a single manifest after reading the manifest. If it cannot be read, the
    /// digest counts as that of an image.
    async fn look_inside(&self, session: &mut Session<'_>, digest: Digest, key: Served) -> Fact {
        let question = question(session, digest.as_str());
        let within = LOOK.0.min(session.left() / 2);
        let reply = timeout(within, session.ask(&question)).await;
        let (host, credential) = session.scope();
        self.limit(&host, credential, session.pull_limit());
        let until = match reply {
            Ok(Ok(reply)) if reply.answer.status == 200 => {
                match manifest::of_digest(&reply.answer, &digest) {
                    Err(fact @ (Fact::Artifact { .. } | Fact::Broken(_))) => {
                        return self.put_artifact(key, fact);
                    }
                    Err(_) => LOOK.1,
                    Ok(_) => SERVED,
                }
            }
            _ => LOOK.1,
        };
        self.served.put(key, Inside::Image, Instant::now() + until);
        Fact::Present(digest)
    }

    /// Remembers an artifact, whose digest always has the same content.
    fn put_artifact(&self, key: Served, fact: Fact) -> Fact {
        if let Fact::Artifact { wasm, .. } = fact {
            self.served.put(key, Inside::Artifact { wasm }, Instant::now() + SERVED);
        }
        fact
    }

    /// Returns the limit that the registry reported last.
    fn limit(&self, host: &str, credential: CredentialId, said: Option<PullLimit>) -> Option<PullLimit> {
        let (key, now) = ((host.to_owned(), credential), Instant::now());
        if let Some(said) = said {
            self.limits.put(key, said, now + SAID);
            return Some(said);
        }
        self.limits.get(&key, now)
    }
}

/// Returns the manifest behind a digest. A cache that does not have it is asked by tag first, which makes it fetch.
async fn by_digest(session: &mut Session<'_>, tag: &str, digest: &Digest) -> Result<Content, Fact> {
    for attempt in 0..=ATTEMPTS {
        let reply = match session.ask(&question(session, digest.as_str())).await {
            Ok(reply) => reply,
            Err(refusal) => return Err(classify::refusal(&refusal, &session.asked_as())),
        };
        match reply.answer.status {
            200 => return manifest::of_digest(&reply.answer, digest),
            404 if attempt == 0 => {
                // The request alone makes the cache fetch; its answer does not matter.
                let _ = session.ask(&question(session, tag)).await;
            }
            404 => {}
            _ => return Err(classify::reply(&reply, &session.asked_as())),
        }
        if attempt < ATTEMPTS {
            sleep(FETCHES).await;
        }
    }
    Err(Fact::unavailable(Unavailable::NotByDigest))
}

/// Makes the cache fetch what the nodes pull next; its answers do not matter.
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
