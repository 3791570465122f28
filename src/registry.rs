//! Asking registries. This file is the port: nothing above it learns that a registry speaks HTTP.
//!
//! A look-up can not fail: every failure is a [`Fact`]. Caches and limits are decorators of the same trait.

use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant;

use crate::domain::asker::Asker;
use crate::domain::digest::Digest;
use crate::domain::fact::Fact;
use crate::domain::image::ImageRef;

use self::cache::{Around, Cache};
use self::credential::Candidate;
use self::limit::Limit;

pub mod config;
pub mod config_file;
pub mod credential;
pub mod current;
pub mod docker_config;
pub mod endpoint;
pub mod keyring;
mod mirrors;
pub mod pull_secrets;
pub mod tls;
pub mod user_config;

pub mod cache;
pub mod challenge;
pub mod client;
pub mod cloud;
pub mod guard;
pub mod inspect;
pub mod limit;
pub mod manifest;
pub mod observe;
pub mod suggest;
pub mod tag_list;
pub mod tally;
pub mod transport;

mod breaker;
mod classify;
mod confirm;
mod expiring;
mod flight;
mod redirect;
mod retry;
mod session;
mod slots;
mod tags;
mod token;
mod version;

/// From a tag to what its registry says of it.
pub trait Resolve: Send + Sync {
    /// What the registry tells this asker of the reference's tag (an omitted tag is `latest`), before the deadline.
    /// References that carry a digest are not asked about; callers do not pass them.
    fn resolve(
        &self,
        image: &ImageRef,
        asker: &Asker,
        deadline: Instant,
    ) -> impl Future<Output = Fact> + Send;

    /// The same, when nothing has to be waited for; most references of an admission are known already.
    fn remembered(&self, _image: &ImageRef, _asker: &Asker, _now: Instant) -> Option<Fact> {
        None
    }
}

/// The same question with the credentials already found: what the client answers and what limits decorate.
/// The cache is the one that finds them, so that an answer is kept under exactly the credentials that got it.
pub trait Lookup: Send + Sync {
    /// What the registry tells the holder of these credentials (never empty; tried in order) before the deadline.
    fn look_up(
        &self,
        image: &ImageRef,
        candidates: &[Candidate],
        deadline: Instant,
    ) -> impl Future<Output = Fact> + Send;
}

/// What the webhooks ask: memory before limits before the client, so that an answer from memory waits for nobody.
pub fn assemble<L: Lookup + 'static>(client: L, around: Around) -> Cache<Limit<L>> {
    let limit = Limit::new(client, Arc::clone(&around.tally));
    Cache::new(limit, around)
}

/// What to type instead, from what a registry lists. It never fails and never echoes a registry's text:
/// tags are parsed before they are repeated.
pub trait Suggest: Send + Sync {
    /// The version that the forbidden tag names now, or nothing when it can not be told in time.
    fn version_of(
        &self,
        image: &ImageRef,
        asker: &Asker,
        effort: Effort,
    ) -> impl Future<Output = Option<Version>> + Send;

    /// Tags of the repository that look like the missing one, best first, three at most.
    fn similar_tags(
        &self,
        image: &ImageRef,
        asker: &Asker,
        effort: Effort,
    ) -> impl Future<Output = Vec<String>> + Send;
}

/// How much may be spent on a suggestion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Only what is cached.
    Cached,
    /// One page of tags and 8 HEADs, until then.
    Until(Instant),
}

/// A tag that says more than the one it was asked for, naming the same digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// `1.29.3`
    pub tag: String,
    /// The digest that both tags name.
    pub digest: Digest,
}

impl<R: Resolve> Resolve for Arc<R> {
    fn resolve(
        &self,
        image: &ImageRef,
        asker: &Asker,
        deadline: Instant,
    ) -> impl Future<Output = Fact> + Send {
        R::resolve(self, image, asker, deadline)
    }
}

impl<S: Suggest> Suggest for Arc<S> {
    fn version_of(
        &self,
        image: &ImageRef,
        asker: &Asker,
        effort: Effort,
    ) -> impl Future<Output = Option<Version>> + Send {
        S::version_of(self, image, asker, effort)
    }

    fn similar_tags(
        &self,
        image: &ImageRef,
        asker: &Asker,
        effort: Effort,
    ) -> impl Future<Output = Vec<String>> + Send {
        S::similar_tags(self, image, asker, effort)
    }
}
