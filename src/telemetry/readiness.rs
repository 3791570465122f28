//! The readiness of this replica, and the gates that it waits for. It checks no condition itself: parts open their
//! gates.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tracing::{info, warn};

/// The readiness of the process. Once every gate has been open, only a drain or a gate that is shut again ends it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// The gates that are shut, in the order in which they were made or shut again.
    shut: Vec<&'static str>,
}

impl Default for State {
    fn default() -> Self {
        Self { phase: Phase::default(), since: Instant::now(), shut: Vec::new() }
    }
}

#[derive(Debug, Default, Clone, Copy)]
enum Phase {
    #[default]
    Starting,
    Ready,
    Draining,
}

/// One thing that the replica waits for before it is ready.
#[derive(Debug, Clone)]
#[must_use = "a gate that nobody opens keeps the replica unready"]
pub struct Gate {
    name: &'static str,
    readiness: Readiness,
}

/// The reason why the replica is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReady {
    /// These gates are shut.
    WaitingFor(Vec<&'static str>),
    /// The process is about to end.
    Draining,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitingFor(gates) => write!(f, "waiting for {}", gates.join(", ")),
            Self::Draining => f.write_str("draining"),
        }
    }
}

impl Readiness {
    /// Adds a gate to wait for. All gates are made before the first one can open.
    pub fn gate(&self, name: &'static str) -> Gate {
        self.with(|state| state.shut.push(name));
        Gate { name, readiness: self.clone() }
    }

    /// Checks that the replica can answer.
    ///
    /// # Errors
    /// Fails with the gates that are shut, or because the replica drains.
    pub fn check(&self) -> Result<(), NotReady> {
        self.with(|state| match state.phase {
            Phase::Ready if state.shut.is_empty() => Ok(()),
            Phase::Starting | Phase::Ready => Err(NotReady::WaitingFor(state.shut.clone())),
            Phase::Draining => Err(NotReady::Draining),
        })
    }

    /// Makes the replica unready for good.
    pub fn drain(&self) {
        self.with(|state| state.phase = Phase::Draining);
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        // The state is valid after every statement, so a panic elsewhere cannot spoil it.
        look(&mut self.0.lock())
    }
}

impl Gate {
    /// Opens the gate, because its condition holds. The last gate that opens makes the replica ready.
    pub fn open(&self) {
        self.readiness.with(|state| {
            let before = state.shut.len();
            state.shut.retain(|name| *name != self.name);
            match state.phase {
                Phase::Starting if state.shut.is_empty() => {
                    state.phase = Phase::Ready;
                    let milliseconds = u64::try_from(state.since.elapsed().as_millis()).unwrap_or(u64::MAX);
                    info!(milliseconds, "ready");
                }
                Phase::Ready if state.shut.len() < before => info!(gate = self.name, "ready again"),
                Phase::Starting | Phase::Ready | Phase::Draining => {}
            }
        });
    }

    /// Shuts the gate, because its condition no longer holds. The replica is unready until the gate is opened again.
    pub fn shut(&self) {
        self.readiness.with(|state| {
            if !state.shut.contains(&self.name) {
                state.shut.push(self.name);
                warn!(gate = self.name, "not ready any more");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shut_gates_are_named() {
        let readiness = Readiness::default();
        let stores = readiness.gate("stores");
        let _certificate = readiness.gate("certificate");
        stores.open();
        assert_eq!(readiness.check(), Err(NotReady::WaitingFor(vec!["certificate"])));
    }

    #[test]
    fn once_ready_only_a_drain_unsets_it() {
        let readiness = Readiness::default();
        let gate = readiness.gate("stores");
        gate.open();
        gate.open();
        assert_eq!(readiness.check(), Ok(()));
        readiness.drain();
        assert_eq!(readiness.check(), Err(NotReady::Draining));
        gate.open();
        assert_eq!(readiness.check(), Err(NotReady::Draining));
    }

    #[test]
    fn a_gate_that_is_shut_again_ends_readiness_until_it_is_opened() {
        let readiness = Readiness::default();
        let webhook = readiness.gate("webhook");
        webhook.open();
        webhook.shut();
        webhook.shut();
        assert_eq!(readiness.check(), Err(NotReady::WaitingFor(vec!["webhook"])));
        webhook.open();
        assert_eq!(readiness.check(), Ok(()));
        webhook.shut();
        readiness.drain();
        assert_eq!(readiness.check(), Err(NotReady::Draining));
    }

    #[test]
    fn nothing_is_ready_before_it_waited_for_something() {
        assert_eq!(Readiness::default().check(), Err(NotReady::WaitingFor(vec![])));
    }
}
