//! What a registry is spared and what it can not take from others: at most so many questions at once for each and in
//! all, none while it fails, none before the time that it named. A decorator of the client.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::domain::asker::Asker;
use crate::domain::fact::{Fact, Unavailable};
use crate::domain::image::ImageRef;
use crate::registry::breaker::Breakers;
use crate::registry::credential::{Candidate, CredentialId};
use crate::registry::expiring::Expiring;
use crate::registry::slots::{Slot, Slots};
use crate::registry::tally::Tally;
use crate::registry::{Effort, Lookup, Suggest, Version};

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

/// Limits what it decorates.
pub struct Limit<L> {
    inner: L,
    slots: Slots,
    breakers: Breakers,
    /// Until when a registry does not want to hear from these credentials.
    limited: Expiring<(Box<str>, Vec<CredentialId>), Instant>,
    tally: Arc<dyn Tally>,
}

impl<L> Limit<L> {
    /// Limits this.
    #[must_use]
    pub fn new(inner: L, tally: Arc<dyn Tally>) -> Self {
        Self {
            inner,
            slots: Slots::new([PER_HOST], IN_ALL),
            breakers: Breakers::default(),
            limited: Expiring::new(LIMITED),
            tally,
        }
    }
}

impl<L> Limit<L> {
    /// The hosts that are left alone now because they failed.
    #[must_use]
    pub fn resting(&self) -> Vec<Box<str>> {
        self.breakers.resting(Instant::now())
    }

    /// A place for a suggestion, when it needs one: what is cached costs nothing.
    async fn place(&self, image: &ImageRef, effort: Effort) -> Option<Option<Slot>> {
        let Effort::Until(deadline) = effort else { return Some(None) };
        if self.breakers.rests(image.domain(), Instant::now()) {
            return None;
        }
        timeout_at(deadline, self.slots.acquire([image.domain()])).await.ok().map(Some)
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
        let Ok(_slot) = timeout_at(deadline, self.slots.acquire([host])).await else {
            return unavailable(Unavailable::Timeout, None);
        };
        // Asked only now: the registry may have failed while this waited for its place.
        let asked = Instant::now();
        let pass = match self.breakers.enter(host, asked) {
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
            self.limited.put(who, until, now, until);
        }
        fact
    }
}

/// Suggestions take a place like a question; a registry that fails is not asked for any.
impl<L: Suggest> Suggest for Limit<L> {
    async fn version_of(&self, image: &ImageRef, asker: &Asker, effort: Effort) -> Option<Version> {
        let _place = self.place(image, effort).await?;
        self.inner.version_of(image, asker, effort).await
    }

    async fn similar_tags(&self, image: &ImageRef, asker: &Asker, effort: Effort) -> Vec<String> {
        let Some(_place) = self.place(image, effort).await else { return Vec::new() };
        self.inner.similar_tags(image, asker, effort).await
    }
}

fn unavailable(cause: Unavailable, retry_after: Option<Duration>) -> Fact {
    Fact::Unavailable { cause, retry_after, last_known: None }
}
