//! One call for all who ask the same at the same time. The call is a task of its own: it goes on when whoever started
//! it has gone, and what it learns is there for the next. How many there may be is `permits`.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::Shared;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{Instrument, debug_span};

use crate::sharing::permits::Permits;

/// The calls that are under way, by what they ask.
pub(crate) struct Flights<K, V, const KINDS: usize = 1> {
    open: Arc<Mutex<Open<K, V>>>,
    permits: Permits<KINDS>,
}

type Open<K, V> = HashMap<K, Shared<oneshot::Receiver<V>>>;

/// Takes a key from the table, also when its call panics.
struct Landing<K: Eq + Hash, V> {
    open: Arc<Mutex<Open<K, V>>>,
    key: K,
}

impl<K, V, const KINDS: usize> Flights<K, V, KINDS>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// No calls, and at most so many at once.
    pub(crate) fn new(permits: Permits<KINDS>) -> Self {
        Self { open: Arc::default(), permits }
    }

    /// What the call under way says, or else what is known by now, or else what a call that starts now, under these
    /// names, says.
    /// `known` is asked while no call can end. Nothing comes back when the call panicked.
    pub(crate) async fn join<F>(
        &self,
        names: [&str; KINDS],
        key: K,
        known: impl Fn() -> Option<V>,
        start: impl FnOnce() -> F,
    ) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut permit = None;
        let landing = loop {
            {
                let mut open = self.open.lock();
                if let Some(landing) = open.get(&key) {
                    break landing.clone();
                }
                if let Some(value) = known() {
                    return Some(value);
                }
                if let Some(permit) = permit.or_else(|| self.permits.try_acquire(names)) {
                    let (send, receive) = oneshot::channel();
                    let receive = receive.shared();
                    open.insert(key.clone(), receive.clone());
                    let landing = Landing { open: Arc::clone(&self.open), key };
                    let call = start();
                    let task = async move {
                        let value = call.await;
                        drop((landing, permit));
                        // Nobody may be waiting any more.
                        let _ = send.send(value);
                    };
                    tokio::spawn(task.instrument(debug_span!("look-up", registry = names.last())));
                    break receive;
                }
            }
            permit = Some(self.permits.acquire(names).await);
        };
        landing.await.ok()
    }
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.open.lock().remove(&self.key);
    }
}
