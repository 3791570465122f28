//! Circuit breakers: a registry that failed is not asked for a while.
//!
//! Hosts are those of image references, so a registry and its mirrors share one breaker. An answer that is wrong for
//! one image only does not count.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use tagpin_domain::fact::{Class, Fact, Unavailable};

/// Time for which a failed registry is not asked, give or take a tenth, so that replicas do not ask in step.
const REST: Duration = Duration::from_secs(30);
/// Number of slow or failing answers in a row that open the breaker. A single one may be the fault of the image.
const DOUBTS: u32 = 3;
/// Maximum time between two failing answers that count as in a row.
const MEMORY: Duration = Duration::from_secs(60);
/// Maximum number of hosts that are remembered. Beyond it, failing hosts are asked again and again.
const HOSTS: usize = 4096;

/// The breakers of all hosts that failed.
#[derive(Debug, Default)]
pub(super) struct Breakers {
    hosts: Mutex<Hosts>,
}

#[derive(Debug, Default)]
struct Hosts {
    states: HashMap<Box<str>, State>,
    /// The time when room was made last.
    cleared: Option<Instant>,
}

#[derive(Debug)]
struct State {
    doubts: u32,
    latest: Instant,
    /// The time until which the host is not asked; none while it is only doubted.
    open: Option<Instant>,
    /// True while one look-up probes whether the host is back.
    probed: bool,
}

/// Permission to ask one host once.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    breakers: &'a Breakers,
    host: &'a str,
    probe: bool,
}

/// The health of a registry, as an answer shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// The registry answers.
    Well,
    /// The registry was slow or failed, at least for this image.
    Doubtful,
    /// The registry cannot be reached.
    Gone,
    /// The answer says nothing about the registry.
    Silent,
}

impl Breakers {
    /// Returns permission to ask the host, or the time for which it rests.
    pub(super) fn enter<'a>(&'a self, host: &'a str, now: Instant) -> Result<Pass<'a>, Duration> {
        let mut hosts = self.lock();
        let Some(state) = hosts.states.get_mut(host) else {
            return Ok(Pass { breakers: self, host, probe: false });
        };
        match state.open {
            None => Ok(Pass { breakers: self, host, probe: false }),
            Some(until) if until > now => Err(until - now),
            Some(_) if state.probed => Err(Duration::ZERO),
            Some(_) => {
                state.probed = true;
                Ok(Pass { breakers: self, host, probe: true })
            }
        }
    }

    /// Returns true if the host is not asked now. For callers that can do without an answer.
    pub(super) fn rests(&self, host: &str, now: Instant) -> bool {
        self.lock()
            .states
            .get(host)
            .is_some_and(|state| state.probed || state.open.is_some_and(|until| until > now))
    }

    /// Returns the hosts that are not asked now.
    pub(super) fn resting(&self, now: Instant) -> Vec<Box<str>> {
        let hosts = self.lock();
        let rest = |state: &State| state.probed || state.open.is_some_and(|until| until > now);
        hosts.states.iter().filter(|(_, state)| rest(state)).map(|(host, _)| host.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock()
    }
}

impl Pass<'_> {
    /// Learns from the answer. `whole` is true if the registry had all the time that it may take, so that a timeout
    /// counts against it. Returns true if this opens the breaker.
    pub(super) fn learn(mut self, fact: &Fact, whole: bool, now: Instant) -> bool {
        let health = health(fact, whole);
        let probe = std::mem::take(&mut self.probe);
        let mut hosts = self.breakers.lock();
        match health {
            Health::Well => {
                hosts.states.remove(self.host);
                false
            }
            Health::Silent => {
                if let Some(state) = hosts.states.get_mut(self.host).filter(|_| probe) {
                    state.probed = false;
                }
                false
            }
            Health::Doubtful | Health::Gone => {
                if !hosts.states.contains_key(self.host) && !hosts.make_room(now) {
                    return false;
                }
                let new = || State { doubts: 0, latest: now, open: None, probed: false };
                let state = hosts.states.entry(self.host.into()).or_insert_with(new);
                let recent = now.saturating_duration_since(state.latest) <= MEMORY;
                state.doubts = if recent { state.doubts + 1 } else { 1 };
                state.latest = now;
                let fails = probe || health == Health::Gone || state.doubts >= DOUBTS;
                // Look-ups that were in flight when the breaker opened do not prolong it.
                let opens = fails && state.open.is_none_or(|until| probe && until <= now);
                if opens {
                    state.open = Some(now + rest());
                }
                state.probed &= !probe;
                opens
            }
        }
    }
}

/// A probe that is dropped lets the next look-up probe.
impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe
            && let Some(state) = self.breakers.lock().states.get_mut(self.host)
        {
            state.probed = false;
        }
    }
}

fn health(fact: &Fact, whole: bool) -> Health {
    match fact {
        Fact::Unavailable { cause, .. } => match cause {
            Unavailable::Dns | Unavailable::Connect | Unavailable::Tls => Health::Gone,
            Unavailable::Status(_) => Health::Doubtful,
            Unavailable::Timeout if whole => Health::Doubtful,
            Unavailable::Timeout | Unavailable::BreakerOpen | Unavailable::Busy | Unavailable::Proxy => {
                Health::Silent
            }
            Unavailable::Unreadable
            | Unavailable::NotByDigest
            | Unavailable::NoCredential
            | Unavailable::PullSecret
            | Unavailable::NotInCache
            | Unavailable::NoTagList => Health::Well,
        },
        other => match other.class() {
            Class::Forbidden | Class::Offline => Health::Silent,
            Class::Present | Class::Definite | Class::Unauthorized | Class::Unavailable => Health::Well,
        },
    }
}

impl Hosts {
    /// Returns true if one more host can be remembered. Hosts whose doubts or rests are over are forgotten to make
    /// room, once a second at most, because a flood of hosts must not cost a walk each.
    fn make_room(&mut self, now: Instant) -> bool {
        let due =
            self.cleared.is_none_or(|last| now.saturating_duration_since(last) >= Duration::from_secs(1));
        if self.states.len() >= HOSTS && due {
            self.cleared = Some(now);
            self.states.retain(|_, state| match state.open {
                Some(until) => state.probed || until > now,
                None => now.saturating_duration_since(state.latest) <= MEMORY,
            });
        }
        self.states.len() < HOSTS
    }
}

fn rest() -> Duration {
    REST.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests;
