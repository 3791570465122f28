//! Watches of a single object, and its last reported state.

use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;

use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::{Sink, config, follow};
use crate::item::{Identity, Item, Unreadable, Whole};
use crate::unreadable::{Unreadables, Watched};

/// The last reported state of one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed<K> {
    /// The watch has not reported yet.
    Unknown,
    /// The object does not exist.
    Absent,
    /// The object exists.
    Present(Arc<K>),
}

impl<K> Observed<K> {
    /// Returns the object if it exists.
    #[must_use]
    pub fn object(&self) -> Option<&K> {
        match self {
            Self::Present(object) => Some(object),
            Self::Unknown | Self::Absent => None,
        }
    }
}

/// Follows the one object of this name for ever. The watch selects no other object, because rights can be
/// bound to the name.
pub async fn follow_one<K>(
    api: Api<Item<Whole<K>>>,
    name: &str,
    seen: watch::Sender<Observed<K>>,
    unreadable: &Unreadables,
    watched: Watched,
) -> Infallible
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let config = config().fields(&format!("metadata.name={name}"));
    follow(api, config, &seen, unreadable, watched, |_| ()).await
}

impl<K> Sink<Whole<K>> for watch::Sender<Observed<K>> {
    type Item = K;

    fn parse(&self, Whole(object): Whole<K>) -> Result<Option<K>, Box<Unreadable>> {
        Ok(Some(object))
    }

    fn apply(&self, item: K) {
        self.send_replace(Observed::Present(Arc::new(item)));
    }

    fn delete(&self, _: &Identity) {
        self.send_replace(Observed::Absent);
    }

    fn replace(&self, items: Vec<K>, unreadable: &[Unreadable]) {
        match items.into_iter().next() {
            Some(item) => Sink::apply(self, item),
            None if unreadable.is_empty() => drop(self.send_replace(Observed::Absent)),
            None => {}
        }
    }

    /// Keeps the last known object. If it counted as absent, the leader could create it again.
    fn lose(&self, _: &Identity) {}
}
