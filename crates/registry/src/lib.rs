//! The client of registries behind the ports of a review: a look-up cannot fail, as every failure is a [`Fact`].

use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant;

use tagpin_domain::fact::Fact;
use tagpin_domain::image::ImageRef;

use self::cache::{Around, Cache};
use self::credential::Candidate;
use self::limit::{Gate, Limit};

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
pub mod metrics;
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

/// Returns what the webhooks ask: memory before limits before the client, so that an answer from memory waits for
/// nobody. What else asks the same registries shares the gate.
pub fn assemble<L: Lookup + 'static>(client: L, gate: Arc<Gate>, around: Around) -> Cache<Limit<L>> {
    let limit = Limit::new(client, gate, Arc::clone(&around.tally));
    Cache::new(limit, around)
}
