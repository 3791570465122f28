//! The sentences about an image without a digest, for `tagpin doctor` and for Events.

use tagpin_domain::denial::Code;
use tagpin_domain::wording::{FULL, UNDONE};

use crate::findings::{NOT_REMEMBERED, OLDER_THAN_POLICY};
use crate::image_policy::Unpinned;

/// The command that shows the webhook that undid a pin.
pub const TO_FIND_THE_WEBHOOK: &str = "kubectl get mutatingwebhookconfigurations shows the webhooks; those whose names \
                                       sort after zz-tagpin run later (docs/denials.md#pinundone)";
/// The effect of a restart on images whose pods are older than the policy.
pub const PINS_OLDER: &str = "pins images that are older than the policy";
/// The remedy for an image whose pin does not fit into the pod.
pub const TO_MAKE_ROOM: &str =
    "shorten the annotations of the pod, or of its template (docs/denials.md#annotationsfull)";

/// The problem of every other image.
const WITHOUT_DIGEST: &str = "the image has no digest although a policy pins it";
/// Maximum number of characters of an image in the note of an Event. A note has at most 1024 bytes.
const IMAGE_NOTED: usize = 253;

impl Unpinned {
    /// Returns the place of the image, and the image: `shop/Deployment/web (app): web:1.4.2`.
    #[must_use]
    pub fn place(&self) -> String {
        let Self { namespace, kind, name, slot, image, reason: _ } = self;
        format!("{namespace}/{kind}/{name} ({slot}): {image}")
    }

    /// Returns the command that makes the pods of the workload anew; none if nothing does that.
    #[must_use]
    pub fn restart(&self) -> Option<String> {
        let Self { namespace, kind, name, .. } = self;
        let kind = ["deployment", "statefulset", "daemonset"]
            .into_iter()
            .find(|known| kind.to_lowercase() == *known)?;
        Some(format!("kubectl -n {namespace} rollout restart {kind}/{name}"))
    }

    /// Returns the note of an Event about the workload: the slot, the image, the reason, the problem and the remedy.
    #[must_use]
    pub fn note(&self) -> String {
        let Self { slot, image, reason, .. } = self;
        let image = match image.char_indices().nth(IMAGE_NOTED) {
            Some((end, _)) => format!("{}...", image.get(..end).unwrap_or_default()),
            None => image.clone(),
        };
        let (problem, remedy) = if reason == Code::PinUndone.as_str() {
            (UNDONE, TO_FIND_THE_WEBHOOK.to_owned())
        } else if reason == Code::AnnotationsFull.as_str() {
            (FULL, TO_MAKE_ROOM.to_owned())
        } else {
            (WITHOUT_DIGEST, self.remedy())
        };
        format!("({slot}): {image}, {reason}: {problem}; {remedy}")
    }

    /// Returns the next step for an image that could be pinned, and whose pin nobody undid.
    fn remedy(&self) -> String {
        let kind = self.kind.as_str();
        match (self.reason.as_str(), self.restart()) {
            (OLDER_THAN_POLICY, Some(restart)) => format!("{restart} {PINS_OLDER}"),
            (OLDER_THAN_POLICY, None) if kind == "Pod" => {
                "delete the pod and create it again to have it pinned".to_owned()
            }
            (OLDER_THAN_POLICY, None) => format!("the next pod of this {kind} is pinned"),
            (NOT_REMEMBERED, Some(restart)) => {
                format!(
                    "{restart} asks for the digest again, and if that fails, tagpin doctor names the reason"
                )
            }
            (NOT_REMEMBERED, None) if kind == "Pod" => {
                "delete the pod and create it again, and if it is not pinned, tagpin doctor names the reason"
                    .to_owned()
            }
            (NOT_REMEMBERED, None) => {
                format!("if the next pod of this {kind} is not pinned, tagpin doctor names the reason")
            }
            (code, restart) => {
                let chapter = format!("docs/denials.md#{} says what to do", code.to_lowercase());
                match restart {
                    Some(restart) => format!("{chapter}, and {restart} asks for the digest again"),
                    None => chapter,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(kind: &str, reason: &str) -> Unpinned {
        let text = str::to_owned;
        let (namespace, name) = (text("shop"), text("web"));
        let (slot, image) = (text("app"), text("web:1.4.2"));
        Unpinned { namespace, kind: text(kind), name, slot, image, reason: text(reason) }
    }

    #[test]
    fn a_note_says_what_is_wrong_and_what_to_do() {
        let restart = |kind: &str| format!("kubectl -n shop rollout restart {kind}/web");
        let again = "asks for the digest again";
        for (kind, reason, remedy) in [
            ("DaemonSet", "OlderThanPolicy", format!("{} {PINS_OLDER}", restart("daemonset"))),
            ("Pod", "OlderThanPolicy", "delete the pod and create it again to have it pinned".to_owned()),
            ("CronJob", "OlderThanPolicy", "the next pod of this CronJob is pinned".to_owned()),
            (
                "StatefulSet",
                "NotRemembered",
                format!(
                    "{} {again}, and if that fails, tagpin doctor names the reason",
                    restart("statefulset")
                ),
            ),
            (
                "Pod",
                "NotRemembered",
                "delete the pod and create it again, and if it is not pinned, tagpin doctor names the reason"
                    .to_owned(),
            ),
            (
                "Job",
                "NotRemembered",
                "if the next pod of this Job is not pinned, tagpin doctor names the reason".to_owned(),
            ),
            (
                "Deployment",
                "RateLimited",
                format!("docs/denials.md#ratelimited says what to do, and {} {again}", restart("deployment")),
            ),
            ("Pod", "RateLimited", "docs/denials.md#ratelimited says what to do".to_owned()),
        ] {
            let expected = format!("(app): web:1.4.2, {reason}: {WITHOUT_DIGEST}; {remedy}");
            assert_eq!(bare(kind, reason).note(), expected);
        }
        let undone = format!("(app): web:1.4.2, PinUndone: {UNDONE}; {TO_FIND_THE_WEBHOOK}");
        assert_eq!(bare("Deployment", "PinUndone").note(), undone);
        let full = format!("(app): web:1.4.2, AnnotationsFull: {FULL}; {TO_MAKE_ROOM}");
        assert_eq!(bare("Deployment", "AnnotationsFull").note(), full);
    }

    #[test]
    fn the_longest_note_fits_into_an_event() {
        let long = |length: usize| "x".repeat(length);
        let reasons = Code::ALL.iter().map(|code| code.as_str()).chain([OLDER_THAN_POLICY, NOT_REMEMBERED]);
        for reason in reasons {
            let (namespace, name, slot, image) = (long(63), long(253), long(63), long(515));
            let note = Unpinned { namespace, name, slot, image, ..bare("StatefulSet", reason) }.note();
            assert!(note.contains(&format!(" {}...,", long(IMAGE_NOTED))), "{note}");
            assert!(note.len() <= 1024, "{}: {note}", note.len());
        }
    }
}
