//! Coalesces equal calls: all callers that ask for the same key at the same time share one call.
//!
//! A call runs as a task of its own. It goes on when its first caller is gone, so that the next caller finds its
//! result.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::Shared;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, debug_span};

use crate::sharing::permits::Permits;

/// The calls in flight, by key.
pub(crate) struct Flights<K, V, const KINDS: usize = 1> {
    open: Arc<Mutex<Open<K, V>>>,
    permits: Permits<KINDS>,
}

/// The newest call for each key.
struct Open<K, V> {
    calls: HashMap<K, Call<V>>,
    /// The number of calls so far.
    count: u64,
}

/// A call in flight.
struct Call<V> {
    number: u64,
    started: Instant,
    result: Shared<oneshot::Receiver<V>>,
}

/// The error of a caller that got no permit in time, so that no call was made for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoPermit;

/// Removes a call from the table when it ends, even by a panic, unless a newer call has replaced it.
struct Landing<K: Eq + Hash, V> {
    open: Arc<Mutex<Open<K, V>>>,
    key: K,
    number: u64,
}

impl<K, V, const KINDS: usize> Flights<K, V, KINDS>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Creates an empty table whose calls need a permit.
    pub(crate) fn new(permits: Permits<KINDS>) -> Self {
        Self { open: Arc::new(Mutex::new(Open { calls: HashMap::new(), count: 0 })), permits }
    }

    /// Returns the result of the call in flight for this key, a value that is already known, or the result of a new
    /// call that runs under a permit for these names.
    ///
    /// A call that started before `since` is not joined: it goes on, and a new call takes its place for callers to come.
    /// `known` is called while no call can end, so that no result is missed. Returns none if the call panicked.
    pub(crate) async fn join<F>(
        &self,
        names: [&str; KINDS],
        key: K,
        since: Option<Instant>,
        known: impl Fn() -> Option<V>,
        start: impl FnOnce() -> F,
    ) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        self.join_before(None, names, key, since, known, start).await.unwrap_or_default()
    }

    /// Joins a call as [`Flights::join`] does, but waits for a permit only until the deadline.
    pub(crate) async fn join_before<F>(
        &self,
        deadline: Option<Instant>,
        names: [&str; KINDS],
        key: K,
        since: Option<Instant>,
        known: impl Fn() -> Option<V>,
        start: impl FnOnce() -> F,
    ) -> Result<Option<V>, NoPermit>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut permit = None;
        let landing = loop {
            {
                let mut open = self.open.lock();
                let joined =
                    open.calls.get(&key).filter(|call| since.is_none_or(|since| call.started >= since));
                if let Some(call) = joined {
                    break call.result.clone();
                }
                if let Some(value) = known() {
                    return Ok(Some(value));
                }
                if let Some(permit) = permit.or_else(|| self.permits.try_acquire(names)) {
                    let (send, receive) = oneshot::channel();
                    let receive = receive.shared();
                    let number = open.count;
                    open.count += 1;
                    let call = Call { number, started: Instant::now(), result: receive.clone() };
                    open.calls.insert(key.clone(), call);
                    let landing = Landing { open: Arc::clone(&self.open), key, number };
                    let call = start();
                    // Look-ups at several hosts may share a last name that is empty.
                    let registry = names.iter().rfind(|name| !name.is_empty());
                    let task = async move {
                        let value = call.await;
                        drop((landing, permit));
                        // All callers may be gone.
                        let _ = send.send(value);
                    };
                    tokio::spawn(task.instrument(debug_span!("look-up", registry)));
                    break receive;
                }
            }
            let acquired = self.permits.acquire(names);
            permit = Some(match deadline {
                Some(deadline) => timeout_at(deadline, acquired).await.map_err(|_| NoPermit)?,
                None => acquired.await,
            });
        };
        Ok(landing.await.ok())
    }
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if open.calls.get(&self.key).is_some_and(|call| call.number == self.number) {
            open.calls.remove(&self.key);
        }
    }
}
