//! Watches of the API server: lists as streams or in pages, back-off after failures, and a new list when the API server
//! has forgotten the version or when there is room for objects that had none.

use std::convert::Infallible;
use std::fmt::{self, Debug};
use std::future;
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
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::budget::Budget;
use crate::client::WATCH;
use crate::item::{Identity, Item, Unreadable, Whole};
use crate::unreadable::{Unreadables, Watched};

use lists::Lists;

mod lists;

/// Shortest time from one list to the next that is only for objects without room.
const ROOM: Duration = Duration::from_secs(5 * 60);

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
    Config::default().timeout(WATCH)
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
/// does not hold up any other object. This is for kinds with few objects, which are listed in pages.
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
    let mut followed = Followed::new(sink, unreadable, watched, report, None);
    loop {
        followed.round(&api, &config).await;
    }
}

/// Passes every event about the objects of a kind to the sink, for ever, as [`follow`] does. The list is a stream where
/// the API server has such lists. Objects for which the budget has no room are listed again when there is room.
pub(crate) async fn follow_all<K, S>(
    api: Api<Item<K>>,
    sink: &S,
    unreadable: &Unreadables,
    watched: Watched,
    report: impl Fn(Progress),
    budget: &Budget,
) -> Infallible
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    S: Sink<K>,
{
    let mut followed = Followed::new(sink, unreadable, watched, report, Some(budget));
    loop {
        followed.round(&api, &config()).await;
    }
}

/// One watch and its sink.
struct Followed<'a, S, R> {
    sink: &'a S,
    unreadable: &'a Unreadables,
    watched: Watched,
    report: R,
    budget: Option<&'a Budget>,
    lists: Lists,
    /// The objects without room; none if all have some.
    waiting: Option<Waiting>,
    listed_at: Instant,
}

/// The state of the budget when an object had no room.
struct Waiting {
    returns: u64,
    /// Earliest time of the next list.
    until: Instant,
}

impl<'a, S, R: Fn(Progress)> Followed<'a, S, R> {
    fn new(
        sink: &'a S,
        unreadable: &'a Unreadables,
        watched: Watched,
        report: R,
        budget: Option<&'a Budget>,
    ) -> Self {
        let lists = Lists::new(budget.is_some());
        Self { sink, unreadable, watched, report, budget, lists, waiting: None, listed_at: Instant::now() }
    }

    /// Lists all objects and follows their changes, until they have to be listed in another way or once more.
    async fn round<K>(&mut self, api: &Api<Item<K>>, config: &Config)
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
        S: Sink<K>,
    {
        let config = self.lists.configure(config.clone());
        let mut events = pin!(watcher(api.clone(), config).backoff(ShortBackoff(DefaultBackoff::default())));
        let (mut listed, mut lost, mut complete) = (Vec::new(), Vec::new(), false);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = room_again(&mut self.waiting, self.budget) => break,
            };
            match event {
                None => break,
                Some(Ok(Event::Init)) => {
                    listed.clear();
                    lost.clear();
                    self.waiting = None;
                    self.listed_at = Instant::now();
                    if self.lists.begins() {
                        return;
                    }
                }
                Some(Ok(Event::InitApply(item))) => {
                    if self.lists.is_too_large(item.bytes()) {
                        return;
                    }
                    match item.and_then(|object| self.sink.parse(object)) {
                        Ok(item) => listed.extend(item),
                        Err(object) => {
                            self.await_room(&object);
                            lost.push(*object);
                        }
                    }
                }
                Some(Ok(Event::InitDone)) => {
                    complete = true;
                    self.lists.ends();
                    self.sink.replace(std::mem::take(&mut listed), &lost);
                    (self.report)(Progress::Listed);
                    self.unreadable.replace(self.watched, std::mem::take(&mut lost));
                }
                Some(Ok(Event::Apply(item))) => self.apply(item),
                Some(Ok(Event::Delete(item))) => {
                    let identity = item.identity();
                    self.sink.delete(&identity);
                    self.unreadable.take(self.watched, &identity);
                }
                Some(Err(error)) => {
                    if !complete && self.lists.has_no_streams(&error) {
                        return;
                    }
                    self.failed(&error);
                    if complete && must_list_again(&error) {
                        break;
                    }
                }
            }
        }
        self.waiting = None;
        // The next list is tried as a stream again, and in pages of full length.
        self.lists = Lists::new(self.budget.is_some());
    }

    fn apply<K: Resource>(&mut self, item: Item<K>)
    where
        S: Sink<K>,
    {
        let identity = item.identity();
        match item.and_then(|object| self.sink.parse(object)) {
            Ok(item) => {
                item.into_iter().for_each(|item| self.sink.apply(item));
                self.unreadable.take(self.watched, &identity);
            }
            Err(object) => {
                self.await_room(&object);
                self.sink.lose(&identity);
                self.unreadable.put(self.watched, *object);
            }
        }
    }

    fn failed(&self, error: &watcher::Error) {
        (self.report)(Progress::Failed);
        warn!(error = %Cause(error), "the watch failed; the objects known before stay in use");
        if status_code(error) == Some(404) {
            (self.report)(Progress::UnknownKind);
        }
    }

    /// Remembers that an object had no room, if it can have some later.
    fn await_room(&mut self, object: &Unreadable) {
        if let Some(budget) = self.budget.filter(|_| object.awaits_room && self.waiting.is_none()) {
            self.waiting = Some(Waiting { returns: budget.returns(), until: self.listed_at + ROOM });
        }
    }
}

/// Waits until an object without room may have some: another object has given back its room, and the last list is old
/// enough. Without such an object it waits for ever.
async fn room_again(waiting: &mut Option<Waiting>, budget: Option<&Budget>) {
    let (Some(waiting), Some(budget)) = (waiting, budget) else { return future::pending().await };
    loop {
        sleep_until(waiting.until).await;
        if budget.returns() != waiting.returns {
            return;
        }
        waiting.until += ROOM;
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
