//! What a registry is spared and what it can not take from others: at most so many questions at once for each and in
//! all, none while it fails, none before the time that it named. A decorator of the client.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::domain::fact::{Fact, Unavailable};
use crate::domain::image::ImageRef;
use crate::registry::Lookup;
use crate::registry::breaker::Breakers;
use crate::registry::credential::{Candidate, CredentialId};
use crate::registry::expiring::Expiring;
use crate::registry::slots::{Slot, Slots};
use crate::registry::tally::Tally;

/// Questions at once for one registry.
pub(super) const PER_HOST: usize = 16;
/// Questions at once in all.
const IN_ALL: usize = 64;
/// A registry that limits us without saying for how long.
const UNSAID: Duration = Duration::from_secs(30);
/// However long a registry says, it is asked again after this.
pub(super) const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Askers that are remembered as limited.
const LIMITED: usize = 4096;
/// With less time than this, lateness may be ours: the question waited for a place.
const WHOLE: Duration = Duration::from_secs(2);

/// Decides who may ask which registry now: at most so many at once, and nobody while it fails. Everything that asks
/// the same registries shares one.
#[derive(Debug)]
pub struct Gate {
    slots: Slots,
    breakers: Breakers,
}

impl Default for Gate {
    fn default() -> Self {
        Self { slots: Slots::new([PER_HOST], IN_ALL), breakers: Breakers::default() }
    }
}

impl Gate {
    /// Returns the hosts that rest now because they failed.
    pub(super) fn resting(&self) -> Vec<Box<str>> {
        self.breakers.resting(Instant::now())
    }

    /// Waits for a place for a question whose answer proves nothing about the registry's health; none if the registry
    /// rests, or if no place is free in time.
    pub(super) async fn place(&self, host: &str, deadline: Instant) -> Option<Slot> {
        if self.breakers.rests(host, Instant::now()) {
            return None;
        }
        timeout_at(deadline, self.slots.acquire([host])).await.ok()
    }
}

/// Limits what it decorates.
pub struct Limit<L> {
    inner: L,
    gate: Arc<Gate>,
    /// Until when a registry does not want to hear from these credentials.
    limited: Expiring<(Box<str>, Vec<CredentialId>), Instant>,
    tally: Arc<dyn Tally>,
}

impl<L> Limit<L> {
    /// Limits this.
    #[must_use]
    pub fn new(inner: L, gate: Arc<Gate>, tally: Arc<dyn Tally>) -> Self {
        Self { inner, gate, limited: Expiring::new(LIMITED), tally }
    }

    /// Returns the hosts that rest now because they failed.
    #[must_use]
    pub fn resting(&self) -> Vec<Box<str>> {
        self.gate.resting()
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
        let Ok(_slot) = timeout_at(deadline, self.gate.slots.acquire([host])).await else {
            return unavailable(Unavailable::Timeout, None);
        };
        // Asked only now: the registry may have failed while this waited for its place.
        let asked = Instant::now();
        let pass = match self.gate.breakers.enter(host, asked) {
            Ok(pass) => pass,
            Err(rest) => return unavailable(Unavailable::BreakerOpen, (!rest.is_zero()).then_some(rest)),
        };
        // In a box, so that what waits for a place is small.
        let fact = Box::pin(self.inner.look_up(image, candidates, deadline)).await;
        let now = Instant::now();
        let whole = deadline.saturating_duration_since(asked) >= WHOLE;
        if pass.learn(&fact, whole, now) {
            self.tally.breaker_opened();
        }
        if let Fact::RateLimited { retry_after, .. } = &fact {
            let until = now + retry_after.unwrap_or(UNSAID).min(LONGEST);
            self.limited.put(who, until, until);
        }
        fact
    }
}

fn unavailable(cause: Unavailable, retry_after: Option<Duration>) -> Fact {
    Fact::Unavailable { cause, retry_after, last_known: None }
}
