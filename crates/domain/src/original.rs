//! The annotation `tagpin.dev/original` of pods: the slots that tagpin pinned, and the references that their
//! authors wrote there. This module decides nothing; an entry that does not fit its slot does not count.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::digest::Digest;
use crate::entries;
use crate::slot::{Slot, SlotKey};

/// The annotation's key.
pub const ANNOTATION: &str = "tagpin.dev/original";

/// The entries of the annotation: slot to reference as the author wrote it, sorted by the slot's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Originals(Vec<(String, Arc<str>)>);

/// Returns the annotation's value, a JSON object with sorted keys and without white space; none if there is
/// no entry. If two entries are of the same slot, the later one counts.
#[must_use]
pub fn annotation(entries: Vec<(&SlotKey, &str)>) -> Option<String> {
    entries::json(entries, |original, text| text.push_str(original))
}

impl Originals {
    /// Parses the annotation's value. Anybody can write it: a value that is not a JSON object of strings has
    /// no entries.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let entries: BTreeMap<String, Arc<str>> = serde_json::from_str(text).unwrap_or_default();
        Self(entries.into_iter().collect())
    }

    /// Returns the author's reference and tagpin's digest, if the slot carries a pin of tagpin.
    #[must_use]
    pub fn pin_of(&self, slot: &Slot) -> Option<(&str, Digest)> {
        let original = self.named(slot.key())?;
        let digest = slot.reference.strip_prefix(original)?.strip_prefix('@')?;
        // The entry itself has no digest: with one, the slot would have two digests and would not parse.
        slot.image.as_ref().ok()?;
        Some((original, Digest::parse(digest).ok()?))
    }

    /// Returns the entry of this slot, even if it does not fit the slot.
    #[must_use]
    pub fn named(&self, slot: &SlotKey) -> Option<&str> {
        if self.is_empty() {
            return None;
        }
        let (_, original) = self.0.get(self.find(&slot.text()).ok()?)?;
        Some(original)
    }

    /// Returns true if there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, slot: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(held, _)| held.as_str().cmp(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Role;
    use crate::slot::tests::container;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn slot(reference: &str) -> Slot {
        container("web", 0, reference)
    }

    #[test]
    fn an_entry_counts_only_while_the_slot_is_it_plus_a_digest() {
        let originals = Originals::parse(r#"{"containers/web":"nginx:1.29"}"#);
        let pinned = slot(&format!("nginx:1.29@sha256:{HEX}"));
        assert_eq!(originals.pin_of(&pinned).map(|(original, _)| original), Some("nginx:1.29"));
        for other in [
            "nginx:1.29".to_owned(),
            format!("nginx:1.30@sha256:{HEX}"),
            format!("nginx:1.29.1@sha256:{HEX}"),
            "nginx:1.29@sha256:0".to_owned(),
            format!("nginx:1.29@sha256:{HEX}@sha256:{HEX}"),
        ] {
            assert_eq!(originals.pin_of(&slot(&other)), None, "{other}");
        }
    }

    #[test]
    fn an_entry_that_carries_a_digest_itself_counts_for_nothing() {
        let originals = Originals::parse(&format!(r#"{{"containers/web":"nginx@sha256:{HEX}"}}"#));
        assert!(originals.named(&slot("x").place.key).is_some());
        assert_eq!(originals.pin_of(&slot(&format!("nginx@sha256:{HEX}@sha256:{HEX}"))), None);
    }

    #[test]
    fn what_is_not_an_object_of_strings_has_no_entries() {
        for text in ["", "null", "[]", "{", r#"{"containers/web":1}"#, r#"{"containers/web":"a"} x"#] {
            assert!(Originals::parse(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn entries_are_written_sorted_by_their_text_and_read_back() {
        let slots = [
            (Role::ImageVolume, "data"),
            (Role::InitContainer, "b"),
            (Role::EphemeralContainer, "e"),
            (Role::Container, "web"),
            (Role::Container, "app"),
        ]
        .map(|(role, name)| SlotKey { role, name: name.into() });
        let twice = slots.iter().map(|slot| (slot, "earlier")).chain(slots.iter().map(|slot| (slot, "x\"y")));
        let text = annotation(twice.collect()).unwrap();
        assert_eq!(
            text,
            r#"{"containers/app":"x\"y","containers/web":"x\"y","ephemeralContainers/e":"x\"y","initContainers/b":"x\"y","volumes/data":"x\"y"}"#
        );
        let read = Originals::parse(&text);
        assert!(slots.iter().all(|slot| read.named(slot).is_some()), "{read:?}");
        assert_eq!(annotation(Vec::new()), None);
    }
}
