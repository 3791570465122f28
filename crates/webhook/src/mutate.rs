//! `/mutate` adds digests to the images of pods. It refuses nothing: a slot that `/validate` will refuse
//! stays as written, and so does a pod whose annotations have no room for the pins.

use tagpin_json as json;

use crate::judged::Judged;
use crate::response::{Decision, ReviewResponse, json_patch};
use tagpin_domain::check::Rule;
use tagpin_domain::mark::Key;
use tagpin_domain::message;
use tagpin_domain::patch::patch;
use tagpin_domain::verdict::{PinSource, Verdict};

/// Maximum number of pins that the audit log names.
const AUDITED: usize = 64;

pub(crate) fn respond(judged: &mut Judged<'_>, signer: Option<&Key>) -> ReviewResponse {
    let Judged { object, subject, review, .. } = judged;
    // The API server drops annotations that the sub-resource of ephemeral containers changes.
    let present = (!judged.ephemeral).then(|| object.present());
    let patch = patch(subject, &review.verdicts, present, signer);
    if patch.is_none() {
        review.leave_unpinned();
    }
    let patch = patch.and_then(|patch| json_patch(&patch, object.way()));
    let mut response = ReviewResponse::new(if patch.is_some() { Decision::Pin } else { Decision::Allow });
    response.patch = patch;
    response.warnings = message::warnings(&unseen_by_validation(&review.verdicts, judged.ephemeral));
    response.warnings.extend(message::stale_warnings(&review.verdicts));
    let pins = || review.verdicts.iter().filter_map(|verdict| Some((verdict, verdict.pinned.as_ref()?)));
    if pins().next().is_some() {
        let pinned = pins().take(AUDITED);
        let words = pinned.map(|(verdict, pinned)| (verdict.place.key.parts(), pinned.digest.as_str()));
        response.audit.push(("pinned", json::map(words).into()));
    }
    let stale = pins().filter_map(|(_, pinned)| match pinned.source {
        PinSource::LastKnown { age, .. } => Some(age.as_secs()),
        PinSource::Sibling | PinSource::Registry => None,
    });
    if let Some(oldest) = stale.max() {
        response.audit.push(("stale-seconds", oldest.to_string().into()));
    }
    response
}

/// Returns the verdicts on pinned slots, with only the findings that `/validate` cannot have: those on the registry's
/// answer, about which `/validate` does not ask once there is a digest. For an ephemeral container no annotation
/// records what the author wrote, so that findings on a missing tag belong to them. `/validate` judges a written tag
/// itself, also beside a digest.
fn unseen_by_validation(verdicts: &[Verdict], ephemeral: bool) -> Vec<Verdict> {
    let found = |verdict: &&Verdict| verdict.pinned.is_some() && !verdict.findings.is_empty();
    let pinned = verdicts.iter().filter(found);
    pinned
        .cloned()
        .map(|mut verdict| {
            let tag = verdict.image.as_ref().is_ok_and(|image| image.tag().is_some());
            verdict.findings.retain(|finding| match finding.rule() {
                Rule::Existence => true,
                Rule::Tags => ephemeral && !tag,
                Rule::Reference | Rule::Pin => ephemeral,
            });
            verdict
        })
        .collect()
}
