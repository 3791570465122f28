//! For which platforms a digest is: what a person wants to know, and no admission asks for.

use serde::Deserialize;
use tokio::time::Instant;

use crate::domain::digest::Digest;
use crate::domain::fact::{Fact, Unavailable};
use crate::domain::image::ImageRef;
use crate::domain::platform::Platform;
use crate::registry::classify;
use crate::registry::client::Client;
use crate::registry::credential::Candidate;
use crate::registry::manifest::{self, Content};
use crate::registry::observe::{Method, Purpose};
use crate::registry::session::{Question, Session};

/// Of the configuration of an image.
const CONFIGURATION: usize = 4 * 1024 * 1024;

/// An image and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForPlatform {
    /// What it is for.
    pub platform: Platform,
    /// The image's own digest: that of an index, or of the index' child.
    pub digest: Digest,
}

impl Client {
    /// The images behind a digest, from the first endpoint and credential that gives them. A lone manifest tells its
    /// platform only in the image's configuration, which is read too.
    ///
    /// # Errors
    /// What the registry says instead.
    pub async fn platforms(
        &self,
        image: &ImageRef,
        digest: &Digest,
        candidates: &[Candidate],
        deadline: Instant,
    ) -> Result<Vec<ForPlatform>, Fact> {
        let mut instead = classify::unavailable(Unavailable::Dns, None);
        let profile = self.profile(image);
        for mut session in self.sessions(&profile, image, candidates, deadline) {
            match read(&mut session, digest).await {
                Ok(images) => return Ok(images),
                Err(fact) => instead = fact,
            }
        }
        Err(instead)
    }
}

async fn read(session: &mut Session<'_>, digest: &Digest) -> Result<Vec<ForPlatform>, Fact> {
    let body = get(session, &["manifests", digest.as_str()], Some(manifest::ACCEPT), manifest::BODY).await?;
    let Content { children, configuration } = manifest::of_digest(&body, digest)?;
    if let Some(configuration) = configuration {
        let body = get(session, &["blobs", configuration.as_str()], None, CONFIGURATION).await?;
        let read: Option<Configuration> = serde_json::from_slice(&body.body).ok();
        let platform = read.and_then(|read| read.platform());
        let unreadable = || classify::unavailable(Unavailable::Unreadable, None);
        return Ok(vec![ForPlatform { platform: platform.ok_or_else(unreadable)?, digest: digest.clone() }]);
    }
    Ok(children.into_iter().map(|(digest, platform)| ForPlatform { platform, digest }).collect())
}

async fn get(
    session: &mut Session<'_>,
    place: &[&str],
    accept: Option<&'static str>,
    limit: usize,
) -> Result<crate::registry::transport::Answer, Fact> {
    let url = session.url(place);
    let question = Question { purpose: Purpose::Manifest, method: Method::Get, url, accept, limit };
    match session.ask(&question).await {
        Err(refusal) => Err(classify::refusal(&refusal, session.candidate())),
        Ok(reply) if reply.answer.status == 200 => Ok(reply.answer),
        Ok(reply) if reply.answer.status == 404 => Err(classify::unavailable(Unavailable::NotByDigest, None)),
        Ok(reply) => Err(classify::reply(&reply, session.candidate())),
    }
}

/// The part of an image's configuration that says what it is for.
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
