//! The images without a digest that are new since the last count, and the Events about them that are still to be
//! written. Nothing here is kept for longer than the image is without a digest, or than an hour after its Event.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use crate::findings;
use crate::policy_status::bare::{Bare, BareImage, BareImages};
use tagpin_objects::findings::{NOT_REMEMBERED, OLDER_THAN_POLICY};

/// Minimum time between two Events about one place and reason. The API server keeps an Event for an hour.
const ONCE: Duration = Duration::from_hours(1);
/// Maximum number of Events for one count, and in any short time.
const BURST: u32 = 20;
/// Time until one more Event is allowed: 20 in a minute.
const REFILL: Duration = Duration::from_secs(3);
/// Time in which the replicas are asked for a reason that nobody remembers yet.
const REASON: Duration = findings::INTERVAL.saturating_add(Duration::from_secs(15));
/// Pause after an Event that could not be written.
const RETRY: Duration = Duration::from_secs(30);
/// Time after which an Event that cannot be written is given up.
const GIVEN_UP: Duration = Duration::from_mins(10);

/// The memory of the writer.
#[derive(Default)]
pub(crate) struct News {
    /// Everything that was found and still lasts, with the image that was found first; none before the first count.
    known: Option<BTreeMap<Bare, String>>,
    /// The place from which on the last count left images out; none if it had room for all.
    first_left_out: Option<Bare>,
    /// The Events that are still to be written.
    pending: BTreeMap<Bare, Pending>,
    /// Times of the Events of the last hour.
    written: BTreeMap<Bare, Instant>,
    allowance: Allowance,
}

/// An Event that is still to be written.
struct Pending {
    image: BareImage,
    due: Instant,
    since: Instant,
}

/// The number of Events that may be written now.
struct Allowance {
    left: u32,
    /// The time from which the next one is counted; none while nothing is missing.
    since: Option<Instant>,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { left: BURST, since: None }
    }
}

impl News {
    /// Compares a count with the earlier ones. The first count is no news, nor is a namespace that `is_suspended` names,
    /// nor a place for which the last count had no room: nobody knows what was there. `remembered` returns the reason for an image that the replicas remember now.
    pub(crate) fn compare(
        &mut self,
        images: &BareImages,
        is_suspended: impl Fn(&BareImage) -> bool,
        remembered: impl Fn(&Bare, &BareImage) -> Option<String>,
        now: Instant,
    ) {
        let count = images.by_place();
        let left_out = std::mem::replace(&mut self.first_left_out, images.first_left_out().cloned());
        self.written.retain(|_, at| now.duration_since(*at) < ONCE);
        let Some(mut known) = self.known.take() else {
            self.known =
                Some(count.iter().map(|(bare, image)| (bare.clone(), image.image.clone())).collect());
            return;
        };
        known.retain(|bare, _| of_place(count, bare).next().is_some());
        self.learn(count, remembered, now);
        for (bare, image) in count {
            let had_room = left_out.as_ref().is_none_or(|first| bare < first);
            let is_new = had_room && self.is_new(&known, bare, &image.image) && !is_suspended(image);
            known.entry(bare.clone()).or_insert_with(|| image.image.clone());
            if !is_new {
                continue;
            }
            if !self.allowance.take(now) {
                debug!(reason = bare.reason, "no Event: there are too many at a time");
                continue;
            }
            let due = if bare.reason == NOT_REMEMBERED { now + REASON } else { now };
            self.pending.insert(bare.clone(), Pending { image: image.clone(), due, since: now });
        }
        self.known = Some(known);
    }

    /// Returns true if an Event about this is to be written. A reason that is only inferred is no news where there was
    /// another one before, nor is a reason that becomes known later for the same image.
    fn is_new(&self, known: &BTreeMap<Bare, String>, bare: &Bare, image: &str) -> bool {
        if known.contains_key(bare) || self.pending.contains_key(bare) || self.written.contains_key(bare) {
            return false;
        }
        let mut before = of_place(known, bare).peekable();
        if before.peek().is_none() {
            return true;
        }
        let is_inferred = [NOT_REMEMBERED, OLDER_THAN_POLICY].contains(&bare.reason.as_str());
        !is_inferred && before.any(|(other, first)| other.reason != NOT_REMEMBERED || first != image)
    }

    /// Gives the pending Events without a reason the one that is remembered by now. The pod may have ended by then; if
    /// nobody remembers a reason either, there is no Event.
    fn learn(
        &mut self,
        count: &BTreeMap<Bare, BareImage>,
        remembered: impl Fn(&Bare, &BareImage) -> Option<String>,
        now: Instant,
    ) {
        let waiting = self.pending.extract_if(.., |bare, _| bare.reason == NOT_REMEMBERED);
        for (bare, pending) in waiting.collect::<Vec<_>>() {
            match remembered(&bare, &pending.image) {
                Some(reason) => {
                    let bare = Bare { reason, ..bare };
                    if !self.written.contains_key(&bare) {
                        self.pending.insert(bare, Pending { due: now, ..pending });
                    }
                }
                None if pending.due > now || of_place(count, &bare).next().is_some() => {
                    self.pending.insert(bare, pending);
                }
                None => {}
            }
        }
    }

    /// Returns what is due, the longest due first.
    pub(crate) fn due(&self, now: Instant) -> Vec<(Bare, BareImage)> {
        let mut due: Vec<_> = self.pending.iter().filter(|(_, pending)| pending.due <= now).collect();
        due.sort_by_key(|(_, pending)| pending.due);
        due.into_iter().map(|(bare, pending)| (bare.clone(), pending.image.clone())).collect()
    }

    /// Returns the time when the next Event is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.due).min()
    }

    /// Remembers that this Event was written.
    pub(crate) fn written(&mut self, bare: Bare, now: Instant) {
        self.pending.remove(&bare);
        self.written.insert(bare, now);
    }

    /// Makes this Event due again later, or gives it up.
    pub(crate) fn failed(&mut self, bare: &Bare, now: Instant) {
        match self.pending.get_mut(bare) {
            Some(pending) if now.duration_since(pending.since) < GIVEN_UP => pending.due = now + RETRY,
            _ => self.given_up(bare),
        }
    }

    /// Forgets this Event.
    pub(crate) fn given_up(&mut self, bare: &Bare) {
        self.pending.remove(bare);
    }
}

impl Allowance {
    /// Takes one; false if none is left.
    fn take(&mut self, now: Instant) -> bool {
        let mut since = self.since.unwrap_or(now);
        while self.left < BURST && now.duration_since(since) >= REFILL {
            self.left += 1;
            since += REFILL;
        }
        if self.left == BURST {
            since = now;
        }
        self.since = Some(since);
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

/// Returns the reasons for this place.
fn of_place<'a, T>(all: &'a BTreeMap<Bare, T>, bare: &'a Bare) -> impl Iterator<Item = (&'a Bare, &'a T)> {
    let first = Bare { reason: String::new(), ..bare.clone() };
    all.range(first..).take_while(|(other, _)| other.uid == bare.uid && other.slot == bare.slot)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use tagpin_domain::slot::{Role, SlotKey};
    use tagpin_kube::stored::Stored;
    use tagpin_objects::kinds::{Kinds, PODS};

    use super::*;
    use crate::policy_status::bare::PLACES;

    /// Returns images without a digest at these places.
    fn images(places: impl IntoIterator<Item = usize>) -> BareImages {
        let object = json!({ "metadata": { "name": "web", "namespace": "shop", "uid": "u" } });
        let object = serde_json::from_value(object).unwrap();
        let top = Arc::new(Stored::new(&Kinds::default(), &PODS, &object).unwrap().unwrap());
        let mut images = BareImages::default();
        for place in places {
            let slot = SlotKey { role: Role::Container, name: "app".into() };
            let bare = Bare { uid: format!("{place:06}"), slot, reason: "RateLimited".to_owned() };
            images.add(bare, BareImage { top: Arc::clone(&top), image: "web:1".to_owned() });
        }
        images
    }

    /// Returns the UIDs of the Events about a count.
    fn told(news: &mut News, count: &BareImages) -> Vec<String> {
        let now = Instant::now();
        news.compare(count, |_| false, |_, _| None, now);
        let due = news.due(now);
        due.into_iter().map(|(bare, _)| (news.written(bare.clone(), now), bare.uid).1).collect()
    }

    #[test]
    fn images_without_room_are_no_news_and_take_no_memory() {
        let mut news = News::default();
        // The order in which images are found does not matter.
        let many = images((10..PLACES * 2).rev());
        assert_eq!((many.by_place().len(), told(&mut news, &many)), (PLACES, Vec::new()));
        assert_eq!(news.known.as_ref().map(BTreeMap::len), Some(PLACES));
        // Images that were there before have room now.
        let fewer = images(100..PLACES * 2);
        assert_eq!((fewer.by_place().len(), told(&mut news, &fewer)), (PLACES, Vec::new()));
        assert_eq!(told(&mut news, &images((0..1).chain(100..PLACES * 2))), ["000000"]);
        assert_eq!(told(&mut news, &images(100..PLACES)), Vec::<String>::new());
        let last = PLACES * 3;
        assert_eq!(told(&mut news, &images((100..PLACES).chain([last]))), [format!("{last:06}")]);
    }
}
