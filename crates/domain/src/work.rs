//! Limits on the work for one object. Whoever may write a policy writes globs and exceptions, whoever may create a pod
//! writes names of images, and each is compared with each.

use std::cell::Cell;

use crate::policy::PolicyKind;

/// Maximum number of steps that the policies of one kind may take for one object. A step takes two to three nanoseconds.
pub const STEPS: u32 = 1_000_000;
/// Number of steps that a demand, an exception or a finding takes.
pub(crate) const PART: u32 = 16;

/// A number of steps that may still be taken.
#[derive(Debug, Clone)]
pub struct Work {
    left: Cell<u32>,
}

/// No steps are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no steps are left")]
pub struct Exhausted;

impl Default for Work {
    /// Returns the work that the policies of one kind may take for one object.
    fn default() -> Self {
        Self { left: Cell::new(STEPS) }
    }
}

impl Work {
    /// Takes this number of steps.
    ///
    /// # Errors
    /// Fails if fewer are left, and from then on.
    pub(crate) fn spend(&self, steps: u32) -> Result<(), Exhausted> {
        let left = self.left.get().checked_sub(steps);
        self.left.set(left.unwrap_or_default());
        left.map(drop).ok_or(Exhausted)
    }

    /// Returns the number of steps that are left.
    pub(crate) const fn left(&self) -> u32 {
        self.left.get()
    }
}

/// The work that all policies may take for one object. The policies of each kind have a half of their own, so that no
/// author of a namespace's policies takes anything from the cluster's.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    cluster: Work,
    namespaced: Work,
}

impl Budget {
    /// Returns a budget with this number of steps for the policies of the namespace, and [`STEPS`] at most.
    #[must_use]
    pub fn for_namespace(steps: u32) -> Self {
        Self { namespaced: Work { left: Cell::new(steps.min(STEPS)) }, ..Self::default() }
    }

    /// Returns the number of steps that are left for the policies of the namespace.
    #[must_use]
    pub const fn namespaced_steps(&self) -> u32 {
        self.namespaced.left()
    }

    /// Returns the half of the policies of this kind.
    #[must_use]
    pub(crate) const fn of(&self, kind: PolicyKind) -> &Work {
        match kind {
            PolicyKind::ClusterImagePolicy => &self.cluster,
            PolicyKind::ImagePolicy => &self.namespaced,
        }
    }
}

#[cfg(test)]
mod tests;
