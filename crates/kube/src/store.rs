//! The stores that watches fill, and which of them have been filled once.

use std::collections::BTreeSet;

use tokio::sync::watch;

use crate::changes::Changes;
use parking_lot::RwLock;
use tagpin_objects::kinds::{Kinds, Row};

/// One store that a watch fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Store {
    /// The store of `clusterimagepolicies.tagpin.dev`.
    ClusterImagePolicies,
    /// The store of `imagepolicies.tagpin.dev`.
    ImagePolicies,
    /// The store of `namespaces`.
    Namespaces,
    /// The store of `serviceaccounts`.
    ServiceAccounts,
    /// The store of `controllerrevisions.apps`.
    ControllerRevisions,
    /// The store of a kind in the table of kinds.
    Objects(&'static Row),
}

impl Store {
    /// Returns every store, with one for each of these kinds.
    pub fn all(kinds: &Kinds) -> impl Iterator<Item = Self> + use<'_> {
        [
            Self::ClusterImagePolicies,
            Self::ImagePolicies,
            Self::Namespaces,
            Self::ServiceAccounts,
            Self::ControllerRevisions,
        ]
        .into_iter()
        .chain(kinds.rows().map(Self::Objects))
    }

    /// Returns the plural resource name, as in metrics and in reasons of readiness: `replicasets`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterImagePolicies => "clusterimagepolicies",
            Self::ImagePolicies => "imagepolicies",
            Self::Namespaces => "namespaces",
            Self::ServiceAccounts => "serviceaccounts",
            Self::ControllerRevisions => "controllerrevisions",
            Self::Objects(row) => row.resource,
        }
    }
}

/// The stores that have been filled once. A store stays filled while its watch is broken, because its content
/// is the best that is known.
#[derive(Debug, Default)]
pub struct Synced {
    filled: RwLock<BTreeSet<Store>>,
    /// The stores of kinds that the API server does not know.
    unknown: watch::Sender<BTreeSet<Store>>,
    kinds: Kinds,
    changes: Changes,
}

impl Synced {
    pub(crate) fn new(kinds: Kinds, changes: Changes) -> Self {
        Self { kinds, changes, ..Self::default() }
    }

    /// Records that the store holds a complete list.
    pub fn fill(&self, store: Store) {
        self.unknown.send_if_modified(|unknown| unknown.remove(&store));
        let first = self.filled.write().insert(store);
        if first {
            self.changes.announce();
        }
    }

    /// Records that the API server does not know the kind of this store. The content of the store stays as it is.
    pub fn unknown(&self, store: Store) {
        self.unknown.send_if_modified(|unknown| unknown.insert(store));
    }

    /// Returns a receiver of the stores whose kinds the API server does not know.
    #[must_use]
    pub fn unknown_kinds(&self) -> watch::Receiver<BTreeSet<Store>> {
        self.unknown.subscribe()
    }

    /// Returns the stores that have not been filled yet. A replica may decide once there are none.
    #[must_use]
    pub fn missing(&self) -> Vec<Store> {
        let filled = self.filled.read();
        Store::all(&self.kinds).filter(|store| !filled.contains(store)).collect()
    }
}
