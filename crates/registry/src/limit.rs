//! Rate and concurrency limits per registry host, as a decorator of the client. A registry is not asked before the time
//! that it named in `Retry-After`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::Lookup;
use crate::credential::{Candidate, CredentialId};
use crate::sharing::expiring::Expiring;
use crate::sharing::permits::{Permit, Permits};
use tagpin_domain::fact::{Fact, Unavailable};
use tagpin_domain::image::ImageRef;

/// Maximum number of look-ups in flight per registry host.
pub(crate) const PER_HOST: usize = 16;
/// Maximum number of look-ups in flight in all.
const IN_ALL: usize = 64;
/// Time for which a registry is not asked after a 429 that names no time.
pub(crate) const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(30);
/// Maximum time for which a registry is not asked, whatever it names.
pub(crate) const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Maximum number of askers that are remembered as rate limited.
const LIMITED: usize = 4096;

/// Decides who may ask which registry now. All callers that ask the same registries share one gate.
#[derive(Debug)]
pub struct Gate {
    permits: Permits,
}

impl Default for Gate {
    fn default() -> Self {
        Self { permits: Permits::new([PER_HOST], IN_ALL) }
    }
}

impl Gate {
    /// Waits for a permit to ask the registry. Returns none if no permit is free before the deadline.
    pub(crate) async fn place(&self, host: &str, deadline: Instant) -> Option<Permit> {
        timeout_at(deadline, self.permits.acquire([host])).await.ok()
    }
}

/// Limits the look-up that it decorates.
pub struct Limit<L> {
    inner: L,
    gate: Arc<Gate>,
    /// The time until which a registry does not want to be asked with these credentials.
    limited: Expiring<(Box<str>, Vec<CredentialId>), Instant>,
}

impl<L> Limit<L> {
    /// Limits this look-up.
    #[must_use]
    pub fn new(inner: L, gate: Arc<Gate>) -> Self {
        Self { inner, gate, limited: Expiring::new(LIMITED) }
    }
}

impl<L: Lookup> Lookup for Limit<L> {
    async fn look_up(&self, image: &ImageRef, candidates: &[Candidate], deadline: Instant) -> Fact {
        let host = image.domain();
        let who = (Box::from(host), candidates.iter().map(|candidate| candidate.id).collect());
        if let Some(until) = self.limited.get(&who, Instant::now()) {
            let retry_after = Some(until.saturating_duration_since(Instant::now()));
            return Fact::RateLimited { retry_after, last_known: None };
        }
        let Ok(_permit) = timeout_at(deadline, self.gate.permits.acquire([host])).await else {
            return Fact::unavailable(Unavailable::Timeout);
        };
        // Boxed, so that the future of a look-up that waits is small.
        let fact = Box::pin(self.inner.look_up(image, candidates, deadline)).await;
        let now = Instant::now();
        if let Fact::RateLimited { retry_after, .. } = &fact {
            let until = now + retry_after.unwrap_or(DEFAULT_RETRY_AFTER).min(LONGEST);
            self.limited.put(who, until, until);
        }
        fact
    }
}
