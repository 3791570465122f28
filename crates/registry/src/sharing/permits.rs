//! Permits that bound how much runs at once, per name (a host, or an asker at a host) and in all. A slow host uses up
//! its own permits only, and no asker uses up those of a host.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Maximum number of names of one kind before the idle ones are forgotten.
const NAMES: usize = 1024;

/// Permits for each name of each kind, and in all.
#[derive(Debug)]
pub(crate) struct Permits<const KINDS: usize = 1> {
    all: Arc<Semaphore>,
    each: [Named; KINDS],
}

/// The permits of one kind of names.
#[derive(Debug)]
struct Named {
    limit: usize,
    places: Mutex<HashMap<Box<str>, Arc<Semaphore>>>,
}

/// A permit; it is returned when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _of_names: Vec<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

impl<const KINDS: usize> Permits<KINDS> {
    /// Creates this many permits for one name of each kind, and this many in all.
    pub(crate) fn new(each: [usize; KINDS], all: usize) -> Self {
        let each = each.map(|limit| Named { limit, places: Mutex::default() });
        Self { all: Arc::new(Semaphore::new(all)), each }
    }

    /// Returns a permit if one is free.
    pub(super) fn try_acquire(&self, names: [&str; KINDS]) -> Option<Permit> {
        let mut of_names = Vec::with_capacity(KINDS);
        for (kind, name) in self.each.iter().zip(names) {
            of_names.push(kind.places_of(name).try_acquire_owned().ok()?);
        }
        let of_all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Permit { _of_names: of_names, _of_all: of_all })
    }

    /// Waits for a permit, in the order of arrival. A caller that waits for one name holds no permit of the names
    /// behind it.
    pub(crate) async fn acquire(&self, names: [&str; KINDS]) -> Permit {
        let mut of_names = Vec::with_capacity(KINDS);
        for (kind, name) in self.each.iter().zip(names) {
            of_names.push(acquired(|| kind.places_of(name)).await);
        }
        Permit { _of_names: of_names, _of_all: acquired(|| Arc::clone(&self.all)).await }
    }
}

/// Waits for a permit of a semaphore. The semaphores are never closed, so the first attempt succeeds.
async fn acquired(places: impl Fn() -> Arc<Semaphore>) -> OwnedSemaphorePermit {
    loop {
        if let Ok(permit) = places().acquire_owned().await {
            return permit;
        }
    }
}

impl Named {
    fn places_of(&self, name: &str) -> Arc<Semaphore> {
        let mut all = self.places.lock();
        if let Some(known) = all.get(name) {
            return Arc::clone(known);
        }
        if all.len() >= NAMES {
            // A caller that holds or awaits a permit holds the semaphore too.
            all.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = Arc::new(Semaphore::new(self.limit));
        all.insert(name.into(), Arc::clone(&places));
        places
    }
}
