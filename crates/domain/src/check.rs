//! The checks that a policy compiles to. Each is one demand on one slot, with the stage at which it can be
//! judged.
//!
//! The list of a policy's checks is everything that the policy demands. Code that judges, explains or exports
//! a policy walks this list.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::glob::Globs;
use crate::slot::Pulled;
use crate::subject::Phase;

/// One demand of one policy on one slot.
#[derive(Debug, Clone)]
pub enum Check {
    /// The slot is within the limits on slots and on different references of one object.
    Limit,
    /// The reference is one that a node can pull.
    Reference,
    /// The tag is permitted.
    Tags {
        /// Tags that are refused.
        forbidden: Globs,
        /// True if a reference with neither tag nor digest is refused.
        require_explicit: bool,
    },
    /// The registry has the tag, and a node can run what the tag names.
    Existence,
    /// A registry that is asked gives a definite answer. If it gives none, the policy's
    /// [`Resolution`](crate::policy::Resolution) says what follows.
    Resolution,
    /// The pod carries the digest that its tag names.
    Pin(Owners),
}

/// The earliest stage of a review at which a check can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The reference as it is written.
    Reference,
    /// The registry's answer about the reference.
    Fact,
    /// The object as it arrived, once the facts are known.
    Object,
}

/// The pods that are pinned, by their controllers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Owners {
    /// Pods of the built-in controllers, and pods without a controller.
    #[default]
    BuiltIn,
    /// Pods of custom resources too, whose operators may compare images.
    Any,
}

/// A rule of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// A node can pull the reference, and the object has at most 64 different ones.
    Reference,
    /// The tag is permitted, and written where the policy requires it.
    Tags,
    /// The registry has the tag.
    Existence,
    /// The pod carries its digest.
    Pin,
}

impl Rule {
    /// Returns the word in messages and exceptions: `tags`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Tags => "tags",
            Self::Existence => "existence",
            Self::Pin => "pin",
        }
    }
}

/// A set of rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleSet(u8);

impl RuleSet {
    /// Returns true if the set has this rule.
    #[must_use]
    pub const fn contains(self, rule: Rule) -> bool {
        self.0 & 1 << rule as u8 != 0
    }

    /// Returns the rules that are in one of the two sets.
    #[must_use]
    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Rule> for RuleSet {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        Self(rules.into_iter().fold(0, |bits, rule| bits | 1 << rule as u8))
    }
}

impl Check {
    /// Returns the rule that the check is part of. An exception that waives the rule removes the check.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        match self {
            Self::Limit | Self::Reference => Rule::Reference,
            Self::Tags { .. } => Rule::Tags,
            Self::Existence | Self::Resolution => Rule::Existence,
            Self::Pin(_) => Rule::Pin,
        }
    }

    /// Returns the stage at which the check can be judged.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match self {
            Self::Limit | Self::Reference | Self::Tags { .. } => Stage::Reference,
            Self::Existence | Self::Resolution => Stage::Fact,
            Self::Pin(_) => Stage::Object,
        }
    }

    /// Returns true if the check needs an answer about an image that is pulled in this way. Today no check
    /// needs one about a digest, because a digest itself determines what is pulled, and needs no pin.
    #[must_use]
    pub(crate) const fn asks_about(&self, pulled: Pulled) -> bool {
        match self {
            Self::Limit | Self::Reference | Self::Tags { .. } | Self::Resolution => false,
            Self::Existence | Self::Pin(_) => matches!(pulled, Pulled::ByTag),
        }
    }

    /// Returns true if the check needs its answer in this phase: `/mutate` asks only about images that it may
    /// pin.
    #[must_use]
    pub(crate) const fn asks_in(&self, phase: Phase) -> bool {
        match self {
            Self::Limit | Self::Reference | Self::Tags { .. } | Self::Resolution => false,
            Self::Existence => matches!(phase, Phase::Validate),
            Self::Pin(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_the_api_has() {
        for rule in [Rule::Reference, Rule::Tags, Rule::Existence, Rule::Pin] {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.word());
            assert!(RuleSet::from_iter([rule]).contains(rule));
        }
    }

    #[test]
    fn a_union_has_the_rules_of_both_sets_and_no_other() {
        let (tags, pin) = (RuleSet::from_iter([Rule::Tags]), RuleSet::from_iter([Rule::Pin]));
        let both = tags.union(pin);
        assert!(both.contains(Rule::Tags) && both.contains(Rule::Pin));
        assert!(!both.contains(Rule::Reference) && !both.contains(Rule::Existence));
    }
}
