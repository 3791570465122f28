//! Rate and concurrency limits per registry host, as a decorator of the client. A registry that limits tagpin is not
//! asked before the time that it named in `Retry-After`, or for a while that doubles.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::Lookup;
use crate::credential::{Candidate, CredentialId};
use crate::profile::endpoint::{Profiles, RegistryProfile};
use crate::sharing::expiring::Expiring;
use crate::sharing::permits::{Permit, Permits};
use tagpin_domain::fact::{Fact, Unavailable};
use tagpin_domain::image::ImageRef;

/// Maximum number of look-ups in flight per registry host.
pub(crate) const PER_HOST: usize = 16;
/// Maximum number of look-ups in flight in all.
const IN_ALL: usize = 64;
/// Maximum number of look-ups in flight at hosts that tagpin does not know, so that they never take the places of
/// registries that entries name.
const UNKNOWN: usize = 32;
/// Minimum and maximum time for which a registry is not asked after a 429 that names no time. Each one in a row
/// doubles it.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Maximum time for which a registry is not asked, whatever it names.
pub(crate) const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Maximum number of askers that are remembered as rate limited.
const LIMITED: usize = 4096;

/// Decides who may ask which registry now. All callers that ask the same registries share one gate.
#[derive(Debug)]
pub struct Gate {
    permits: Permits<2>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { permits: Permits::new([PER_HOST, UNKNOWN], IN_ALL) }
    }
}

impl Gate {
    /// Waits for a permit to ask the registry. Returns none if no permit is free before the deadline.
    pub(crate) async fn place(
        &self,
        host: &str,
        profile: &RegistryProfile,
        deadline: Instant,
    ) -> Option<Permit> {
        timeout_at(deadline, self.permits.acquire([host, shared_name(host, profile)])).await.ok()
    }
}

/// Returns the name under which look-ups share permits with other hosts. All hosts that tagpin does not know have one
/// name together; a host that an entry names, or that tagpin knows, has its own.
pub(crate) fn shared_name<'a>(host: &'a str, profile: &RegistryProfile) -> &'a str {
    if profile.is_known() { host } else { "" }
}

/// Limits the look-up that it decorates.
pub struct Limit<L> {
    inner: L,
    gate: Arc<Gate>,
    profiles: Arc<dyn Profiles>,
    /// The askers that a registry limits.
    limited: Expiring<Who, Limited>,
}

/// A registry, and the credentials with which it is asked.
type Who = (Box<str>, Vec<CredentialId>);

/// A limit that a registry set.
#[derive(Debug, Clone, Copy)]
struct Limited {
    /// The time until which the registry is not asked.
    until: Instant,
    /// The pause before that time.
    pause: Duration,
}

impl<L> Limit<L> {
    /// Limits this look-up.
    #[must_use]
    pub fn new(inner: L, gate: Arc<Gate>, profiles: Arc<dyn Profiles>) -> Self {
        Self { inner, gate, profiles, limited: Expiring::new(LIMITED) }
    }

    /// Returns the limit that the registry set last, or the fact that it still counts.
    fn limit(&self, who: &Who) -> Result<Option<Limited>, Fact> {
        let now = Instant::now();
        match self.limited.get(who, now) {
            Some(limited) if limited.until > now => {
                Err(Fact::RateLimited { retry_after: Some(limited.until - now), last_known: None })
            }
            other => Ok(other),
        }
    }
}

impl<L: Lookup> Lookup for Limit<L> {
    async fn look_up(&self, image: &ImageRef, candidates: &[Candidate], deadline: Instant) -> Fact {
        let host = image.domain();
        let who = (Box::from(host), candidates.iter().map(|candidate| candidate.id).collect());
        if let Err(limited) = self.limit(&who) {
            return limited;
        }
        let profile = self.profiles.profile(host);
        let Some(_place) = self.gate.place(host, &profile, deadline).await else {
            return Fact::unavailable(Unavailable::Busy);
        };
        // The registry may have set a limit while this look-up waited for its place.
        let earlier = match self.limit(&who) {
            Ok(earlier) => earlier,
            Err(limited) => return limited,
        };
        // Boxed, so that the future of a look-up that waits is small.
        match Box::pin(self.inner.look_up(image, candidates, deadline)).await {
            Fact::RateLimited { retry_after, .. } => {
                let doubled =
                    || earlier.map_or(PAUSE.0, |earlier| (earlier.pause * 2).clamp(PAUSE.0, PAUSE.1));
                let pause = retry_after.map_or_else(doubled, |asked| asked.min(LONGEST));
                let until = Instant::now() + pause;
                self.limited.put(who, Limited { until, pause }, until + PAUSE.1);
                Fact::RateLimited { retry_after: Some(pause), last_known: None }
            }
            fact => {
                if earlier.is_some() && !matches!(fact, Fact::Unavailable { .. }) {
                    self.limited.remove(&who);
                }
                fact
            }
        }
    }
}
