//! Decides what a 404 for a manifest proves. Registries hide private repositories behind it, so it counts only from a
//! registry that is known to tell the two apart, or for a repository that the registry shows to the asker.

use std::time::Duration;

use tokio::time::Instant;

use crate::credential::{Archive, CredentialId};
use crate::profile::cloud_host::EcrHost;
use crate::profile::not_found::NotFound;
use crate::protocol::classify;
use crate::protocol::codes::{Codes, codes, is_limit};
use crate::protocol::reference::Reference;
use crate::protocol::reply::{AskedAs, Proved, Reply};
use crate::protocol::session::Session;
use crate::protocol::tags::{self, Listing, Pages};
use crate::sharing::expiring::Expiring;
use crate::wire::message::HttpResponse;
use tagpin_domain::fact::{Fact, Unavailable};

/// Time for which a repository counts as shown.
const SHOWN: Duration = Duration::from_secs(10 * 60);
/// Maximum number of repositories that are remembered as shown.
const REPOSITORIES: usize = 4096;

/// The repositories that registries showed a moment ago, with the credentials to which they did.
pub(super) struct Shown(Expiring<(String, CredentialId), ()>);

impl Shown {
    pub(super) fn new() -> Self {
        Self(Expiring::new(REPOSITORIES))
    }

    /// Remembers that the registry showed the repository of the session to its credential.
    pub(super) fn put(&self, session: &Session<'_>) {
        self.0.put(session.place(), (), Instant::now() + SHOWN);
    }

    fn has(&self, session: &Session<'_>) -> bool {
        self.0.get(&session.place(), Instant::now()).is_some()
    }
}

/// Returns true for a response that may mean that something is missing: a 404, or the 403 that Artifactory sends for
/// a missing tag of a virtual repository (go-containerregistry#1691).
pub(super) fn may_be_missing(answer: &HttpResponse) -> bool {
    let artifactory =
        |value: &str| value.get(..11).is_some_and(|start| start.eq_ignore_ascii_case("artifactory"));
    let is_artifactory =
        || answer.header("x-artifactory-id").is_some() || answer.header("server").is_some_and(artifactory);
    answer.status == 404 || (answer.status == 403 && is_artifactory() && !is_limit(answer))
}

/// Returns the fact for a list of tags that was answered with a 404.
pub(super) fn without_list(reply: &Reply, not_found: NotFound, asked: &AskedAs<'_>) -> Fact {
    if not_found == NotFound::Never {
        return Fact::unavailable(Unavailable::NotInCache);
    }
    if !codes(&reply.answer.body).name_unknown {
        return Fact::unavailable(Unavailable::NoTagList);
    }
    no_repository(is_proof(not_found, reply), asked)
}

/// A reference that a registry did not find.
pub(super) struct Missing<'a> {
    pub(super) reference: Reference<'a>,
    /// The repository, as the image names it.
    pub(super) repository: &'a str,
    pub(super) not_found: NotFound,
    pub(super) pages: &'a Pages,
    pub(super) shown: &'a Shown,
}

impl Missing<'_> {
    /// Returns the fact for the response to a GET of the manifest, after asking for the tags if they can tell.
    pub(super) async fn conclude(&self, session: &mut Session<'_>, get: &Reply) -> Fact {
        let said = codes(&get.answer.body);
        if said.not_acceptable {
            return Fact::unavailable(Unavailable::Unreadable);
        }
        if let Some(fact) = self.archived(session).await {
            return fact;
        }
        if let Some(fact) = self.without_tags(get, said, &session.asked_as()) {
            return fact;
        }
        let listing = tags::list(session).await;
        self.pages.put(self.repository, session.candidate(), &listing);
        if listing.shows() {
            self.shown.put(session);
        }
        let shown = self.shown.has(session);
        if self.is_listed(&listing) && is_private_ecr(session) {
            // No other state of an image at ECR is listed and not served.
            return Fact::Archived { restoring: false };
        }
        self.with_tags(get, listing, shown, &session.asked_as())
    }

    /// Returns the fact if no list of tags can change it.
    fn without_tags(&self, get: &Reply, said: Codes, asked: &AskedAs<'_>) -> Option<Fact> {
        let definite = get.answer.status == 404;
        match self.not_found {
            NotFound::Never if definite => Some(Fact::unavailable(Unavailable::NotInCache)),
            NotFound::Never => Some(classify::reply(get, asked)),
            // The registry shows the past of the tag.
            _ if said.tag_expired => Some(Fact::TagExpired),
            not_found if said.name_unknown => Some(no_repository(is_proof(not_found, get), asked)),
            _ => None,
        }
    }

    /// Returns the fact after the registry was asked for the tags.
    fn with_tags(&self, get: &Reply, listing: Listing, shown: bool, asked: &AskedAs<'_>) -> Fact {
        let is_tag = matches!(self.reference, Reference::Tag(_));
        let proof = is_proof(self.not_found, get);
        match listing {
            Listing::NoRepository => no_repository(proof, asked),
            // The tag was pushed a moment ago, or is not served to tagpin: no proof that it is missing.
            _ if self.is_listed(&listing) => Fact::unavailable(Unavailable::Unreadable),
            Listing::Tags { tags, whole: true } if is_tag && !tags.is_empty() => self.reference.missing(),
            Listing::Tags { tags, .. } if get.answer.status != 404 && !tags.is_empty() => {
                classify::hidden(asked)
            }
            _ if get.answer.status != 404 => classify::reply(get, asked),
            // The answer of another host says nothing about what the registry shows.
            _ if proof || (shown && !get.crossed) => self.reference.missing(),
            Listing::Unavailable(fact) => fact,
            _ => classify::hidden(asked),
        }
    }

    fn is_listed(&self, listing: &Listing) -> bool {
        match (self.reference, listing) {
            (Reference::Tag(own), Listing::Tags { tags, .. }) => tags.iter().any(|tag| tag == own),
            _ => false,
        }
    }

    /// Asks the cloud that runs the registry if the image is in the archive, because a registry does not tell.
    async fn archived(&self, session: &Session<'_>) -> Option<Fact> {
        let Reference::Tag(tag) = self.reference else { return None };
        let cloud = session.candidate().cloud.as_ref()?;
        // The rest of the time is for the list of tags.
        let deadline = Instant::now() + session.left() / 2;
        let archive = cloud.archived(session.repository(), tag, deadline).await?;
        Some(Fact::Archived { restoring: archive == Archive::Restoring })
    }
}

fn is_private_ecr(session: &Session<'_>) -> bool {
    let host = session.endpoint().root().host_str();
    matches!(host.and_then(EcrHost::parse), Some(EcrHost::Private { .. }))
}

/// Returns true if the 404 of a registry proves that something is missing, whatever it showed.
fn is_proof(not_found: NotFound, reply: &Reply) -> bool {
    match not_found {
        NotFound::Proof => true,
        // A redirect to another host drops the credential.
        NotFound::ProofToCredential => {
            !reply.crossed && matches!(reply.proof, Proved::Password | Proved::Token)
        }
        NotFound::IfShown | NotFound::Never => false,
    }
}

/// Returns the fact for a registry that does not know the repository.
fn no_repository(proof: bool, asked: &AskedAs<'_>) -> Fact {
    if proof { Fact::RepositoryMissing } else { classify::hidden(asked) }
}

#[cfg(test)]
mod tests;
