//! Turns verdicts into changes of a pod: the references to write, and the annotations that go with them. The
//! crate `webhook` writes them as a JSON patch.

use crate::mark::{self, Claim, Key};
use crate::original;
use crate::slot::Field;
use crate::subject::Subject;
use crate::verdict::Verdict;

/// One reference to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The path of the reference.
    pub field: Field,
    /// The new reference.
    pub value: String,
}

/// The change of an annotation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Annotation {
    /// The annotation stays as it is, there or not.
    #[default]
    Keep,
    /// The annotation gets this value.
    Set(String),
    /// The annotation is removed.
    Remove,
}

/// The changes that `/mutate` makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    /// The references to write, in slot order.
    pub replacements: Vec<Replacement>,
    /// The change of [`original::ANNOTATION`], for whole pods. The API server drops it on
    /// `pods/ephemeralcontainers`.
    pub original: Annotation,
    /// The change of [`mark::ANNOTATION`], for whole pods too.
    pub mark: Annotation,
}

/// Maximum size of all annotations of an object, in bytes of their keys and values (apimachinery's
/// `ValidateAnnotationsSize`).
pub const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// The annotations that a pod has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Present<'a> {
    /// Number of bytes of the annotations that are not tagpin's.
    pub others: usize,
    /// The value of [`original::ANNOTATION`].
    pub original: Option<&'a str>,
    /// The value of [`mark::ANNOTATION`].
    pub mark: Option<&'a str>,
}

/// Returns the patch of a pod: new pins, pins that are restored because their reference was applied again,
/// and the annotations for these pins and for the entries that still hold. `verdicts` are those of
/// [`Phase::Mutate`](crate::subject::Phase). Without a signer, new pins get no mark. Other kinds are never
/// patched.
#[must_use]
pub fn patch(subject: &Subject, verdicts: &[Verdict], present: Present<'_>, signer: Option<&Key>) -> Patch {
    if !subject.is_pod {
        return Patch::default();
    }
    let mut replacements = Vec::new();
    let mut originals = Vec::with_capacity(subject.slots.len());
    let mut marks = Vec::with_capacity(subject.slots.len());
    let mut verdicts = verdicts.iter().peekable();
    for slot in &subject.slots {
        let (key, field) = (slot.slot.key(), slot.slot.place.field);
        // Both lists are in slot order. Positions are unique, but the names of an object that is not
        // validated yet may not be.
        let verdict = verdicts.next_if(|next| next.place == slot.slot.place);
        let digest = verdict.and_then(|verdict| Some(&verdict.pinned.as_ref()?.digest));
        let image = slot.slot.image.as_ref().ok();
        let written = &*slot.slot.reference;
        if let Some(value) = &slot.reapplied {
            replacements.push(Replacement { field, value: value.to_string() });
            originals.push((key, written));
            marks.extend(slot.mark.clone().map(|mark| (key, mark)));
        } else if let (Some(image), Some(digest)) = (image, digest) {
            let value = image.pinned(digest);
            replacements.push(Replacement { field, value });
            originals.push((key, written));
            let claim = Claim::new(&subject.namespace, subject.revision.as_ref(), key, written, digest);
            marks.extend(signer.map(|signer| (key, signer.mark(&claim))));
        } else if let Some(original) = &slot.original {
            originals.push((key, &**original));
            marks.extend(slot.mark.clone().map(|mark| (key, mark)));
        }
    }
    let (original, mark) = (original::annotation(originals), mark::annotation(marks));
    let taken = present.others + size(original::ANNOTATION, original.as_deref());
    // A pod without room for the mark is pinned without it, because the API server would refuse the pod.
    let mark = mark.filter(|mark| taken + size(mark::ANNOTATION, Some(mark)) <= ANNOTATIONS_LIMIT);
    Patch {
        replacements,
        original: Annotation::to(original, present.original),
        mark: Annotation::to(mark, present.mark),
    }
}

fn size(key: &str, value: Option<&str>) -> usize {
    value.map_or(0, |value| key.len() + value.len())
}

impl Annotation {
    /// Returns the change from the present value to the wanted one.
    fn to(wanted: Option<String>, present: Option<&str>) -> Self {
        match (wanted, present) {
            (Some(wanted), Some(present)) if wanted == present => Self::Keep,
            (Some(wanted), _) => Self::Set(wanted),
            (None, Some(_)) => Self::Remove,
            (None, None) => Self::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::digest::Digest;
    use crate::kind::Kind;
    use crate::mark::{Keys, Marks, Provenance};
    use crate::requirement::Requirement;
    use crate::slot::tests::container;
    use crate::subject::{Surrounding, TopOwner};
    use crate::verdict::{Case, PinSource, Pinned, on_reference};
    use crate::work::Budget;
    use crate::workload::{LabelSet, Labels, Workload};

    const POD: Kind = Kind::new("", "Pod");
    const DEPLOYMENT: Kind = Kind::new("apps", "Deployment");

    fn digest(letter: &str) -> Digest {
        Digest::parse(&format!("sha256:{}", letter.repeat(64))).unwrap()
    }

    fn subject(kind: Kind, slots: &[(&str, usize, &str)]) -> Subject {
        let slots = slots.iter().map(|&(name, index, reference)| container(name, index, reference)).collect();
        let workload = Workload { slots, ..Workload::new(kind, kind == POD, "", "") };
        Subject::of(
            workload,
            Surrounding::unasked(LabelSet::of_namespace("shop", Some(Labels::new())), TopOwner::Known(kind)),
            None,
        )
    }

    fn verdict(subject: &Subject, slot: usize, pin: &str) -> Verdict {
        let requirement = Requirement { demands: Vec::new(), beyond_limit: false, foreign_owner: false };
        let case = Case { subject, slot: &subject.slots[slot], requirement };
        let mut verdict = on_reference(&case, &Budget::default()).unwrap();
        verdict.pinned = Some(Pinned { digest: digest(pin), source: PinSource::Registry });
        verdict
    }

    #[test]
    fn slots_of_one_name_are_told_apart_by_their_position() {
        let subject = subject(POD, &[("web", 0, "a:1"), ("web", 1, "b:1"), ("web", 2, "c:1")]);
        let patch = patch(
            &subject,
            &[verdict(&subject, 0, "a"), verdict(&subject, 2, "c")],
            Present::default(),
            None,
        );
        let written: Vec<_> =
            patch.replacements.iter().map(|new| (new.field.index, new.value.as_str())).collect();
        let (a, c) = (format!("a:1@{}", digest("a")), format!("c:1@{}", digest("c")));
        assert_eq!(written, [(0, a.as_str()), (2, c.as_str())]);
    }

    #[test]
    fn only_pods_are_patched() {
        let subject = subject(DEPLOYMENT, &[("web", 0, "a:1")]);
        let present = Present { original: Some("{}"), mark: Some("{}"), others: 0 };
        assert_eq!(patch(&subject, &[verdict(&subject, 0, "a")], present, None), Patch::default());
    }

    #[test]
    fn an_annotation_that_says_it_already_is_kept() {
        let pod = subject(POD, &[("web", 0, "a:1")]);
        let verdicts = [verdict(&pod, 0, "a")];
        let present = r#"{"containers/web":"a:1"}"#;
        let original = |verdicts: &[Verdict], original| {
            patch(&pod, verdicts, Present { original, ..Present::default() }, None).original
        };
        assert_eq!(original(&verdicts, Some(present)), Annotation::Keep);
        assert_eq!(original(&verdicts, Some("{}")), Annotation::Set(present.into()));
        assert_eq!(original(&[], Some(present)), Annotation::Remove);
        assert_eq!(original(&[], None), Annotation::Keep);
    }

    #[test]
    fn new_pins_are_marked_and_a_mark_whose_pin_is_gone_goes() {
        let pod = subject(POD, &[("web", 0, "a:1")]);
        let keys = Keys::new([(7, b"secret".as_slice())], Timestamp::UNIX_EPOCH).unwrap();
        let signer = keys.signer(Timestamp::UNIX_EPOCH);
        let marked = |verdicts: &[Verdict], mark, signer| {
            patch(&pod, verdicts, Present { mark, ..Present::default() }, signer).mark
        };
        let pinned = [verdict(&pod, 0, "a")];
        let Annotation::Set(value) = marked(&pinned, None, signer) else { panic!("no mark") };
        let written = Marks::parse(&value).of(&pod.slots[0].slot.place.key).unwrap();
        let provenance = Provenance { keys: Some(&keys), ..Provenance::default() };
        assert!(provenance.proves(&pod.slots[0].slot.place.key, "a:1", Some(&written)));
        assert_eq!(marked(&pinned, Some(&value), signer), Annotation::Keep);
        assert_eq!(marked(&pinned, None, None), Annotation::Keep, "without a key pins have no mark");
        assert_eq!(marked(&[], Some(&value), signer), Annotation::Remove);
        // The pin and its original are written whether there is room or not.
        let size = size(mark::ANNOTATION, Some(&value))
            + original::ANNOTATION.len()
            + r#"{"containers/web":"a:1"}"#.len();
        for (others, fits) in [(ANNOTATIONS_LIMIT - size, true), (ANNOTATIONS_LIMIT - size + 1, false)] {
            let written = patch(&pod, &pinned, Present { others, ..Present::default() }, signer);
            assert_eq!((written.replacements.len(), written.mark != Annotation::Keep), (1, fits));
            assert_ne!(written.original, Annotation::Keep);
        }
    }
}
