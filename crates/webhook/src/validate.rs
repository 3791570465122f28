//! `/validate` allows pods and workloads, warns about them or refuses them. One response names all failing
//! slots.

use crate::judged::Judged;
use crate::response::{Decision, ReviewResponse};
use tagpin_domain::message;
use tagpin_domain::verdict::Effect;

pub(crate) fn respond(judged: &Judged<'_>) -> ReviewResponse {
    let Judged { review, .. } = judged;
    let mut response = ReviewResponse::new(match review.effect() {
        Some(Effect::Deny) => Decision::Deny,
        Some(Effect::Warn) => Decision::Warn,
        Some(Effect::Audit) => Decision::Audit,
        None => Decision::Allow,
    });
    response.warnings = message::warnings(&review.verdicts);
    if review.denied() {
        response.refusal = Some(message::refusal(&review.verdicts));
    }
    let findings = || review.verdicts.iter().flat_map(|verdict| &verdict.findings);
    response.note("codes", findings().map(|finding| finding.code().to_string()));
    response.note("policies", findings().map(|finding| finding.policy.to_string()));
    if let Some(oldest) = review.verdicts.iter().filter_map(|verdict| verdict.stale).max() {
        response.audit.push(("stale-seconds", oldest.as_secs().to_string().into()));
    }
    response
}
