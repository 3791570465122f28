//! Remembers what was refused and what was left unpinned most often, in lists of bounded length.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use tagpin_domain::check::Rule;
use tagpin_domain::denial::{Code, shown};
use tagpin_domain::kind::Kind;
use tagpin_domain::policy::PolicyId;
use tagpin_domain::verdict::{Effect, Verdict};
use tagpin_objects::findings::{IMAGE_SHOWN, LeftUnpinned, Page, RefusedBy, USER_SHOWN};
use tagpin_objects::image_policy::Refused;

/// Maximum number of entries of one list.
const ENTRIES: usize = 256;
/// Maximum number of entries of one namespace in a list.
const SHARE: usize = 64;
/// Time after which an entry that did not occur again is forgotten.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(24);

/// The most frequent findings of this replica since its start.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    refused: Frequent<Refusal>,
    unpinned: Frequent<Unpinned>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Refusal {
    policy: PolicyId,
    namespace: String,
    kind: Kind,
    user: String,
    image: String,
    code: Code,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Unpinned {
    namespace: String,
    slot: String,
    image: String,
    code: Code,
}

trait Namespaced {
    fn namespace(&self) -> &str;
}

impl Namespaced for Refusal {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Namespaced for Unpinned {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// The object of a review, and the user who sent it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent<'a> {
    pub(crate) kind: Kind,
    pub(crate) is_pod: bool,
    pub(crate) namespace: &'a str,
    pub(crate) user: &'a str,
}

impl Remembered {
    /// Remembers the verdicts of `/validate` on one object.
    pub(crate) fn record(&self, sent: Sent<'_>, verdicts: &[Verdict], now: Timestamp) {
        let Sent { kind, is_pod, namespace, user } = sent;
        // More than a namespace has places for would only take the places of one another.
        let mut left = SHARE;
        for verdict in verdicts.iter().filter(|verdict| !verdict.findings.is_empty()) {
            let image = shown(&verdict.reference, IMAGE_SHOWN);
            let mut is_refused = false;
            for finding in verdict.findings.iter().filter(|finding| finding.effect == Effect::Deny) {
                is_refused = true;
                if left == 0 {
                    return;
                }
                left -= 1;
                let refusal = Refusal {
                    policy: finding.policy.clone(),
                    namespace: namespace.to_owned(),
                    kind,
                    user: shown(user, USER_SHOWN),
                    image: image.clone(),
                    code: finding.code(),
                };
                self.0.lock().refused.count(refusal, now);
            }
            // Findings are sorted, so the first one is the strictest.
            let mut reasons = verdict
                .findings
                .iter()
                .filter(|finding| matches!(finding.rule(), Rule::Existence | Rule::Pin));
            if let Some(reason) = reasons.next().filter(|_| is_pod && !is_refused) {
                let unpinned = Unpinned {
                    namespace: namespace.to_owned(),
                    slot: verdict.place.key.name.to_string(),
                    image,
                    code: reason.code(),
                };
                self.0.lock().unpinned.count(unpinned, now);
            }
        }
    }

    /// Returns what occurred within the last day.
    #[must_use]
    pub fn page(&self, now: Timestamp) -> Page {
        let lists = self.0.lock();
        let refused = lists.refused.since(now).map(|(refusal, seen)| RefusedBy {
            policy_namespace: refusal.policy.namespace.clone(),
            policy: refusal.policy.name.clone(),
            refused: Refused {
                namespace: refusal.namespace.clone(),
                kind: refusal.kind.name().to_owned(),
                user: refusal.user.clone(),
                image: refusal.image.clone(),
                code: refusal.code.as_str().to_owned(),
                count: seen.count,
                last: seen.last,
            },
        });
        let unpinned = lists.unpinned.since(now).map(|(unpinned, seen)| LeftUnpinned {
            namespace: unpinned.namespace.clone(),
            slot: unpinned.slot.clone(),
            image: unpinned.image.clone(),
            code: unpinned.code.as_str().to_owned(),
            last: seen.last,
        });
        Page { refused: refused.collect(), unpinned: unpinned.collect() }
    }
}

/// The number of occurrences of an entry, and the time of the last one.
#[derive(Debug, Clone, Copy)]
struct Seen {
    count: u32,
    last: Timestamp,
}

/// A list of the most frequent entries. A new entry takes the place of the rarest one, and its count too, so that an
/// entry that is frequent enough stays in the list however many others pass through it.
#[derive(Debug)]
struct Frequent<K>(HashMap<K, Seen>);

impl<K> Default for Frequent<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Namespaced + Clone + Eq + Hash> Frequent<K> {
    fn count(&mut self, key: K, now: Timestamp) {
        if let Some(seen) = self.0.get_mut(&key) {
            *seen = Seen { count: seen.count.saturating_add(1), last: now };
            return;
        }
        let mut before = 0;
        if let Some(rarest) = self.rarest(key.namespace(), now) {
            before =
                self.0.remove(&rarest).filter(|seen| !is_forgotten(*seen, now)).map_or(0, |seen| seen.count);
        }
        self.0.insert(key, Seen { count: before.saturating_add(1), last: now });
    }

    /// Returns the entry that makes room for a new one of this namespace; none if there is room.
    fn rarest(&self, namespace: &str, now: Timestamp) -> Option<K> {
        let own = |key: &K| key.namespace() == namespace;
        let is_full = self.0.len() >= ENTRIES;
        let has_share = self.0.keys().filter(|key| own(key)).count() >= SHARE;
        let candidates = self.0.iter().filter(|(key, _)| if has_share { own(key) } else { is_full });
        let rank =
            |seen: Seen| if is_forgotten(seen, now) { (0, seen.last) } else { (seen.count, seen.last) };
        candidates.min_by_key(|(_, seen)| rank(**seen)).map(|(key, _)| key.clone())
    }

    fn since(&self, now: Timestamp) -> impl Iterator<Item = (&K, Seen)> {
        let lasting = self.0.iter().map(|(key, seen)| (key, *seen));
        lasting.filter(move |(_, seen)| !is_forgotten(*seen, now))
    }
}

fn is_forgotten(seen: Seen, now: Timestamp) -> bool {
    now.duration_since(seen.last) > FORGOTTEN
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tagpin_domain::denial::Violation;
    use tagpin_domain::image::ImageRef;
    use tagpin_domain::slot::{Field, Place};
    use tagpin_domain::verdict::Finding;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn key(namespace: &str, image: usize) -> Unpinned {
        Unpinned {
            namespace: namespace.to_owned(),
            slot: "app".to_owned(),
            image: image.to_string(),
            code: Code::RateLimited,
        }
    }

    fn count_of(list: &Frequent<Unpinned>, key: &Unpinned) -> Option<u32> {
        list.0.get(key).map(|seen| seen.count)
    }

    #[test]
    fn what_is_frequent_stays_while_others_pass_through() {
        let mut list = Frequent::default();
        let frequent = key("shop", 0);
        for round in 0..1000 {
            list.count(frequent.clone(), at(round));
            for namespace in 0..10 {
                list.count(key(&namespace.to_string(), usize::try_from(round).unwrap()), at(round));
            }
        }
        assert_eq!(list.0.len(), ENTRIES);
        assert_eq!(count_of(&list, &frequent), Some(1000));
    }

    #[test]
    fn an_object_counts_no_more_than_the_share_of_its_namespace() {
        let remembered = Remembered::default();
        let place = |index| Place {
            key: format!("containers/{index}").parse().unwrap(),
            field: Field { root: &["spec"], list: "containers", index, leaf: &["image"] },
        };
        let denied = |index: usize| {
            let finding = |policy: usize| Finding {
                policy: PolicyId { namespace: Some("loud".to_owned()), name: policy.to_string() },
                violation: Violation::TagForbidden,
                effect: Effect::Deny,
                retry_after: None,
            };
            let image = Arc::from(format!("web{index}:latest"));
            let verdict = Verdict::new(place(index), Arc::clone(&image), ImageRef::of(&image));
            Verdict { findings: (0..64).map(finding).collect(), ..verdict }
        };
        let verdicts: Vec<_> = (0..1000).map(denied).collect();
        let sent = Sent { kind: Kind::new("", "Pod"), is_pod: true, namespace: "loud", user: "me" };
        remembered.record(sent, &verdicts, at(0));
        let page = remembered.page(at(0));
        let counts = page.refused.iter().map(|row| row.refused.count);
        assert_eq!((page.refused.len(), counts.sum::<u32>()), (SHARE, u32::try_from(SHARE).unwrap()));
    }

    #[test]
    fn a_namespace_takes_its_share_alone() {
        let mut list = Frequent::default();
        list.count(key("shop", 0), at(0));
        for image in 0..10_000 {
            list.count(key("loud", image), at(1));
        }
        assert_eq!(list.0.len(), SHARE + 1);
        assert_eq!(count_of(&list, &key("shop", 0)), Some(1));
    }

    #[test]
    fn what_does_not_occur_for_a_day_is_forgotten() {
        let mut list = Frequent::default();
        let (old, new) = (key("shop", 0), key("shop", 1));
        for _ in 0..50 {
            list.count(old.clone(), at(0));
        }
        let day = 24 * 60 * 60;
        assert_eq!(list.since(at(day)).count(), 1);
        assert_eq!(list.since(at(day + 1)).count(), 0);
        for image in 2..=SHARE {
            list.count(key("shop", image), at(day + 1));
        }
        list.count(new.clone(), at(day + 1));
        assert_eq!(count_of(&list, &old), None);
        assert_eq!(count_of(&list, &new), Some(1), "a forgotten count is not inherited");
    }
}
