//! `/validate`: pods and workloads are allowed, warned of or refused, all failing slots at once.

use crate::Judged;
use crate::metrics::Decision;
use crate::response::Answer;
use tagpin_domain::message;
use tagpin_domain::verdict::Effect;

pub(crate) fn answer(judged: &Judged<'_>) -> Answer {
    let Judged { review, .. } = judged;
    let mut answer = Answer::new(match review.effect() {
        Some(Effect::Deny) => Decision::Deny,
        Some(Effect::Warn) => Decision::Warn,
        Some(Effect::Audit) => Decision::Audit,
        None => Decision::Allow,
    });
    answer.warnings = message::warnings(&review.verdicts);
    if review.denied() {
        answer.refusal = Some(message::refusal(&review.verdicts));
    }
    let findings = || review.verdicts.iter().flat_map(|verdict| &verdict.findings);
    answer.note("codes", findings().map(|finding| finding.code().to_string()));
    answer.note("policies", findings().map(|finding| finding.policy.to_string()));
    if let Some(oldest) = review.verdicts.iter().filter_map(|verdict| verdict.stale).max() {
        answer.audit.push(("stale-seconds", oldest.as_secs().to_string().into()));
    }
    answer
}
