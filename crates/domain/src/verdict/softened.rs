//! Findings that a later look at the object or the cluster changes.

use crate::denial::Violation;
use crate::verdict::{Effect, Verdict, sort};

impl Verdict {
    /// Turns a refusal for a missing pin into a warning. While no pod is sent to be pinned, applying the pod
    /// again does not help.
    pub fn soften_unpinned(&mut self) {
        for finding in &mut self.findings {
            if finding.violation == Violation::NotPinned {
                finding.effect = finding.effect.min(Effect::Warn);
                finding.retry_after = None;
            }
        }
        sort(self);
    }

    /// Returns true if the slot is judged as one that missed its pin, whatever the effect is.
    #[must_use]
    pub fn is_unpinned(&self) -> bool {
        self.findings.iter().any(|finding| finding.violation == Violation::NotPinned)
    }

    /// Names the annotations as the reason why a pin is missing. They exceed their limit by so many bytes with it, so
    /// that applying the pod again does not help.
    pub fn blame_annotations(&mut self, excess: usize) {
        for finding in &mut self.findings {
            if finding.violation == Violation::NotPinned {
                finding.violation = Violation::AnnotationsFull { excess };
                finding.retry_after = None;
            }
        }
    }

    /// Returns true if the slot is refused because the registry has no such tag or repository.
    #[must_use]
    pub fn refused_as_missing(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.effect == Effect::Deny && finding.violation.on_a_node().is_some())
    }

    /// Turns refusals for a missing tag or repository into warnings, because a node has the image and runs it
    /// without asking the registry.
    pub fn soften_preloaded(&mut self) {
        for finding in &mut self.findings {
            if let Some(violation) = finding.violation.on_a_node() {
                finding.violation = violation;
                finding.effect = finding.effect.min(Effect::Warn);
            }
        }
        sort(self);
    }

    /// Returns true if a node has an image that the registry does not have.
    #[must_use]
    pub fn is_preloaded(&self) -> bool {
        let mut violations = self.findings.iter().map(|finding| &finding.violation);
        violations.any(|violation| {
            matches!(violation, Violation::TagOnlyOnNodes | Violation::RepositoryOnlyOnNodes)
        })
    }
}
