//! How much may go on at once: so much for each name that a caller goes by (a host, and who asks it), so much in all. A
//! host that is slow uses up its own share only, and nobody uses up a whole host.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Names of one kind that are remembered before idle ones are forgotten.
const NAMES: usize = 1024;

/// Places, for each name of each kind and in all.
#[derive(Debug)]
pub(crate) struct Permits<const KINDS: usize = 1> {
    all: Arc<Semaphore>,
    each: [Named; KINDS],
}

/// The places of one kind of names.
#[derive(Debug)]
struct Named {
    limit: usize,
    places: Mutex<HashMap<Box<str>, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _of_names: Vec<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

impl<const KINDS: usize> Permits<KINDS> {
    /// So many places for one name of each kind, and so many in all.
    pub(crate) fn new(each: [usize; KINDS], all: usize) -> Self {
        let each = each.map(|limit| Named { limit, places: Mutex::default() });
        Self { all: Arc::new(Semaphore::new(all)), each }
    }

    /// A place, if one is free.
    pub(crate) fn try_acquire(&self, names: [&str; KINDS]) -> Option<Permit> {
        let mut of_names = Vec::with_capacity(KINDS);
        for (kind, name) in self.each.iter().zip(names) {
            of_names.push(kind.places_of(name).try_acquire_owned().ok()?);
        }
        let of_all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Permit { _of_names: of_names, _of_all: of_all })
    }

    /// A place, as soon as one is free. Whoever came first gets it first; who waits for one name takes no place of those
    /// behind it.
    pub(crate) async fn acquire(&self, names: [&str; KINDS]) -> Permit {
        let mut of_names = Vec::with_capacity(KINDS);
        for (kind, name) in self.each.iter().zip(names) {
            of_names.push(acquired(|| kind.places_of(name)).await);
        }
        Permit { _of_names: of_names, _of_all: acquired(|| Arc::clone(&self.all)).await }
    }
}

/// A permit; the semaphores are never closed, so that of the first round.
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
            // Whoever holds or awaits a place holds the semaphore too.
            all.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = Arc::new(Semaphore::new(self.limit));
        all.insert(name.into(), Arc::clone(&places));
        places
    }
}
