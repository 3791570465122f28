//! Verdicts become replacements: which strings of a pod to write, and what its annotation then says. It knows no
//! JSON patch; `admission` does.

use crate::domain::original;
use crate::domain::slot::{Kind, SlotRole};
use crate::domain::subject::Subject;
use crate::domain::verdict::Verdict;

/// One reference to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// In which list of the pod it stands.
    pub role: SlotRole,
    /// At which place there.
    pub index: usize,
    /// The new reference.
    pub value: String,
}

/// What becomes of the annotation [`ANNOTATION`](crate::domain::original::ANNOTATION).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Annotation {
    /// It stays as it is, there or not.
    #[default]
    Keep,
    /// It gets this value.
    Set(String),
    /// It goes.
    Remove,
}

/// What /mutate writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    /// In slot order.
    pub replacements: Vec<Replacement>,
    /// For whole pods; the API server drops it on `pods/ephemeralcontainers`.
    pub annotation: Annotation,
}

/// The patch of a pod: new pins, pins put back under a reference that was applied again, and the annotation with
/// these and the entries that still hold. `verdicts` are those of [`Phase::Mutate`](crate::domain::subject::Phase),
/// `annotation` is the pod's present value. Other kinds are never patched.
#[must_use]
pub fn patch(subject: &Subject, verdicts: &[Verdict], annotation: Option<&str>) -> Patch {
    if subject.kind != Kind::Pod {
        return Patch::default();
    }
    let mut replacements = Vec::new();
    let mut originals = Vec::with_capacity(subject.slots.len());
    let mut verdicts = verdicts.iter().peekable();
    for slot in &subject.slots {
        let key = &slot.slot.key;
        // Both lists are in slot order; positions are unique where names of an object not yet validated may not be.
        let verdict = verdicts.next_if(|next| next.slot.role == key.role && next.index == slot.slot.index);
        let pinned = || {
            let digest = &verdict?.pinned.as_ref()?.digest;
            Some(slot.slot.image.as_ref().ok()?.pinned(digest))
        };
        if let Some(value) = slot.reapplied.as_deref().map(str::to_owned).or_else(pinned) {
            replacements.push(Replacement { role: key.role, index: slot.slot.index, value });
            originals.push((key, &*slot.slot.reference));
        } else if let Some(original) = &slot.original {
            originals.push((key, &**original));
        }
    }
    let annotation = match (original::annotation(originals), annotation) {
        (Some(wanted), Some(present)) if wanted == present => Annotation::Keep,
        (Some(wanted), _) => Annotation::Set(wanted),
        (None, Some(_)) => Annotation::Remove,
        (None, None) => Annotation::Keep,
    };
    Patch { replacements, annotation }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

    use super::*;
    use crate::domain::asker::Asker;
    use crate::domain::digest::Digest;
    use crate::domain::original::Originals;
    use crate::domain::policy::Labels;
    use crate::domain::requirement::Requirement;
    use crate::domain::slot::ImageSlot;
    use crate::domain::subject::{Controller, SlotUnderReview, Suggestions, TopOwner};
    use crate::domain::verdict::{PinSource, Pinned, on_reference};

    fn digest(letter: &str) -> Digest {
        Digest::parse(&format!("sha256:{}", letter.repeat(64))).unwrap()
    }

    fn subject(kind: Kind, slots: &[(&str, usize, &str)]) -> Subject {
        let slot = |&(name, index, reference): &(&str, usize, &str)| {
            let slot = ImageSlot::new(SlotRole::Container, name, index, reference, false);
            SlotUnderReview::new(slot, &Originals::default(), None, false)
        };
        Subject {
            kind,
            namespace: String::new(),
            namespace_labels: Labels::new(),
            labels: Labels::new(),
            top_owner: TopOwner::Known(kind),
            controller: Controller::None,
            child: false,
            revision: None,
            asker: Asker::anonymous(),
            suggestions: Suggestions::Off,
            pinning: true,
            slots: slots.iter().map(slot).collect(),
        }
    }

    fn verdict(subject: &Subject, slot: usize, pin: &str) -> Verdict {
        let none = Requirement { demands: Vec::new(), beyond_limit: false, foreign_owner: false };
        let mut verdict = on_reference(subject, &subject.slots[slot], &none);
        verdict.pinned = Some(Pinned { digest: digest(pin), source: PinSource::Registry });
        verdict
    }

    #[test]
    fn slots_of_one_name_are_told_apart_by_their_position() {
        let subject = subject(Kind::Pod, &[("web", 0, "a:1"), ("web", 1, "b:1"), ("web", 2, "c:1")]);
        let patch = patch(&subject, &[verdict(&subject, 0, "a"), verdict(&subject, 2, "c")], None);
        let written: Vec<_> =
            patch.replacements.iter().map(|new| (new.role, new.index, new.value.as_str())).collect();
        let (a, c) = (format!("a:1@{}", digest("a")), format!("c:1@{}", digest("c")));
        assert_eq!(written, [(SlotRole::Container, 0, a.as_str()), (SlotRole::Container, 2, c.as_str())]);
    }

    #[test]
    fn only_pods_are_patched() {
        let subject = subject(Kind::Deployment, &[("web", 0, "a:1")]);
        assert_eq!(patch(&subject, &[verdict(&subject, 0, "a")], Some("{}")), Patch::default());
    }

    #[test]
    fn an_annotation_that_says_it_already_is_kept() {
        let pod = subject(Kind::Pod, &[("web", 0, "a:1")]);
        let verdicts = [verdict(&pod, 0, "a")];
        let present = r#"{"containers/web":"a:1"}"#;
        assert_eq!(patch(&pod, &verdicts, Some(present)).annotation, Annotation::Keep);
        assert_eq!(patch(&pod, &verdicts, Some("{}")).annotation, Annotation::Set(present.into()));
        assert_eq!(patch(&pod, &[], Some(present)).annotation, Annotation::Remove);
        assert_eq!(patch(&pod, &[], None).annotation, Annotation::Keep);
    }
}
