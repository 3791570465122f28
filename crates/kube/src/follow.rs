//! Watches of the API server: lists in pages, back-off after failures, and a new list when the API server has
//! forgotten the version.

use std::convert::Infallible;
use std::fmt::{self, Debug};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Config, DefaultBackoff, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::warn;

use crate::client::WATCH;
use crate::item::{Identity, Item, Unreadable, Whole};
use crate::unreadable::{Unreadables, Watched};

/// Number of objects in one page of a list: about 1 MB of JSON at most.
const PAGE: u32 = 100;

/// A store that holds what a watch of `K` reports.
pub trait Sink<K> {
    /// The part of an object that the store keeps.
    type Item;

    /// Returns the part of an object to keep; none if the object lacks a field that every API server sends.
    ///
    /// # Errors
    /// Fails if the object cannot be read.
    fn parse(&self, object: K) -> Result<Option<Self::Item>, Box<Unreadable>>;
    /// Stores an object that was added or changed.
    fn apply(&self, item: Self::Item);
    /// Removes an object that was deleted.
    fn delete(&self, gone: &Identity);
    /// Replaces the content of the store with these objects. `unreadable` names the objects that exist but
    /// cannot be read.
    fn replace(&self, items: Vec<Self::Item>, unreadable: &[Unreadable]);
    /// Handles an object that exists but can no longer be read. What was known of it may be outdated, so most
    /// stores forget it, as if no watch had reported it.
    fn lose(&self, object: &Identity);
}

/// State of a watch, as it is reported to the watch's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The sink holds a complete list.
    Listed,
    /// The watch failed and is opened again.
    Failed,
    /// The API server does not know the kind, so no object of it can exist.
    UnknownKind,
}

/// Maximum pause between attempts. kube's own back-off grows to a minute, during which a replica would see
/// nothing after an API server came back.
const MAX_BACKOFF: Duration = Duration::from_secs(6);

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

/// Returns the configuration of every watch.
#[must_use]
pub fn config() -> Config {
    Config::default().page_size(PAGE).timeout(WATCH)
}

/// kube's back-off, up to [`MAX_BACKOFF`].
struct ShortBackoff(DefaultBackoff);

impl Iterator for ShortBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(MAX_BACKOFF))
    }
}

impl Backoff for ShortBackoff {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// Passes every event to the sink, for ever. An object that cannot be read is recorded in `unreadable` and
/// does not hold up any other object.
pub async fn follow<K, S>(
    api: Api<Item<K>>,
    config: Config,
    sink: &S,
    unreadable: &Unreadables,
    watched: Watched,
    report: impl Fn(Progress),
) -> Infallible
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    S: Sink<K>,
{
    loop {
        let mut events =
            pin!(watcher(api.clone(), config.clone()).backoff(ShortBackoff(DefaultBackoff::default())));
        let (mut listed, mut lost) = (Vec::new(), Vec::new());
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => {
                    listed.clear();
                    lost.clear();
                }
                Ok(Event::InitApply(item)) => match item.and_then(|object| sink.parse(object)) {
                    Ok(item) => listed.extend(item),
                    Err(object) => lost.push(*object),
                },
                Ok(Event::InitDone) => {
                    sink.replace(std::mem::take(&mut listed), &lost);
                    report(Progress::Listed);
                    unreadable.replace(watched, std::mem::take(&mut lost));
                }
                Ok(Event::Apply(item)) => {
                    let identity = item.identity();
                    match item.and_then(|object| sink.parse(object)) {
                        Ok(item) => {
                            item.into_iter().for_each(|item| sink.apply(item));
                            unreadable.take(watched, &identity);
                        }
                        Err(object) => {
                            sink.lose(&identity);
                            unreadable.put(watched, *object);
                        }
                    }
                }
                Ok(Event::Delete(item)) => {
                    let identity = item.identity();
                    sink.delete(&identity);
                    unreadable.take(watched, &identity);
                }
                Err(error) => {
                    report(Progress::Failed);
                    warn!(error = %Cause(&error), "the watch failed; the objects known before stay in use");
                    if status_code(&error) == Some(404) {
                        report(Progress::UnknownKind);
                    }
                    if must_list_again(&error) {
                        break;
                    }
                }
            }
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

/// Returns true if the watch has to start with a new list. After an answer of 410, kube's watcher would
/// request the same version for ever. After 404, the kind may have been deleted and created again, and the
/// old version means nothing.
fn must_list_again(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if [404, 410].contains(&status.code))
}

/// Returns the status code with which the API server refused the list or the watch.
fn status_code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

/// The error of a watch, with a remedy where one is known.
struct Cause<'a>(&'a watcher::Error);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        match status_code(self.0) {
            Some(403) => f.write_str(" (the chart's roles grant this right: helm upgrade restores them)"),
            Some(404) => f.write_str(" (the API server does not know this kind: tagpin crds | kubectl apply --server-side -f - installs the CRDs)"),
            _ => Ok(()),
        }
    }
}
