//! The places of connections. A connection is a stranger until a request on it shows a valid token. Strangers share a
//! few places, and take none from the others. Nothing is read or written here.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::metrics::{Closed, Connections, Who};

/// Maximum number of connections that have shown a token.
const KNOWN: usize = 1024;
/// Maximum number of connections that have not.
const STRANGERS: usize = 64;

/// All places. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    taken: Mutex<Taken>,
    metrics: Connections,
}

#[derive(Debug, Default)]
struct Taken {
    /// The strangers, in the order in which they came.
    strangers: VecDeque<Stranger>,
    known: usize,
    /// Number of the next connection.
    next: u64,
}

#[derive(Debug)]
struct Stranger {
    number: u64,
    address: IpAddr,
    evicted: CancellationToken,
}

/// The place of one connection, which is free again once this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    number: u64,
    since: Instant,
    known: AtomicBool,
    evicted: CancellationToken,
}

impl Places {
    pub(crate) fn new(metrics: Connections) -> Self {
        Self(Arc::new(Shared { taken: Mutex::default(), metrics }))
    }

    /// Gives a new connection the place of a stranger. If all are taken, the oldest connection of the address with
    /// the most strangers loses its own.
    pub(crate) fn enter(&self, caller: SocketAddr) -> Place {
        let evicted = CancellationToken::new();
        let mut taken = self.0.taken.lock();
        let number = taken.next;
        taken.next += 1;
        let address = caller.ip().to_canonical();
        taken.strangers.push_back(Stranger { number, address, evicted: evicted.clone() });
        self.0.metrics.entered(Who::Stranger);
        if taken.strangers.len() > STRANGERS
            && let Some(loser) = taken.evict()
        {
            loser.evicted.cancel();
            self.0.metrics.left(Who::Stranger);
            self.0.metrics.closed(Closed::Full);
        }
        drop(taken);
        Place { places: self.clone(), number, since: Instant::now(), known: AtomicBool::new(false), evicted }
    }
}

impl Taken {
    /// Removes the oldest stranger of the address that has the most.
    fn evict(&mut self) -> Option<Stranger> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for stranger in &self.strangers {
            *counts.entry(stranger.address).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        let loudest = |stranger: &Stranger| counts.get(&stranger.address) == Some(&most);
        let oldest = self.strangers.iter().position(loudest)?;
        self.strangers.remove(oldest)
    }

    /// Removes a stranger. Returns false if it has lost its place.
    fn remove(&mut self, number: u64) -> bool {
        let found = self.strangers.binary_search_by_key(&number, |stranger| stranger.number);
        found.is_ok_and(|index| self.strangers.remove(index).is_some())
    }
}

impl Place {
    /// Gives the connection a place among the known ones, because a request on it showed a valid token. Returns false
    /// if all of these are taken; the connection then stays a stranger.
    pub(crate) fn promote(&self) -> bool {
        if self.is_known() {
            return true;
        }
        let mut taken = self.places.0.taken.lock();
        if taken.known == KNOWN || !taken.remove(self.number) {
            return false;
        }
        taken.known += 1;
        self.known.store(true, Ordering::Relaxed);
        self.places.0.metrics.left(Who::Stranger);
        self.places.0.metrics.entered(Who::Known);
        true
    }

    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Waits until this connection has been a stranger for that long. It waits for ever if a token is shown before.
    pub(crate) async fn overstays(&self, stay: Duration) {
        sleep_until(self.since + stay).await;
        if self.is_known() {
            pending::<()>().await;
        }
    }

    /// Waits until the connection has lost its place.
    pub(crate) async fn is_evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// Counts the connection as closed because it showed no token in time.
    pub(crate) fn is_late(&self) {
        self.places.0.metrics.closed(Closed::Late);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.taken.lock();
        if self.is_known() {
            taken.known -= 1;
            self.places.0.metrics.left(Who::Known);
        } else if taken.remove(self.number) {
            self.places.0.metrics.left(Who::Stranger);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn from(host: u8) -> SocketAddr {
        ([10, 0, 0, host], 40000).into()
    }

    fn places() -> Places {
        Places::new(Connections::default())
    }

    /// Returns the number of places that known connections and strangers have.
    fn taken(places: &Places) -> (usize, usize) {
        let taken = places.0.taken.lock();
        (taken.known, taken.strangers.len())
    }

    #[test]
    fn strangers_share_their_places_and_the_oldest_of_the_loudest_goes() {
        let places = places();
        let quiet = places.enter(from(1));
        let loud: Vec<_> = (0..STRANGERS).map(|_| places.enter(from(2))).collect();
        let evicted = |place: &&Place| place.evicted.is_cancelled();
        assert!(!evicted(&&quiet));
        assert_eq!(loud.iter().filter(evicted).map(|place| place.number).collect::<Vec<_>>(), [1]);
        // An address counts as one in both of its forms.
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:40000".parse().unwrap();
        let other = places.enter(mapped);
        assert!(!evicted(&&quiet) && !evicted(&&other));
        assert_eq!(loud.iter().filter(evicted).count(), 2);
        assert_eq!(taken(&places), (0, STRANGERS));
        assert_eq!(places.0.metrics.counts(), (0, 64, 2, 0));
        drop(loud);
        assert_eq!(taken(&places), (0, 2));
    }

    #[test]
    fn of_addresses_that_are_equally_loud_the_oldest_connection_goes() {
        let places = places();
        let all: Vec<_> = (0..=64).map(|host| places.enter(from(host))).collect();
        let evicted = all.iter().filter(|place| place.evicted.is_cancelled());
        assert_eq!(evicted.map(|place| place.number).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn who_has_shown_a_token_keeps_its_place_whatever_strangers_do() {
        let places = places();
        let known: Vec<_> = (0..KNOWN)
            .map(|_| {
                let place = places.enter(from(1));
                assert!(place.promote() && place.promote());
                place
            })
            .collect();
        let beyond = places.enter(from(1));
        assert!(!beyond.promote() && !beyond.is_known(), "these have an end too");
        let crowd: Vec<_> = (0..STRANGERS * 3).map(|_| places.enter(from(1))).collect();
        assert!(known.iter().all(|place| !place.evicted.is_cancelled()) && beyond.evicted.is_cancelled());
        assert!(!beyond.promote(), "a place that was lost does not come back");
        assert_eq!(taken(&places), (KNOWN, STRANGERS));
        drop((known, crowd));
        assert_eq!(taken(&places), (0, 0));
        assert_eq!(places.0.metrics.counts(), (0, 0, 129, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_overstays_and_who_has_shown_a_token_never_does() {
        let places = places();
        let (stranger, known) = (places.enter(from(1)), places.enter(from(1)));
        assert!(known.promote());
        let stay = Duration::from_secs(5);
        let started = Instant::now();
        stranger.overstays(stay).await;
        assert_eq!(started.elapsed(), stay);
        assert!(timeout(stay * 9, known.overstays(stay)).await.is_err());
    }
}
