//! Requirement and fact (and pin, and child or not) become a verdict; the policy's mode is the last step.

use std::time::Duration;

use crate::domain::denial::Code;
use crate::domain::digest::Digest;
use crate::domain::policy::{PolicyId, Rule};
use crate::domain::slot::SlotKey;

/// What one finding does to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Counted and reported only.
    Audit,
    /// A warning in the answer.
    Warn,
    /// The request is refused.
    Deny,
}

/// One rule of one policy that a slot does not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which policy.
    pub policy: PolicyId,
    /// Which rule of it.
    pub rule: Rule,
    /// The stable word.
    pub code: Code,
    /// The first line without the code: `image "nginx:latest" (container web): tag "latest" is forbidden`.
    pub text: String,
    /// What it does, mode and child already applied.
    pub effect: Effect,
    /// A retry may pass after so long.
    pub retry_after: Option<Duration>,
}

/// Where a pin's digest came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinSource {
    /// A sibling pod of the same revision.
    Sibling,
    /// The registry, now or from the cache.
    Registry,
    /// A digest last seen so long ago, because the registry could not be asked.
    LastKnown(Duration),
}

/// The digest chosen for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The digest.
    pub digest: Digest,
    /// Where it came from.
    pub source: PinSource,
}

/// What was decided for one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which slot.
    pub slot: SlotKey,
    /// Position of the slot in its list.
    pub index: usize,
    /// What the author wrote there.
    pub reference: String,
    /// What is wrong, the strictest effect first.
    pub findings: Vec<Finding>,
    /// The pin to write, when a policy wants one and the digest is known.
    pub pinned: Option<Pinned>,
    /// Whether any policy matched the slot.
    pub matched: bool,
}
