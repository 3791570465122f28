//! How much may go on at once: so much for one host, so much in all. A host that is slow uses up its own share only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hosts that are remembered before idle ones are forgotten.
const HOSTS: usize = 1024;

/// Places, for each host and in all.
#[derive(Debug)]
pub(super) struct Slots {
    all: Arc<Semaphore>,
    per_host: usize,
    hosts: Mutex<HashMap<Box<str>, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _host: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Slots {
    /// So many places for one host, and so many in all.
    pub(super) fn new(per_host: usize, all: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), per_host, hosts: Mutex::default() }
    }

    /// A place, if one is free.
    pub(super) fn try_acquire(&self, host: &str) -> Option<Slot> {
        let host = self.host(host).try_acquire_owned().ok()?;
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Slot { _host: host, _all: all })
    }

    /// A place, as soon as one is free. Whoever came first gets it first.
    pub(super) async fn acquire(&self, host: &str) -> Slot {
        loop {
            let places = (self.host(host).acquire_owned().await, Arc::clone(&self.all).acquire_owned().await);
            // The semaphores are never closed, so this is the first round.
            if let (Ok(host), Ok(all)) = places {
                return Slot { _host: host, _all: all };
            }
        }
    }

    fn host(&self, host: &str) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hosts.get(host) {
            return Arc::clone(known);
        }
        if hosts.len() >= HOSTS {
            // Whoever holds or awaits a place holds the semaphore too.
            hosts.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = Arc::new(Semaphore::new(self.per_host));
        hosts.insert(host.into(), Arc::clone(&places));
        places
    }
}
