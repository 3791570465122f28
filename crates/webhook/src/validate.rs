//! `/validate` allows pods and workloads, warns about them or refuses them. One response names all failing
//! slots, and the policies that could not be compared with the object.

use crate::judged::Judged;
use crate::response::{Decision, ReviewResponse};
use tagpin_domain::denial::Code;
use tagpin_domain::message;
use tagpin_domain::verdict::{Effect, Finding};

pub(crate) fn respond(judged: &Judged<'_>) -> ReviewResponse {
    let Judged { object, review, .. } = judged;
    let mut response = ReviewResponse::new(match review.effect() {
        Some(Effect::Deny) => Decision::Deny,
        Some(Effect::Warn) => Decision::Warn,
        Some(Effect::Audit) => Decision::Audit,
        None => Decision::Allow,
    });
    response.warnings = message::warnings(&review.verdicts);
    let (kind, name) = (object.row.kind, object.name());
    let unjudged = |effect| review.unjudged.iter().filter(move |unjudged| unjudged.effect == effect);
    response.warnings.extend(
        unjudged(Effect::Warn).map(|unjudged| message::unreadable_warning(kind, &name, unjudged.why())),
    );
    if review.denied() {
        let mut refusal = message::refusal(&review.verdicts);
        for unjudged in unjudged(Effect::Deny) {
            let policies: Vec<_> = unjudged.policies.iter().collect();
            let field = object.row.pod_spec;
            refusal.append(message::unreadable(kind, field, &name, unjudged.why(), &policies));
        }
        response.refusal = Some(refusal);
    }
    let findings = || review.verdicts.iter().flat_map(|verdict| &verdict.findings);
    let codes = review.unjudged.iter().map(|_| Code::ReviewUnreadable);
    let codes = codes.chain(findings().map(Finding::code));
    response.note("codes", codes.map(|code| code.to_string()));
    let policies = review.unjudged.iter().flat_map(|unjudged| &unjudged.policies);
    let policies = policies.chain(findings().map(|finding| &finding.policy));
    response.note("policies", policies.map(ToString::to_string));
    if let Some(oldest) = review.verdicts.iter().filter_map(|verdict| verdict.stale).max() {
        response.audit.push(("stale-seconds", oldest.as_secs().to_string().into()));
    }
    response
}
