//! The climb from an object to the topmost validated object that controls it, which `match.kinds` refers to.

use crate::kind::Kind;
use crate::subject::TopOwner;
use crate::workload::{ControllerRef, Workload};

/// Maximum number of controllers that are followed. Built-in kinds give two (the Job and the CronJob of a
/// pod); a longer chain is a trap.
const DEPTH: usize = 8;

/// A climb along controller references. The caller looks each controller up and reports the result.
#[derive(Debug)]
pub struct Ascent {
    top: Kind,
    controller: Option<ControllerRef>,
    climbed: usize,
    lost: bool,
}

impl Ascent {
    /// Starts the climb at a workload.
    #[must_use]
    pub fn new(workload: &Workload) -> Self {
        Self { top: workload.kind, controller: workload.controller.clone(), climbed: 0, lost: false }
    }

    /// Returns the controller to look up next, with its kind; none at the top.
    #[must_use]
    pub fn next(&self) -> Option<(Kind, &ControllerRef)> {
        let controller = self.controller.as_ref().filter(|_| !self.lost && self.climbed < DEPTH)?;
        Some((controller.kind?, controller))
    }

    /// Climbs to the controller that [`Ascent::next`] named, which has this controller itself.
    pub fn found(&mut self, controller: Option<ControllerRef>) {
        if let Some(kind) = self.controller.as_ref().and_then(|controller| controller.kind) {
            self.top = kind;
        }
        self.controller = controller;
        self.climbed += 1;
    }

    /// Stops the climb, because the controller cannot be found.
    pub const fn lost(&mut self) {
        self.lost = true;
    }

    /// Returns the owner at which the climb ended.
    #[must_use]
    pub fn top(&self) -> TopOwner {
        let has_more = self.controller.as_ref().is_some_and(|controller| controller.kind.is_some());
        if self.lost || has_more { TopOwner::Unknown } else { TopOwner::Known(self.top) }
    }
}
