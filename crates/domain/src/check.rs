//! The checks that a policy compiles to. Each is one demand on one slot, with the stage at which it can be
//! judged.
//!
//! The list of a policy's checks is everything that the policy demands. Code that judges, explains or exports
//! a policy walks this list.

use crate::glob::Globs;
use crate::policy::{Owners, Rule};
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
    pub const fn asks_about(&self, pulled: Pulled) -> bool {
        match self {
            Self::Limit | Self::Reference | Self::Tags { .. } | Self::Resolution => false,
            Self::Existence | Self::Pin(_) => matches!(pulled, Pulled::ByTag),
        }
    }

    /// Returns true if the check needs its answer in this phase: `/mutate` asks only about images that it may
    /// pin.
    #[must_use]
    pub const fn asks_in(&self, phase: Phase) -> bool {
        match self {
            Self::Limit | Self::Reference | Self::Tags { .. } | Self::Resolution => false,
            Self::Existence => matches!(phase, Phase::Validate),
            Self::Pin(_) => true,
        }
    }
}
