//! `/validate`: pods and workloads are allowed, warned of or refused, all failing slots at once.

use std::collections::BTreeSet;

use crate::admission::Judged;
use crate::admission::response::{Answer, Refusal};
use crate::domain::message;
use crate::domain::verdict::{Effect, Finding};

pub(crate) fn answer(judged: &Judged<'_>) -> Answer {
    let Judged { subject, review, .. } = judged;
    let mut answer = Answer { warnings: message::warnings(&review.verdicts), ..Answer::default() };
    if review.denied() {
        answer.refusal = Some(Refusal {
            message: message::refusal(&review.verdicts),
            causes: message::causes(subject.kind, &review.verdicts),
        });
    }
    let findings = || review.verdicts.iter().flat_map(|verdict| &verdict.findings);
    let decision = match review.effect() {
        Some(Effect::Deny) => "deny",
        Some(Effect::Warn) => "warn",
        Some(Effect::Audit) => "audit",
        None => "allow",
    };
    answer.audit.insert("decision", decision.to_owned());
    joined(findings().map(|finding| finding.code().as_str().to_owned()))
        .map(|codes| answer.audit.insert("codes", codes));
    joined(findings().map(|finding: &Finding| finding.policy.to_string()))
        .map(|policies| answer.audit.insert("policies", policies));
    if let Some(oldest) = review.verdicts.iter().filter_map(|verdict| verdict.stale).max() {
        answer.audit.insert("stale-seconds", oldest.as_secs().to_string());
    }
    answer
}

/// Each once, in order, with commas; nothing when there is none.
fn joined(words: impl Iterator<Item = String>) -> Option<String> {
    let words: BTreeSet<String> = words.collect();
    (!words.is_empty()).then(|| Vec::from_iter(words).join(","))
}
