//! The health of hosts: a host that fails is not asked for a while.
//!
//! A host rests at once if it cannot be connected to, and if it fails or is late for two repositories within a short
//! time. What is wrong with one image only does not count. The state is kept for each host as one endpoint reaches it,
//! so that a registry that redirects to another host, or names it as its token service, has no influence on what
//! other registries may ask there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use url::Url;

use crate::profile::proxy::ProxyWay;

/// Time for which a host rests after its first failure, give or take a tenth, so that replicas do not ask in step.
const SHORTEST_REST: Duration = Duration::from_secs(2);
/// Time for which a host rests after many failures, give or take a tenth.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// Maximum time between failures for two repositories that count together.
const TOGETHER: Duration = Duration::from_secs(10);
/// Time after the last failure when a host is forgotten.
const MEMORY: Duration = Duration::from_secs(60);
/// Maximum number of hosts that are remembered. Beyond it, failing hosts are asked again and again.
const HOSTS: usize = 4096;

/// The hosts that failed a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Health {
    hosts: Mutex<Hosts>,
}

#[derive(Debug, Default)]
struct Hosts {
    states: HashMap<Host, State>,
    /// The time when room was made last.
    cleared: Option<Instant>,
}

/// A host, as one endpoint reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    /// Scheme, name and port.
    origin: Box<str>,
    /// The origin of the endpoint that led there; empty if that is the host itself.
    led_by: Box<str>,
    /// The proxy that leads there.
    proxy: Option<Arc<ProxyWay>>,
}

#[derive(Debug)]
struct State {
    /// The label of the registry for which the host was asked last.
    label: Box<str>,
    /// The repository for which the host failed last.
    doubt: Option<(Box<str>, Instant)>,
    latest: Instant,
    /// Number of rests in a row.
    rests: u32,
    /// The time until which the host is not asked; none while it is only doubted.
    open: Option<Instant>,
    /// True while one request probes whether the host is back.
    probed: bool,
}

/// Permission to ask one host once.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    health: &'a Health,
    host: Host,
    probe: bool,
}

/// The conclusion from a request about its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// The host answers.
    Well,
    /// The host was late or failed, at least for this repository.
    Doubtful,
    /// The host cannot be connected to.
    Gone,
    /// The request says nothing about the host.
    Silent,
}

/// A host that is not asked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestingHost {
    /// The label of the registry for which the host was asked.
    pub registry: Box<str>,
    /// Scheme, name and port of the host.
    pub origin: Box<str>,
}

impl Host {
    /// Returns the host of the URL, as the endpoint with this root reaches it, through this proxy.
    pub(crate) fn new(url: &Url, root: &Url, proxy: Option<&Arc<ProxyWay>>) -> Self {
        let led_by = match url.origin() == root.origin() {
            true => String::new(),
            false => root.origin().ascii_serialization(),
        };
        Self {
            origin: url.origin().ascii_serialization().into(),
            led_by: led_by.into(),
            proxy: proxy.cloned(),
        }
    }
}

impl Health {
    /// Returns permission to ask the host, or the time for which it rests.
    pub(crate) fn enter(&self, host: Host, now: Instant) -> Result<Pass<'_>, Duration> {
        let mut hosts = self.hosts.lock();
        let probe = match hosts.states.get_mut(&host) {
            None => false,
            Some(state) if state.is_over(now) => {
                hosts.states.remove(&host);
                false
            }
            Some(State { open: None, .. }) => false,
            Some(State { open: Some(until), .. }) if *until > now => return Err(*until - now),
            Some(State { probed: true, .. }) => return Err(Duration::ZERO),
            Some(state) => {
                state.probed = true;
                true
            }
        };
        drop(hosts);
        Ok(Pass { health: self, host, probe })
    }

    /// Returns true if the host is not asked now. For callers that can do without an answer.
    pub(crate) fn rests(&self, host: &Host, now: Instant) -> bool {
        self.hosts.lock().states.get(host).is_some_and(|state| state.rests(now))
    }

    /// Returns the hosts that are not asked now.
    pub(crate) fn resting(&self, now: Instant) -> Vec<RestingHost> {
        let hosts = self.hosts.lock();
        let resting = hosts.states.iter().filter(|(_, state)| state.rests(now));
        resting
            .map(|(host, state)| RestingHost { registry: state.label.clone(), origin: host.origin.clone() })
            .collect()
    }
}

impl State {
    /// Returns true if the host is not asked now.
    fn rests(&self, now: Instant) -> bool {
        !self.is_over(now) && (self.probed || self.open.is_some_and(|until| until > now))
    }

    /// Returns true if the last failure is so long ago that it does not count any more.
    fn is_over(&self, now: Instant) -> bool {
        !self.probed && now.saturating_duration_since(self.latest) > MEMORY
    }

    /// Learns that the host failed for this repository. Returns true if it also failed for another one just now.
    fn doubts(&mut self, repository: &str, now: Instant) -> bool {
        let together = |at: Instant| now.saturating_duration_since(at) <= TOGETHER;
        let another = self.doubt.as_ref().is_some_and(|(known, at)| **known != *repository && together(*at));
        self.doubt = Some((repository.into(), now));
        another
    }
}

impl Pass<'_> {
    /// Returns true if this request probes whether the host is back.
    pub(crate) const fn is_probe(&self) -> bool {
        self.probe
    }

    /// Returns true if the host has begun to rest since the permission was given.
    pub(crate) fn is_overtaken(&self, now: Instant) -> bool {
        !self.probe && self.health.rests(&self.host, now)
    }

    /// Learns from a request for a repository of the registry with this label. Returns true if the host rests now
    /// because of it.
    pub(crate) fn learn(mut self, evidence: Evidence, label: &str, repository: &str, now: Instant) -> bool {
        let probe = std::mem::take(&mut self.probe);
        let mut hosts = self.health.hosts.lock();
        match evidence {
            Evidence::Well => {
                hosts.states.remove(&self.host);
                false
            }
            Evidence::Silent => {
                if let Some(state) = hosts.states.get_mut(&self.host).filter(|_| probe) {
                    state.probed = false;
                }
                false
            }
            Evidence::Doubtful | Evidence::Gone => {
                if !hosts.states.contains_key(&self.host) && !hosts.make_room(now) {
                    return false;
                }
                let new = || State {
                    label: label.into(),
                    doubt: None,
                    latest: now,
                    rests: 0,
                    open: None,
                    probed: false,
                };
                let state = hosts.states.entry(self.host.clone()).or_insert_with(new);
                let again = state.doubts(repository, now);
                state.latest = now;
                let fails = probe || again || evidence == Evidence::Gone;
                // Requests that were in flight when the rest began do not prolong it.
                let opens = fails && state.open.is_none_or(|until| probe && until <= now);
                if opens {
                    state.open = Some(now + rest(state.rests));
                    state.rests = state.rests.saturating_add(1);
                    state.label = label.into();
                }
                state.probed &= !probe;
                opens
            }
        }
    }
}

/// A probe that is dropped lets the next request probe.
impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe
            && let Some(state) = self.health.hosts.lock().states.get_mut(&self.host)
        {
            state.probed = false;
        }
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
                Some(_) => state.rests(now),
                None => now.saturating_duration_since(state.latest) <= TOGETHER,
            });
        }
        self.states.len() < HOSTS
    }
}

/// Returns the time of a rest after this number of rests in a row.
fn rest(earlier: u32) -> Duration {
    let doubled = SHORTEST_REST.saturating_mul(2_u32.saturating_pow(earlier));
    doubled.min(LONGEST_REST).mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests;
