//! Which registries are not asked for a while: those that failed a moment ago, and those that said "too many requests".
//!
//! Names are those of references, so a registry and its mirrors are one. What is said of one image (an answer that
//! nobody can read) says nothing of its registry.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use tagpin_domain::fact::{Fact, Unavailable};

/// How long a registry that failed is left alone, give or take a tenth, so that replicas do not ask in step.
const REST: Duration = Duration::from_secs(30);
/// Slow or failing answers in a row that make a registry a failing one. One alone may be the image's fault.
const DOUBTS: u32 = 3;
/// Doubts that are further apart than this do not add up.
const MEMORY: Duration = Duration::from_secs(60);
/// Hosts that are remembered; beyond, failing ones are asked again and again.
const HOSTS: usize = 4096;

/// The registries that failed.
#[derive(Debug, Default)]
pub(crate) struct Breakers {
    hosts: Mutex<Hosts>,
}

#[derive(Debug, Default)]
struct Hosts {
    states: HashMap<Box<str>, State>,
    /// When room was made last.
    cleared: Option<Instant>,
}

#[derive(Debug)]
struct State {
    doubts: u32,
    latest: Instant,
    /// Not asked until then; none while it is only doubted.
    open: Option<Instant>,
    /// One look-up is trying whether it is back.
    probed: bool,
}

/// The right to ask one registry once.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    breakers: &'a Breakers,
    host: &'a str,
    probe: bool,
}

/// What an answer says of its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// It answers.
    Well,
    /// It was slow or failed, for this image at least.
    Doubtful,
    /// It is not there.
    Gone,
    /// Nothing is known.
    Silent,
}

impl Breakers {
    /// Lets a look-up pass, or says for how long the registry rests.
    pub(crate) fn enter<'a>(&'a self, host: &'a str, now: Instant) -> Result<Pass<'a>, Duration> {
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

    /// Whether the registry is left alone, for those who can do without it.
    pub(crate) fn rests(&self, host: &str, now: Instant) -> bool {
        self.lock()
            .states
            .get(host)
            .is_some_and(|state| state.probed || state.open.is_some_and(|until| until > now))
    }

    /// The hosts that are left alone now.
    pub(crate) fn resting(&self, now: Instant) -> Vec<Box<str>> {
        let hosts = self.lock();
        let rest = |state: &State| state.probed || state.open.is_some_and(|until| until > now);
        hosts.states.iter().filter(|(_, state)| rest(state)).map(|(host, _)| host.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock()
    }
}

impl Pass<'_> {
    /// Learns from the answer. `whole` says that the registry had all the time that it may take, so that
    /// lateness is its own. True when the registry is left alone from now on.
    pub(crate) fn learn(mut self, fact: &Fact, whole: bool, now: Instant) -> bool {
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
                // Look-ups that were under way when it opened do not prolong it.
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

/// A probe that was given up leaves the door to the next.
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
            Unavailable::Timeout | Unavailable::BreakerOpen => Health::Silent,
            Unavailable::Unreadable | Unavailable::NotByDigest | Unavailable::NoCredential => Health::Well,
        },
        Fact::AddressForbidden { .. } | Fact::Offline => Health::Silent,
        _ => Health::Well,
    }
}

impl Hosts {
    /// Whether one more can be remembered. Doubts that no longer add up and rests that are over are forgotten for
    /// it, once a second at most: a flood of hosts must not cost a walk each.
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
