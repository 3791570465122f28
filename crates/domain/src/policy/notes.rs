//! Parts of a policy in force that have no effect, so that its author hears of them.

use std::fmt;

use jiff::Timestamp;

use crate::check::{Check, Rule};
use crate::glob::Reason;
use crate::policy::{Mode, Outcome, Policy};

/// A part of a policy that has no effect. Displayed as a sentence for its author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A glob matches nothing.
    MatchesNothing(IdleGlob),
    /// The policy demands nothing but that references can be read.
    DemandsNothing,
    /// A field of `resolution` says `Deny`, and the mode never denies.
    NeverDenies {
        /// The field: `onUnavailable`.
        field: &'static str,
        /// The mode.
        mode: Mode,
    },
    /// A field of `resolution` says `Deny`, and no registry is asked.
    NeverAsks {
        /// The field: `onUnavailable`.
        field: &'static str,
    },
    /// An exception waives a rule that the policy does not demand.
    NotDemanded {
        /// The name of the exception.
        exception: String,
        /// The rule.
        rule: Rule,
    },
    /// An exception has expired.
    Expired {
        /// The name of the exception.
        exception: String,
        /// The time when it expired.
        at: Timestamp,
    },
}

/// A glob that matches no name or no tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleGlob {
    /// The field's path: `spec.match.images[2]`.
    pub field: String,
    /// The glob as written.
    pub glob: String,
    /// The reason, as advice for its author.
    pub reason: Reason,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MatchesNothing(IdleGlob { field, glob, reason }) => {
                write!(f, "{field}: \"{glob}\" matches nothing: {reason}")
            }
            Self::DemandsNothing => f.write_str(
                "the policy demands nothing but a readable reference, because rules.tags.forbidden and pin.targets are \
                 empty and rules.existence is Ignore",
            ),
            Self::NeverDenies { field, mode } => {
                let acts = if *mode == Mode::Warn { "only warns" } else { "is only counted" };
                write!(f, "resolution.{field}: Deny {acts}, because the mode is {}", mode.word())
            }
            Self::NeverAsks { field } => write!(
                f,
                "resolution.{field}: Deny has no effect, because no registry is asked: rules.existence is Ignore and \
                 pin.targets is empty"
            ),
            Self::NotDemanded { exception, rule } => write!(
                f,
                "the exception {exception} waives the rule {}, which this policy does not demand",
                rule.word()
            ),
            Self::Expired { exception, at } => write!(f, "the exception {exception} expired at {at}"),
        }
    }
}

impl Policy {
    /// Returns the parts of the policy that have no effect at this time.
    #[must_use]
    pub fn notes(&self, now: Timestamp) -> Vec<Note> {
        let demands = |rule: Rule| self.checks.iter().any(|check| check.rule() == rule);
        let mut notes: Vec<Note> = self.idle_globs.iter().cloned().map(Note::MatchesNothing).collect();
        if !self.checks.iter().any(|check| !matches!(check, Check::Limit | Check::Reference)) {
            notes.push(Note::DemandsNothing);
        }
        let asks = self.checks.iter().any(|check| matches!(check, Check::Resolution));
        let outcomes = [
            ("onUnavailable", self.resolution.on_unavailable),
            ("onUnauthorized", self.resolution.on_unauthorized),
            ("onForbiddenAddress", self.resolution.on_forbidden_address),
        ];
        for (field, _) in outcomes.into_iter().filter(|(_, outcome)| *outcome == Outcome::Deny) {
            if !asks {
                notes.push(Note::NeverAsks { field });
            } else if self.mode != Mode::Enforce {
                notes.push(Note::NeverDenies { field, mode: self.mode });
            }
        }
        for exception in &self.exceptions {
            if exception.expires <= now {
                notes.push(Note::Expired { exception: exception.name.clone(), at: exception.expires });
                continue;
            }
            // An exception that names no rule waives all of these, demanded or not.
            let names_none = [Rule::Reference, Rule::Tags, Rule::Existence]
                .into_iter()
                .all(|rule| exception.rules.contains(rule));
            let waived = [Rule::Tags, Rule::Existence, Rule::Pin].into_iter();
            let idle = waived.filter(|rule| exception.rules.contains(*rule) && !demands(*rule));
            let idle = idle.filter(|rule| !names_none || *rule == Rule::Pin);
            notes.extend(idle.map(|rule| Note::NotDemanded { exception: exception.name.clone(), rule }));
        }
        notes
    }
}
