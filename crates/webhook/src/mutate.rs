//! `/mutate`: pods get the digests of their tags. It refuses nothing: a slot that will be refused stays as written.

use tagpin_json as json;

use crate::Judged;
use crate::metrics::Decision;
use crate::response::{Answer, json_patch};
use tagpin_domain::mark::Key;
use tagpin_domain::message;
use tagpin_domain::patch::{Annotation, patch};
use tagpin_domain::policy::Rule;
use tagpin_domain::verdict::{PinSource, Verdict};

/// Pins that are named in the audit log.
const AUDITED: usize = 64;

pub(crate) fn answer(judged: &Judged<'_>, signer: Option<&Key>) -> Answer {
    let Judged { object, subject, review, .. } = judged;
    let mut patch = patch(subject, &review.verdicts, object.present(), signer);
    if judged.ephemeral {
        // The API server drops annotations here.
        (patch.original, patch.mark) = (Annotation::Keep, Annotation::Keep);
    }
    let patch = json_patch(&patch, object.way());
    let mut answer = Answer::new(if patch.is_some() { Decision::Pin } else { Decision::Allow });
    answer.patch = patch;
    if judged.ephemeral {
        answer.warnings = message::warnings(&unseen_by_validation(&review.verdicts));
    }
    let pins = || review.verdicts.iter().filter_map(|verdict| Some((verdict, verdict.pinned.as_ref()?)));
    if pins().next().is_some() {
        let pinned = pins().take(AUDITED);
        let words = pinned.map(|(verdict, pinned)| (verdict.place.key.parts(), pinned.digest.as_str()));
        answer.audit.push(("pinned", json::map(words).into()));
    }
    let stale = pins().filter_map(|(_, pinned)| match pinned.source {
        PinSource::LastKnown(age) => Some(age.as_secs()),
        PinSource::Sibling | PinSource::Registry => None,
    });
    if let Some(oldest) = stale.max() {
        answer.audit.push(("stale-seconds", oldest.to_string().into()));
    }
    answer
}

/// What /validate can not know once a slot is pinned and no annotation says what its author wrote: that no tag was
/// written, and what the registry said. A written tag is judged beside its digest too.
fn unseen_by_validation(verdicts: &[Verdict]) -> Vec<Verdict> {
    let pinned = verdicts.iter().filter(|verdict| verdict.pinned.is_some());
    pinned
        .cloned()
        .map(|mut verdict| {
            let tag = verdict.image.as_ref().is_ok_and(|image| image.tag().is_some());
            verdict.findings.retain(|finding| !tag || finding.rule() != Rule::Tags);
            verdict
        })
        .collect()
}
