//! The kinds of custom resources that the API server serves, read when a review first needs to know one. An owner
//! reference may name any kind, also one that does not exist.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync;
use tokio::time::{Instant, timeout_at};

use crate::reader::Reader;
use tagpin_domain::workload::{ForeignKind, Served};

/// Time for which the kinds of one reading count.
const KEPT: Duration = Duration::from_secs(600);
/// Minimum time between two readings, whatever kinds owner references name.
const PAUSE: Duration = Duration::from_secs(30);

/// The kinds of custom resources that the API server serves.
#[derive(Debug, Default)]
pub struct ServedKinds {
    /// The kinds.
    pub kinds: Vec<ForeignKind>,
    /// The groups of which the API server does not know all kinds, because another server has them.
    pub unknown_groups: Vec<Box<str>>,
}

/// The kinds that were last read. A kind is kept as a keyed hash.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    hasher: RandomState,
    last: Mutex<Last>,
    /// Held by the review that reads.
    turn: sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Last {
    kinds: HashSet<u64>,
    unknown_groups: HashSet<u64>,
    /// Time of the last reading that succeeded.
    read: Option<Instant>,
    /// Time of the last reading.
    tried: Option<Instant>,
}

impl Discovery {
    /// Says if the API server serves this kind. Kinds are read at most once in [`PAUSE`].
    pub(crate) async fn serves(&self, kind: &ForeignKind, reader: &dyn Reader, deadline: Instant) -> Served {
        if let Some(served) = self.answer(kind, Instant::now()) {
            return served;
        }
        if Instant::now() >= deadline {
            return self.known(kind, Instant::now());
        }
        let Ok(_turn) = timeout_at(deadline, self.turn.lock()).await else { return Served::Unknown };
        if let Some(served) = self.answer(kind, Instant::now()) {
            return served;
        }
        let found = reader.served_kinds(deadline).await;
        self.keep(found, Instant::now());
        self.known(kind, Instant::now())
    }

    /// Returns the answer, unless the kinds have to be read for it.
    fn answer(&self, kind: &ForeignKind, now: Instant) -> Option<Served> {
        let known = self.known(kind, now);
        let tried = self.last.lock().tried;
        let just_tried = tried.is_some_and(|tried| now.duration_since(tried) < PAUSE);
        (known == Served::Yes || just_tried).then_some(known)
    }

    /// Says if the API server serves this kind, as far as that was read.
    pub(crate) fn known(&self, kind: &ForeignKind, now: Instant) -> Served {
        let (this, group) = (self.hasher.hash_one(kind), self.hasher.hash_one(&kind.group));
        let last = self.last.lock();
        let is_kept = last.read.is_some_and(|read| now.duration_since(read) < KEPT);
        match is_kept {
            true if last.kinds.contains(&this) => Served::Yes,
            true if !last.unknown_groups.contains(&group) => Served::No,
            _ => Served::Unknown,
        }
    }

    fn keep(&self, found: Option<ServedKinds>, now: Instant) {
        let mut last = self.last.lock();
        last.tried = Some(now);
        if let Some(ServedKinds { kinds, unknown_groups }) = found {
            last.read = Some(now);
            last.kinds = kinds.iter().map(|kind| self.hasher.hash_one(kind)).collect();
            last.unknown_groups = unknown_groups.iter().map(|group| self.hasher.hash_one(group)).collect();
        }
    }
}
