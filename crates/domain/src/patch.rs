//! Turns verdicts into changes of a pod: the references to write, and the annotations that go with them. The
//! crate `webhook` writes them as a JSON patch.

use crate::mark::{self, Claim, Key};
use crate::original;
use crate::slot::Field;
use crate::subject::{SlotUnderReview, Subject};
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
/// [`Phase::Mutate`](crate::subject::Phase). `present` is none where the API server drops changes of annotations.
/// Without a signer, new pins get no mark. Other kinds are never patched. Returns none if the pins do not fit into
/// the annotations, because the API server would refuse the patched pod.
#[must_use]
pub fn patch(
    subject: &Subject,
    verdicts: &[Verdict],
    present: Option<Present<'_>>,
    signer: Option<&Key>,
) -> Option<Patch> {
    if !subject.is_pod {
        return Some(Patch::default());
    }
    let mut replacements = Vec::new();
    let mut originals = Vec::with_capacity(subject.slots.len());
    let mut marks = Vec::with_capacity(subject.slots.len());
    for (slot, verdict) in judged(subject, verdicts) {
        let (key, field) = (slot.slot.key(), slot.slot.place.field);
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
    let Some(present) = present else { return Some(Patch { replacements, ..Patch::default() }) };
    let (original, mark) = (original::annotation(originals), mark::annotation(marks));
    let taken = taken(present, original.as_deref());
    if taken > ANNOTATIONS_LIMIT && !replacements.is_empty() {
        return None;
    }
    // Without room for the mark the pod still gets its digest: such a pin decides nothing for other pods.
    let mark = mark.filter(|mark| taken + size(mark::ANNOTATION, Some(mark)) <= ANNOTATIONS_LIMIT);
    Some(Patch {
        replacements,
        original: Annotation::to(original, present.original),
        mark: Annotation::to(mark, present.mark),
    })
}

/// Returns the number of bytes by which the annotations of a pod would be too large with the pins that it missed; none
/// if they fit. `verdicts` are those of [`Phase::Validate`](crate::subject::Phase).
#[must_use]
pub fn excess(subject: &Subject, verdicts: &[Verdict], present: Present<'_>) -> Option<usize> {
    if !verdicts.iter().any(Verdict::is_unpinned) {
        return None;
    }
    let originals = judged(subject, verdicts).filter_map(|(slot, verdict)| {
        let is_missed = slot.reapplied.is_some() || verdict.is_some_and(Verdict::is_unpinned);
        let written = if is_missed { Some(&slot.slot.reference) } else { slot.original.as_ref() };
        Some((slot.slot.key(), &**written?))
    });
    let original = original::annotation(originals.collect());
    taken(present, original.as_deref()).checked_sub(ANNOTATIONS_LIMIT).filter(|excess| *excess > 0)
}

/// Returns every slot with its verdict. Both lists are in slot order. Positions are unique, but the names of an
/// object that is not validated yet may not be.
fn judged<'a>(
    subject: &'a Subject,
    verdicts: &'a [Verdict],
) -> impl Iterator<Item = (&'a SlotUnderReview, Option<&'a Verdict>)> {
    let mut verdicts = verdicts.iter().peekable();
    subject.slots.iter().map(move |slot| (slot, verdicts.next_if(|next| next.place == slot.slot.place)))
}

/// Returns the number of bytes of all annotations but the mark.
fn taken(present: Present<'_>, original: Option<&str>) -> usize {
    present.others + size(original::ANNOTATION, original)
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
    use crate::denial::Violation;
    use crate::digest::Digest;
    use crate::kind::Kind;
    use crate::mark::{Keys, Marks, Provenance};
    use crate::policy::PolicyId;
    use crate::requirement::Requirement;
    use crate::slot::tests::container;
    use crate::subject::{Surrounding, TopOwner};
    use crate::verdict::{Case, Effect, Finding, PinSource, Pinned, on_reference};
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

    fn patched(pod: &Subject, verdicts: &[Verdict], present: Present<'_>, signer: Option<&Key>) -> Patch {
        patch(pod, verdicts, Some(present), signer).unwrap()
    }

    #[test]
    fn slots_of_one_name_are_told_apart_by_their_position() {
        let subject = subject(POD, &[("web", 0, "a:1"), ("web", 1, "b:1"), ("web", 2, "c:1")]);
        let patch = patched(
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
        assert_eq!(patched(&subject, &[verdict(&subject, 0, "a")], present, None), Patch::default());
    }

    #[test]
    fn an_annotation_that_says_it_already_is_kept() {
        let pod = subject(POD, &[("web", 0, "a:1")]);
        let verdicts = [verdict(&pod, 0, "a")];
        let present = r#"{"containers/web":"a:1"}"#;
        let original = |verdicts: &[Verdict], original| {
            patched(&pod, verdicts, Present { original, ..Present::default() }, None).original
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
            patched(&pod, verdicts, Present { mark, ..Present::default() }, signer).mark
        };
        let pinned = [verdict(&pod, 0, "a")];
        let Annotation::Set(value) = marked(&pinned, None, signer) else { panic!("no mark") };
        let written = Marks::parse(&value).of(&pod.slots[0].slot.place.key).unwrap();
        let provenance = Provenance { keys: Some(&keys), ..Provenance::default() };
        assert!(provenance.proves(&pod.slots[0].slot.place.key, "a:1", Some(&written)));
        assert_eq!(marked(&pinned, Some(&value), signer), Annotation::Keep);
        assert_eq!(marked(&pinned, None, None), Annotation::Keep, "without a key pins have no mark");
        assert_eq!(marked(&[], Some(&value), signer), Annotation::Remove);
    }

    #[test]
    fn a_pin_is_written_with_its_original_or_not_at_all_and_its_mark_if_there_is_room() {
        let pod = subject(POD, &[("web", 0, "a:1")]);
        let keys = Keys::new([(7, b"secret".as_slice())], Timestamp::UNIX_EPOCH).unwrap();
        let signer = keys.signer(Timestamp::UNIX_EPOCH);
        let pinned = [verdict(&pod, 0, "a")];
        let written = |others| patch(&pod, &pinned, Some(Present { others, ..Present::default() }), signer);
        let size_of = |annotation: &Annotation, key| match annotation {
            Annotation::Set(value) => size(key, Some(value)),
            Annotation::Keep | Annotation::Remove => panic!("{key} is not set"),
        };
        let empty = written(0).unwrap();
        let original = size_of(&empty.original, original::ANNOTATION);
        let mark = size_of(&empty.mark, mark::ANNOTATION);
        let room = |bytes: usize| written(ANNOTATIONS_LIMIT - bytes);
        assert_eq!(room(original + mark).unwrap(), empty);
        for bytes in [original + mark - 1, original] {
            assert_eq!(room(bytes).unwrap(), Patch { mark: Annotation::Keep, ..empty.clone() });
        }
        for bytes in [original - 1, 0] {
            assert_eq!(room(bytes), None);
        }
        let dropped = patch(&pod, &pinned, None, signer).unwrap();
        assert_eq!(dropped, Patch { replacements: empty.replacements, ..Patch::default() });
    }

    #[test]
    fn a_pod_without_new_pins_is_never_full() {
        let mut pod = subject(POD, &[("web", 0, &format!("a:1@{}", digest("a")))]);
        pod.slots[0].original = Some("a:1".into());
        let original = Some(r#"{"containers/gone":"b:1","containers/web":"a:1"}"#);
        let present = Present { others: ANNOTATIONS_LIMIT, original, mark: None };
        let written = patched(&pod, &[], present, None);
        assert_eq!(written.original, Annotation::Set(r#"{"containers/web":"a:1"}"#.into()));
    }

    #[test]
    fn what_validation_finds_missing_is_what_the_patch_would_have_written() {
        let mut pod =
            subject(POD, &[("web", 0, "a:1"), ("api", 1, "b:1"), ("old", 2, "c:1@x"), ("new", 3, "d:1")]);
        pod.slots[1].reapplied = Some("b:1@x".into());
        pod.slots[2].original = Some("c:1".into());
        let pinned = [verdict(&pod, 0, "a")];
        let missed = |slot| {
            let policy = PolicyId { namespace: None, name: "p".into() };
            let (violation, effect) = (Violation::NotPinned, Effect::Audit);
            let findings = vec![Finding { policy, violation, effect, retry_after: None }];
            Verdict { findings, pinned: None, ..verdict(&pod, slot, "a") }
        };
        let Annotation::Set(original) = patched(&pod, &pinned, Present::default(), None).original else {
            panic!("no annotation")
        };
        let room = ANNOTATIONS_LIMIT - size(original::ANNOTATION, Some(&original));
        for over in [0, 1, 1000] {
            let present = Present { others: room + over, original: None, mark: None };
            let fits = patch(&pod, &pinned, Some(present), None).is_some();
            let found = excess(&pod, &[missed(0)], present);
            assert_eq!((fits, found), (over == 0, (over > 0).then_some(over)));
            assert_eq!(excess(&pod, &pinned, present), None, "no pin is missing");
        }
    }
}
