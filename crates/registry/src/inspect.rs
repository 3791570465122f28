//! Finds the image behind a digest for a platform. For people at the command line; no admission needs it.

use serde::Deserialize;
use tokio::time::Instant;

use crate::credential::Candidate;
use crate::observe::{Method, Purpose};
use crate::protocol::classify;
use crate::protocol::client::Client;
use crate::protocol::manifest::{self, Child, Content};
use crate::protocol::reply::Question;
use crate::protocol::session::Session;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::{Fact, Unavailable};
use tagpin_domain::image::ImageRef;
use tagpin_domain::platform::Platform;

/// Maximum size of the configuration of an image, in bytes.
const CONFIGURATION: usize = 4 * 1024 * 1024;
/// Maximum number of nested indexes that are followed.
pub const DEPTH: usize = 4;

/// The image that a node of a platform gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForPlatform {
    /// The digest of the image, if there is one: the digest itself, or one that an index names.
    pub digest: Option<Digest>,
    /// The platforms that the image or its indexes offer, as far as a node would look.
    pub has: Vec<Platform>,
}

/// The reason why the image is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotInspected {
    /// The registry gave another answer.
    Instead(Fact),
    /// The indexes are nested deeper than [`DEPTH`].
    TooDeep,
}

impl Client {
    /// Returns the image behind a digest for a node of this platform, from the first endpoint and credential that
    /// gives it.
    ///
    /// As in containerd, one entry of each index is followed: the first of those that fit best, and an entry without
    /// a platform only if no other fits. If an index names no platform for an image, the configuration of the image
    /// does.
    ///
    /// # Errors
    /// Returns the other answer of the registry, or an error if the indexes are nested too deep.
    pub async fn for_platform(
        &self,
        image: &ImageRef,
        digest: &Digest,
        wanted: &Platform,
        candidates: &[Candidate],
        deadline: Instant,
    ) -> Result<ForPlatform, NotInspected> {
        let mut instead = NotInspected::Instead(Fact::unavailable(Unavailable::Dns));
        let profile = self.profile(image);
        for mut session in self.sessions(&profile, image, candidates, deadline) {
            match choose(&mut session, digest, wanted).await {
                Ok(found) => return Ok(found),
                Err(why) => instead = why,
            }
        }
        Err(instead)
    }
}

async fn choose(
    session: &mut Session<'_>,
    digest: &Digest,
    wanted: &Platform,
) -> Result<ForPlatform, NotInspected> {
    let (mut digest, mut has) = (digest.clone(), Vec::new());
    // The nested indexes, and the image at the end.
    for _ in 0..=DEPTH + 1 {
        let place = ["manifests", digest.as_str()];
        let body = get(session, &place, Some(manifest::ACCEPT), manifest::BODY).await?;
        let Content { children, configuration } = manifest::of_digest(&body, &digest)?;
        if let Some(configuration) = configuration {
            let platform = configured(session, &configuration).await?;
            let digest = wanted.runs(&platform).then_some(digest);
            if !has.contains(&platform) {
                has.push(platform);
            }
            return Ok(ForPlatform { digest, has });
        }
        has.extend(children.iter().filter_map(|child| child.platform.clone()));
        let best = children.into_iter().filter_map(|child| Some((rank(&child, wanted)?, child)));
        match best.min_by_key(|(rank, _)| *rank) {
            None => return Ok(ForPlatform { digest: None, has }),
            Some((_, child)) if child.is_index || child.platform.is_none() => digest = child.digest,
            Some((_, child)) => return Ok(ForPlatform { digest: Some(child.digest), has }),
        }
    }
    Err(NotInspected::TooDeep)
}

/// Returns the order in which a node prefers entries of an index; none for entries that it does not take.
fn rank(child: &Child, wanted: &Platform) -> Option<u8> {
    match &child.platform {
        Some(exactly) if exactly == wanted => Some(0),
        Some(other) => wanted.runs(other).then_some(1),
        None => Some(2),
    }
}

async fn configured(session: &mut Session<'_>, configuration: &Digest) -> Result<Platform, NotInspected> {
    let body = get(session, &["blobs", configuration.as_str()], None, CONFIGURATION).await?;
    let read: Option<Configuration> = serde_json::from_slice(&body.body).ok();
    let platform = read.and_then(|read| read.platform());
    platform.ok_or_else(|| Fact::unavailable(Unavailable::Unreadable).into())
}

impl From<Fact> for NotInspected {
    fn from(fact: Fact) -> Self {
        Self::Instead(fact)
    }
}

async fn get(
    session: &mut Session<'_>,
    place: &[&str],
    accept: Option<&'static str>,
    limit: usize,
) -> Result<crate::wire::message::HttpResponse, Fact> {
    let url = session.url(place);
    let question = Question { purpose: Purpose::Manifest, method: Method::Get, url, accept, limit };
    match session.ask(&question).await {
        Err(refusal) => Err(classify::refusal(&refusal, &session.asked_as())),
        Ok(reply) if reply.answer.status == 200 => Ok(reply.answer),
        Ok(reply) if reply.answer.status == 404 => Err(Fact::unavailable(Unavailable::NotByDigest)),
        Ok(reply) => Err(classify::reply(&reply, &session.asked_as())),
    }
}

/// The part of an image's configuration that names its platform.
#[derive(Deserialize)]
struct Configuration {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Configuration {
    fn platform(&self) -> Option<Platform> {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref()).ok()
    }
}
