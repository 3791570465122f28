//! The budget of memory for stored objects. Anybody who may create objects in a namespace decides how large they are,
//! so what is kept of one object, of the objects of one namespace and of all objects is limited. An object without
//! room is unknown, as if no watch had reported it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Maximum number of bytes that are kept of one object.
pub(crate) const OBJECT: usize = 64 * 1024;
/// Number of bytes beyond which an object is large. A pod of three pinned containers takes 3.5 KiB, and one of thirty
/// takes 18 KiB.
const ORDINARY: usize = 16 * 1024;
/// Maximum number of bytes that the large objects of one namespace take.
const LARGE: usize = 4 * 1024 * 1024;
/// Maximum number of lists that are read at the same time.
const LISTS: u32 = 3;
/// Maximum time to wait for a turn: longer than all lists of a slow replica take, and short enough that lists which the
/// API server never ends keep no replica from getting ready.
const PATIENCE: Duration = Duration::from_secs(30);
/// Memory limit of a process whose limit nobody names, in bytes: that of the chart.
pub const DEFAULT_MEMORY: u64 = 256 * 1024 * 1024;

/// The budget of all stores. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Maximum number of bytes of all objects.
    total: usize,
    account: Mutex<Account>,
    /// The turns for lists.
    turns: Semaphore,
}

#[derive(Debug, Default)]
struct Account {
    held: usize,
    namespaces: HashMap<Arc<str>, Share>,
    /// Number of charges that became smaller or ended.
    returns: u64,
}

/// Numbers of bytes that the objects of one namespace take.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    held: usize,
    /// The part of the large objects.
    large: usize,
}

/// The room that one object takes. The last clone gives it back when it is dropped. Charges are equal, because they are
/// no part of what an object says.
#[derive(Clone, Default)]
pub(crate) struct Charge(Option<Arc<Paid>>);

struct Paid {
    budget: Budget,
    namespace: Arc<str>,
    bytes: AtomicUsize,
}

/// The reason why there is no room for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OverBudget {
    /// The object alone is too large.
    #[error("takes {} of memory, and tagpin keeps at most {} of one object", size(*.bytes), size(*.most))]
    Object {
        /// Number of bytes of the object.
        bytes: usize,
        /// Maximum number of bytes of an object of its kind.
        most: usize,
    },
    /// The namespace has too many large objects.
    #[error("takes {} of memory, and the large objects of its namespace take {} already", size(*.bytes), size(*.taken))]
    Large {
        /// Number of bytes of the object.
        bytes: usize,
        /// Number of bytes that the other large objects take.
        taken: usize,
    },
    /// The namespace has too many objects.
    #[error("the objects of its namespace take their whole share of tagpin's memory, which is {}", size(*.0))]
    Namespace(usize),
    /// The cluster has too many objects.
    #[error("the objects of the cluster take all of tagpin's memory for them, which is {}", size(*.0))]
    Total(usize),
}

impl OverBudget {
    /// Returns true if there can be room once others have given back theirs.
    pub(crate) const fn may_end(self) -> bool {
        !matches!(self, Self::Object { .. })
    }
}

/// Returns a number of bytes in words: `212 KiB`.
fn size(bytes: usize) -> String {
    const MIB: usize = 1024 * 1024;
    match bytes {
        0..MIB => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(MIB)),
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::of_memory(DEFAULT_MEMORY)
    }
}

impl Budget {
    /// Returns the budget of a process with this memory limit in bytes: three eighths of it. A new list of all objects
    /// can take the same again while the old one is still held, and the rest is for requests and caches.
    #[must_use]
    pub fn of_memory(limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self(Arc::new(Shared {
            total: limit / 8 * 3,
            account: Mutex::default(),
            turns: Semaphore::new(LISTS as usize),
        }))
    }

    /// Takes room for an object of a namespace. With the charge of the object's version before, only the difference
    /// counts, and both versions hold the same room from now on.
    ///
    /// # Errors
    /// Fails if there is no room. The charge before stays as it is.
    pub(crate) fn take(
        &self,
        namespace: &str,
        bytes: usize,
        before: Option<&Charge>,
    ) -> Result<Charge, OverBudget> {
        self.take_up_to(OBJECT, namespace, bytes, before)
    }

    /// Takes room for an object of a kind of which an object may take this many bytes at most, as
    /// [`Budget::take`] does.
    pub(crate) fn take_up_to(
        &self,
        most: usize,
        namespace: &str,
        bytes: usize,
        before: Option<&Charge>,
    ) -> Result<Charge, OverBudget> {
        if bytes > most {
            return Err(OverBudget::Object { bytes, most });
        }
        let before = before.and_then(|charge| charge.0.as_ref()).filter(|paid| *paid.namespace == *namespace);
        let mut account = self.0.account.lock();
        let paid = before.map_or(0, |paid| paid.bytes.load(Ordering::Relaxed));
        let share = account.share(namespace).without(paid);
        let held = account.held.saturating_sub(paid);
        self.admit(share, held, bytes)?;
        account.held = held + bytes;
        if bytes < paid {
            account.returns += 1;
        }
        let namespace = account.set(namespace, share.with(bytes));
        drop(account);
        if let Some(paid) = before {
            paid.bytes.store(bytes, Ordering::Relaxed);
            return Ok(Charge(Some(Arc::clone(paid))));
        }
        let bytes = AtomicUsize::new(bytes);
        Ok(Charge(Some(Arc::new(Paid { budget: self.clone(), namespace, bytes }))))
    }

    /// Returns an error if there is no room for so many bytes more.
    fn admit(&self, share: Share, held: usize, bytes: usize) -> Result<(), OverBudget> {
        let total = self.0.total;
        if bytes > ORDINARY && share.large + bytes > LARGE {
            return Err(OverBudget::Large { bytes, taken: share.large });
        }
        if share.held + bytes > total / 2 {
            return Err(OverBudget::Namespace(total / 2));
        }
        if held + bytes > total {
            return Err(OverBudget::Total(total));
        }
        Ok(())
    }

    /// Waits for a turn to list objects as a stream, for [`PATIENCE`] at most: an API server that does not answer one
    /// list must not hold up all others.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        timeout(PATIENCE, self.0.turns.acquire()).await.ok()?.ok()
    }

    /// Waits for the turn to read a page while no other list is read, as [`Budget::turn`] does: a page is held as a
    /// whole.
    pub(crate) async fn turn_alone(&self) -> Option<SemaphorePermit<'_>> {
        timeout(PATIENCE, self.0.turns.acquire_many(LISTS)).await.ok()?.ok()
    }

    /// Returns a number that grows whenever an object gives back room.
    pub(crate) fn returns(&self) -> u64 {
        self.0.account.lock().returns
    }

    /// Returns the number of bytes that all objects take.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.account.lock().held
    }

    /// Returns the maximum number of bytes that all objects may take.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.total
    }
}

impl Account {
    fn share(&self, namespace: &str) -> Share {
        self.namespaces.get(namespace).copied().unwrap_or_default()
    }

    /// Replaces the share of a namespace and returns the shared name.
    fn set(&mut self, namespace: &str, share: Share) -> Arc<str> {
        let name = self.namespaces.get_key_value(namespace).map(|(name, _)| Arc::clone(name));
        let name = name.unwrap_or_else(|| namespace.into());
        if share.held == 0 {
            self.namespaces.remove(namespace);
        } else {
            self.namespaces.insert(Arc::clone(&name), share);
        }
        name
    }
}

impl Share {
    const fn with(self, bytes: usize) -> Self {
        let large = if bytes > ORDINARY { bytes } else { 0 };
        Self { held: self.held + bytes, large: self.large + large }
    }

    const fn without(self, bytes: usize) -> Self {
        let large = if bytes > ORDINARY { bytes } else { 0 };
        Self { held: self.held.saturating_sub(bytes), large: self.large.saturating_sub(large) }
    }
}

impl Drop for Paid {
    fn drop(&mut self) {
        let mut account = self.budget.0.account.lock();
        let bytes = self.bytes.load(Ordering::Relaxed);
        account.held = account.held.saturating_sub(bytes);
        account.returns += 1;
        let share = account.share(&self.namespace).without(bytes);
        account.set(&self.namespace, share);
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.as_ref().map_or(0, |paid| paid.bytes.load(Ordering::Relaxed));
        write!(f, "Charge({bytes})")
    }
}

impl PartialEq for Charge {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Charge {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a budget of this many bytes in all.
    fn budget(total: usize) -> Budget {
        Budget::of_memory(total as u64 / 3 * 8)
    }

    #[test]
    fn one_object_has_a_limit() {
        let budget = budget(96 * 1024 * 1024);
        assert!(budget.take("shop", OBJECT, None).is_ok());
        let refused = budget.take("shop", OBJECT + 1, None).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "takes 65 KiB of memory, and tagpin keeps at most 64 KiB of one object"
        );
        assert!(!refused.may_end());
        assert_eq!(budget.held(), 0, "what was dropped is given back");
    }

    #[test]
    fn a_namespace_has_its_share_and_leaves_the_rest_to_others() {
        let budget = budget(96 * 1024);
        let mut held = Vec::new();
        let refused = loop {
            match budget.take("loud", 1024, None) {
                Ok(charge) => held.push(charge),
                Err(refused) => break refused,
            }
        };
        assert_eq!((held.len(), refused), (48, OverBudget::Namespace(48 * 1024)));
        held.extend((0..48).map(|_| budget.take("shop", 1024, None).unwrap()));
        assert_eq!(budget.take("third", 1024, None).unwrap_err(), OverBudget::Total(96 * 1024));
        drop(held);
        assert_eq!(budget.held(), 0);
        assert!(budget.0.account.lock().namespaces.is_empty(), "nothing is kept of a namespace that is gone");
    }

    #[test]
    fn large_objects_of_a_namespace_take_a_part_of_its_share() {
        let budget = budget(96 * 1024 * 1024);
        let mut held: Vec<_> = (0..64).map(|_| budget.take("loud", OBJECT, None).unwrap()).collect();
        let refused = budget.take("loud", ORDINARY + 1, None).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "takes 17 KiB of memory, and the large objects of its namespace take 4 MiB already"
        );
        held.push(budget.take("loud", ORDINARY, None).unwrap());
        held.push(budget.take("shop", OBJECT, None).unwrap());
        // A large object that becomes an ordinary one leaves its place to others.
        let first = held.first().unwrap().clone();
        drop(budget.take("loud", 10, Some(&first)).unwrap());
        assert!(budget.take("loud", OBJECT, None).is_ok());
    }

    #[test]
    fn a_new_version_takes_the_room_of_the_one_before() {
        let budget = budget(6144);
        let first = budget.take("shop", 3000, None).unwrap();
        let returns = budget.returns();
        assert!(budget.take("shop", 3000, None).is_err(), "it is another object");
        let second = budget.take("shop", 3040, Some(&first)).unwrap();
        assert_eq!((budget.held(), budget.returns()), (3040, returns));
        assert_eq!(budget.take("shop", 4000, Some(&second)).unwrap_err(), OverBudget::Namespace(3072));
        assert_eq!(budget.held(), 3040, "a refused version changes nothing");
        drop(first);
        assert_eq!(budget.held(), 3040, "its successor holds the room");
        let third = budget.take("shop", 100, Some(&second)).unwrap();
        assert_eq!((budget.held(), budget.returns()), (100, returns + 1));
        drop((second, third));
        assert_eq!((budget.held(), budget.returns()), (0, returns + 2));
    }
}
