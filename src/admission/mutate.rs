//! `/mutate`: pods get the digests of their tags. It refuses nothing: a slot that will be refused stays as written.

use crate::admission::Judged;
use crate::admission::response::{Answer, json_patch};
use crate::domain::message;
use crate::domain::original::ANNOTATION;
use crate::domain::patch::{Annotation, patch};
use crate::domain::verdict::{PinSource, Verdict};

pub(crate) fn answer(judged: &Judged<'_>) -> Answer {
    let Judged { object, subject, review, .. } = judged;
    let mut patch = patch(subject, &review.verdicts, object.annotation(ANNOTATION));
    let mut answer = Answer::default();
    if judged.ephemeral() {
        // The API server drops annotations here, so validation will not know what the author wrote: this is the
        // only place that can warn of it.
        patch.annotation = Annotation::Keep;
        let pinned: Vec<Verdict> =
            review.verdicts.iter().filter(|verdict| verdict.pinned.is_some()).cloned().collect();
        answer.warnings = message::warnings(&pinned);
    }
    answer.patch = json_patch(&patch, object.has_annotations());
    let pinned: serde_json::Map<String, serde_json::Value> = review
        .verdicts
        .iter()
        .filter_map(|verdict| {
            Some((verdict.slot.to_string(), verdict.pinned.as_ref()?.digest.as_str().into()))
        })
        .collect();
    if !pinned.is_empty() {
        answer.audit.insert("pinned", serde_json::Value::Object(pinned).to_string());
    }
    let stale = review.verdicts.iter().filter_map(|verdict| match verdict.pinned.as_ref()?.source {
        PinSource::LastKnown(age) => Some(age.as_secs()),
        PinSource::Sibling | PinSource::Registry => None,
    });
    if let Some(oldest) = stale.max() {
        answer.audit.insert("stale-seconds", oldest.to_string());
    }
    answer
}
