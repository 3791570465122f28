//! Notices that somebody undoes the writes of one webhook configuration again and again, and makes the pauses between
//! repairs grow. It makes no calls.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::webhook_config::Installed;
use crate::webhook_config::documents::{Configuration, Wanted};
use tagpin_objects::release;

/// Time after a write in which a change of the same fields undoes it.
const UNDONE_WITHIN: Duration = Duration::from_secs(60);
/// Number of undone writes from which on it is a fight. The first ones are repaired at once.
const FIGHT: u32 = 3;
/// Pause before the first repair in a fight, which doubles with each undone write.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Upper bound of that pause.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Time without an undone write after which a fight is over.
const PEACE: Duration = Duration::from_mins(10);

/// The fights over both configurations.
#[derive(Debug, Default)]
pub(crate) struct Fights {
    pub(crate) mutating: Fight,
    pub(crate) validating: Fight,
}

/// The writes of one configuration, and those that somebody undid.
#[derive(Debug, Default)]
pub(crate) struct Fight {
    written: Option<Written>,
    undone: u32,
    last: Option<Instant>,
    /// The names of those who undo the writes.
    pub(crate) by: Arc<str>,
}

/// The last write.
#[derive(Debug)]
struct Written {
    wanted: Wanted,
    uid: Option<String>,
    /// The version before the write, and the versions that the write made.
    versions: Vec<String>,
    at: Instant,
    /// True once somebody has undone this write.
    undone: bool,
}

impl Fights {
    /// Returns the state of a configuration whose writes somebody undoes.
    pub(crate) fn contested(&self) -> Option<Installed> {
        let of = |fight: &Fight, configuration| {
            fight.is_on().then(|| Installed::Contested { configuration, by: Arc::clone(&fight.by) })
        };
        of(&self.validating, release::NAME).or_else(|| of(&self.mutating, release::MUTATING))
    }

    /// Returns the next time at which a fight changes by itself.
    pub(crate) fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        self.mutating.due(now).into_iter().chain(self.validating.due(now)).min()
    }
}

impl Fight {
    /// Looks at the configuration as it was last reported. Returns true if somebody has undone the last write and it is
    /// a fight.
    pub(crate) fn look<K: Configuration>(&mut self, live: &K, now: Instant) -> bool {
        if self.last.is_some_and(|last| now >= last + PEACE) {
            (self.undone, self.last) = (0, None);
        }
        let version = live.meta().resource_version.as_ref();
        let undone = self.written.as_ref().is_some_and(|written| {
            !written.undone
                && live.meta().uid == written.uid
                && now <= written.at + UNDONE_WITHIN
                && version.is_some_and(|version| !written.versions.contains(version))
                && !live.matches(&written.wanted)
        });
        if undone {
            // Each write is undone once, however often the configuration changes until the next one.
            if let Some(written) = &mut self.written {
                written.undone = true;
            }
            self.undone = self.undone.saturating_add(1);
            self.last = Some(now);
        }
        undone && self.is_on()
    }

    /// Records a write of the configuration that was live before.
    pub(crate) fn wrote<K: Configuration>(
        &mut self,
        live: &K,
        wanted: &Wanted,
        mut versions: Vec<String>,
        now: Instant,
    ) {
        versions.extend(live.meta().resource_version.clone());
        let uid = live.meta().uid.clone();
        self.written = Some(Written { wanted: wanted.clone(), uid, versions, at: now, undone: false });
    }

    /// Returns true while somebody undoes the writes.
    const fn is_on(&self) -> bool {
        self.undone >= FIGHT
    }

    /// Returns the time before which the next repair has to wait.
    pub(crate) fn waits(&self) -> Option<Instant> {
        let doublings = self.undone.checked_sub(FIGHT)?.min(16);
        let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(MAX_PAUSE);
        self.written.as_ref().map(|written| written.at + pause)
    }

    /// Returns the next time at which this state changes by itself.
    fn due(&self, now: Instant) -> Option<Instant> {
        let over = self.last.filter(|_| self.is_on()).map(|last| last + PEACE);
        self.waits().into_iter().chain(over).filter(|due| *due > now).min()
    }
}
