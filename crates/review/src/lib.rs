//! The whole flow of a review, in one function: [`review`]. Read this first.
//!
//! reference → requirement (policies) → fact (sibling pin, registry) → verdict → findings and pins.
//! The outside world is the [`Ports`]; everything else is an argument.
//! `tagpin-domain` decides; this crate orders the steps and runs look-ups at the same time.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use tagpin_domain::asker::Asker;
use tagpin_domain::denial::Code;
use tagpin_domain::digest::Digest;
use tagpin_domain::draft::{Draft, Drafts, Unjudged, drafts};
use tagpin_domain::fact::{Fact, Unavailable};
use tagpin_domain::image::ImageRef;
use tagpin_domain::policy::PolicySet;
use tagpin_domain::requirement::policies_of;
use tagpin_domain::slot::{Pulled, Slot};
use tagpin_domain::subject::{Phase, Subject, Suggestions};
use tagpin_domain::verdict::{Answer, Effect, Instead, Verdict, on_answer};
use tagpin_domain::work::Budget;

pub use ports::{Effort, Named, NodeImages, Pins, Resolve, Seeds, Suggest, Surroundings, Version};
pub use subject::{Asked, subject};

mod ports;
mod subject;

/// Time before the deadline that is reserved for judging and responding.
const MARGIN: Duration = Duration::from_millis(50);
/// Time that a resolver may be late before it is cut off, because its own answer says more than a timeout.
const GRACE: Duration = Duration::from_millis(25);
/// Time limit for suggestions.
const SUGGESTION_TIME: Duration = Duration::from_millis(700);
/// Maximum number of references of one object that get suggestions.
const SUGGESTION_LIMIT: usize = 8;

/// The decision about one object: a verdict for each slot that was judged, in slot order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Review {
    /// The verdicts, without unchanged slots that no policy judges.
    pub verdicts: Vec<Verdict>,
    /// The policies that are left out of the verdicts, because they need too much work.
    pub unjudged: Vec<Unjudged>,
    /// Number of steps that the policies of the namespace took.
    pub namespaced_steps: u32,
}

impl Review {
    /// Returns the strictest effect of all findings.
    #[must_use]
    pub fn effect(&self) -> Option<Effect> {
        let unjudged = self.unjudged.iter().map(|policies| policies.effect);
        self.verdicts.iter().filter_map(Verdict::effect).chain(unjudged).max()
    }

    /// Returns true if the object is refused, and this code is among the reasons.
    #[must_use]
    pub fn denies_for(&self, code: Code) -> bool {
        let findings = || self.verdicts.iter().flat_map(|verdict| &verdict.findings);
        findings().any(|finding| finding.code() == code && finding.effect == Effect::Deny)
    }

    /// Turns refusals for missing pins into warnings, for a cluster that sends no pods to be pinned.
    pub fn soften_unpinned(&mut self) {
        self.verdicts.iter_mut().for_each(Verdict::soften_unpinned);
    }

    /// Names the annotations as the reason why pins are missing, if the pod would exceed their limit by so many bytes.
    pub fn blame_annotations(&mut self, excess: usize) {
        self.verdicts.iter_mut().for_each(|verdict| verdict.blame_annotations(excess));
    }

    /// Leaves every slot as its author wrote it.
    pub fn leave_unpinned(&mut self) {
        self.verdicts.iter_mut().for_each(|verdict| verdict.pinned = None);
    }

    /// Returns true if the object is refused.
    #[must_use]
    pub fn denied(&self) -> bool {
        self.effect() == Some(Effect::Deny)
    }
}

/// The outside world of a review.
#[derive(Clone, Copy)]
pub struct Ports<'a> {
    /// Looks up the digests of tags.
    pub resolve: &'a dyn Resolve,
    /// Suggests other tags.
    pub suggest: &'a dyn Suggest,
    /// Knows the digests of sibling pods, and the ages of revisions.
    pub pins: &'a dyn Pins,
    /// Knows the images of nodes.
    pub nodes: &'a dyn NodeImages,
}

/// Decides about one object within the deadline. A look-up that is not finished by then counts as unavailable. Policies
/// that need more work than the budget has are left out and named.
pub async fn review(
    phase: Phase,
    subject: &Subject,
    policies: &PolicySet,
    ports: Ports<'_>,
    now: Timestamp,
    budget: Budget,
    deadline: Instant,
) -> Review {
    let drafts = drafts(phase, policies_of(policies, subject), subject, now, budget);
    let Drafts { slots: mut drafts, unjudged, budget, namespaced_steps } = drafts;

    let asking = deadline.checked_sub(MARGIN).unwrap_or(deadline);
    let siblings: Vec<_> = drafts.iter().map(|draft| sibling(draft, ports.pins)).collect();
    let unanswered = drafts.iter().zip(&siblings).filter(|(draft, sibling)| draft.asks && sibling.is_none());
    let slots = unanswered.map(|(draft, _)| draft.slot());
    let facts = resolve(slots, subject, ports, asking).await;
    for (draft, sibling) in drafts.iter_mut().zip(&siblings).filter(|(draft, _)| draft.asks) {
        let fact = facts.iter().find(|(reference, _)| *reference == &*draft.slot().reference);
        let fact = fact.map(|(_, fact)| Answer::Registry(fact));
        if let Some(answer) = sibling.as_ref().map(Answer::Sibling).or(fact) {
            on_answer(phase, &draft.case, answer, &mut draft.verdict);
        }
    }

    if phase == Phase::Validate {
        soften_preloaded(&mut drafts, ports.nodes, asking).await;
        suggest(&mut drafts, subject, ports.suggest, budget, asking).await;
        for draft in drafts.iter_mut().filter(|draft| !draft.verdict.findings.is_empty()) {
            draft.verdict.entry =
                draft.slot().image.as_ref().ok().and_then(|image| ports.resolve.entry(image));
        }
    }
    let verdicts = drafts.into_iter().map(|draft| draft.verdict).collect();
    Review { verdicts, unjudged, namespaced_steps }
}

/// Returns the digest that a sibling of the same revision carries by a pin of tagpin.
fn sibling(draft: &Draft<'_>, pins: &dyn Pins) -> Option<Digest> {
    if !draft.asks {
        return None;
    }
    let slot = draft.slot();
    pins.sibling(draft.case.subject.revision.as_ref()?, slot.key(), &slot.reference)
}

/// Asks about all different references at the same time. The slots are those that a check asks about and that no sibling
/// answers. No answer is older than the revision of the pod.
async fn resolve<'a>(
    slots: impl Iterator<Item = &'a Slot>,
    subject: &Subject,
    Ports { resolve: registry, pins, .. }: Ports<'_>,
    deadline: Instant,
) -> Vec<(&'a str, Fact)> {
    // There are at most [`REFERENCE_LIMIT`](tagpin_domain::requirement::REFERENCE_LIMIT) different
    // references.
    let mut images: Vec<(&'a str, &'a ImageRef)> = Vec::new();
    for slot in slots {
        let reference = &*slot.reference;
        if let Ok(image) = &slot.image
            && !images.iter().any(|(asked, _)| *asked == reference)
        {
            images.push((reference, image));
        }
    }
    if images.is_empty() {
        return Vec::new();
    }
    let mut facts: Vec<(&'a str, Fact)> = Vec::with_capacity(images.len());
    let now = Instant::now();
    let since = subject.fresh_revision().and_then(|revision| pins.first_seen(revision, now));
    images.retain(|(reference, image)| {
        let fact = registry.remembered(image, &subject.asker, since, now);
        let known = fact.is_some();
        facts.extend(fact.map(|fact| (*reference, fact)));
        !known
    });
    let cut = deadline + GRACE;
    let look_ups = images.into_iter().map(async |(reference, image)| {
        let fact = timeout_at(cut, registry.resolve(image, &subject.asker, since, deadline)).await;
        (reference, fact.unwrap_or(Fact::unavailable(Unavailable::Timeout)))
    });
    facts.extend(join_all(look_ups).await);
    facts
}

/// Softens refusals of images that the registry does not have, if a node has them and uses them without asking.
async fn soften_preloaded(drafts: &mut [Draft<'_>], nodes: &dyn NodeImages, deadline: Instant) {
    let refused =
        drafts.iter_mut().filter(|draft| draft.slot().uses_held() && draft.verdict.refused_as_missing());
    join_all(refused.map(async |draft| {
        let Ok(image) = &draft.slot().image else { return };
        if timeout_at(deadline + GRACE, nodes.holds(image, deadline)).await == Ok(true) {
            draft.verdict.soften_preloaded();
        }
    }))
    .await;
}

/// Adds suggestions to verdicts that somebody will read. A reference that a policy forbids is not suggested.
async fn suggest(
    drafts: &mut [Draft<'_>],
    subject: &Subject,
    registry: &dyn Suggest,
    budget: Budget,
    deadline: Instant,
) {
    let until = deadline.min(Instant::now() + SUGGESTION_TIME);
    let effort = match subject.suggestions {
        Suggestions::Off => return,
        Suggestions::Cached => Effort::Cached,
        Suggestions::Ask => Effort::Until(until),
    };
    let mut images: HashMap<&str, (&ImageRef, Wanted)> = HashMap::new();
    for draft in drafts.iter() {
        let slot = draft.slot();
        // A user who wrote a digest needs no other tag.
        if slot.pulled() != Some(Pulled::ByTag) || draft.case.requirement.beyond_limit {
            continue;
        }
        let (Ok(image), Some(wanted)) = (&slot.image, Wanted::of(&draft.verdict)) else { continue };
        if images.len() < SUGGESTION_LIMIT {
            images.insert(image.original(), (image, wanted));
        }
    }
    let asked = images.into_iter().map(async |(reference, (image, wanted))| {
        (reference, timeout_at(until, ask_for(wanted, image, &subject.asker, effort, registry)).await)
    });
    let found: HashMap<_, _> = join_all(asked).await.into_iter().collect();
    for draft in drafts {
        let Some(Ok((named, similar))) = found.get(&*draft.slot().reference) else { continue };
        let Ok(image) = &draft.slot().image else { continue };
        let written = |tag: &str| {
            let reference = format!("{}:{tag}", image.written_name());
            (draft.case.requirement.permits_tag(tag, &budget) && ImageRef::parse(&reference).is_ok())
                .then_some(reference)
        };
        draft.verdict.shown = named.shown;
        draft.verdict.instead = named.version.as_ref().and_then(|version| {
            Some(Instead { reference: written(&version.tag)?, digest: version.digest.clone() })
        });
        draft.verdict.similar = similar.iter().filter(|tag| written(tag).is_some()).cloned().collect();
    }
}

/// The kind of suggestion that a slot needs.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// The version that a forbidden tag names.
    Version,
    /// Tags similar to the missing one.
    Similar,
}

impl Wanted {
    /// Returns the suggestion for a verdict. A missing tag names no version, so it gets similar tags. An image that a
    /// node has needs no other tag.
    fn of(verdict: &Verdict) -> Option<Self> {
        if verdict.is_preloaded() {
            return None;
        }
        if verdict.shows(Code::TagNotFound) {
            return Some(Self::Similar);
        }
        let version = verdict.shows(Code::TagForbidden) || verdict.shows(Code::TagNotExplicit);
        version.then_some(Self::Version)
    }
}

async fn ask_for(
    wanted: Wanted,
    image: &ImageRef,
    asker: &Asker,
    effort: Effort,
    registry: &dyn Suggest,
) -> (Named, Vec<String>) {
    match wanted {
        Wanted::Version => (registry.version_of(image, asker, effort).await, Vec::new()),
        Wanted::Similar => (Named::default(), registry.similar_tags(image, asker, effort).await),
    }
}

#[cfg(test)]
mod tests;
