//! Watches of the API server: lists as streams or in pages, back-off after failures, and a new list when the API server
//! has forgotten the version or when there is room for objects that had none.

use std::convert::Infallible;
use std::fmt::{self, Debug};
use std::future;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::runtime::utils::Backoff as _;
use kube::runtime::watcher::{Config, DefaultBackoff};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::warn;

use crate::budget::Budget;
use crate::client::WATCH;
use crate::item::{Identity, Item, Unreadable};
use crate::unreadable::{Unreadables, Watched};

use pages::Pages;

mod one;
mod pages;

pub use one::{Observed, follow_one};

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

/// Annotation of the event that ends the list of a stream.
const LIST_ENDS: &str = "k8s.io/initial-events-end";

/// Time limit for an answer, and for all objects of a stream; time without an event after which a watch is opened again.
/// The API server ends a request after a minute, and a watch after [`WATCH`].
const IDLE: Duration = Duration::from_secs(WATCH as u64 + 5);

/// Duration of a watch below which its end counts as a failure.
const SHORT: Duration = Duration::from_secs(1);

/// Maximum pause between attempts. kube's own back-off grows to a minute, during which a replica would see
/// nothing after an API server came back.
const MAX_BACKOFF: Duration = Duration::from_secs(6);

/// Returns the selectors of a watch of all objects.
#[must_use]
pub fn config() -> Config {
    Config::default()
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
    backoff: DefaultBackoff,
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

/// The objects of a list so far.
struct Listing<I> {
    items: Vec<I>,
    lost: Vec<Unreadable>,
}

impl<'a, S, R: Fn(Progress)> Followed<'a, S, R> {
    fn new(
        sink: &'a S,
        unreadable: &'a Unreadables,
        watched: Watched,
        report: R,
        budget: Option<&'a Budget>,
    ) -> Self {
        let backoff = DefaultBackoff::default();
        Self { sink, unreadable, watched, report, budget, backoff, waiting: None, listed_at: Instant::now() }
    }

    /// Lists all objects and follows their changes, until they have to be listed once more.
    async fn round<K>(&mut self, api: &Api<Item<K>>, config: &Config)
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
        S: Sink<K>,
    {
        self.waiting = None;
        self.listed_at = Instant::now();
        match self.list(api, config).await {
            // A list is no success yet: an API server may have forgotten the version of each by the next request.
            Ok(version) => self.watch(api, config, version).await,
            Err(error) => {
                self.failed(&error);
                self.pause().await;
            }
        }
    }

    /// Lists all objects, and returns the version of the list. Few kinds are listed at a time, because a list takes
    /// memory in the length of its largest objects.
    async fn list<K>(&mut self, api: &Api<Item<K>>, config: &Config) -> Result<String, kube::Error>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
        S: Sink<K>,
    {
        let mut listing = Listing { items: Vec::new(), lost: Vec::new() };
        let streamed = match self.budget {
            None => None,
            Some(budget) => {
                let _turn = budget.turn().await;
                self.stream(api, config, &mut listing).await?
            }
        };
        let version = match streamed {
            Some(version) => version,
            None => self.pages(api, config, &mut listing).await?,
        };
        let Listing { items, lost } = listing;
        self.sink.replace(items, &lost);
        (self.report)(Progress::Listed);
        self.unreadable.replace(self.watched, lost);
        Ok(version)
    }

    /// Lists all objects as a stream of events, and returns the version of the list; none if the API server has no such
    /// streams, if the stream ended before all objects had come, or if one of them was deleted meanwhile. The watch is
    /// another request, because the buffer of this one is as long as the largest object.
    async fn stream<K>(
        &mut self,
        api: &Api<Item<K>>,
        config: &Config,
        listing: &mut Listing<S::Item>,
    ) -> Result<Option<String>, kube::Error>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
        S: Sink<K>,
    {
        let parameters = WatchParams { send_initial_events: true, ..watch_parameters(config) };
        let until = Instant::now() + IDLE;
        let mut events = match in_time(api.watch(&parameters, "0")).await {
            Ok(events) => pin!(events),
            Err(kube::Error::Api(status)) if [400, 422].contains(&status.code) => return Ok(None),
            Err(error) => return Err(error),
        };
        while let Ok(Some(event)) = timeout_at(until, events.next()).await {
            match event? {
                WatchEvent::Added(item) | WatchEvent::Modified(item) => self.take(item, listing),
                WatchEvent::Bookmark(bookmark) if bookmark.metadata.annotations.contains_key(LIST_ENDS) => {
                    return Ok(Some(bookmark.metadata.resource_version));
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status.boxed())),
                WatchEvent::Bookmark(_) => {}
                // What was taken in of the object cannot be found again.
                WatchEvent::Deleted(_) => break,
            }
        }
        listing.items.clear();
        listing.lost.clear();
        Ok(None)
    }

    /// Lists all objects in pages, and returns the version of the list.
    async fn pages<K>(
        &mut self,
        api: &Api<Item<K>>,
        config: &Config,
        listing: &mut Listing<S::Item>,
    ) -> Result<String, kube::Error>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
        S: Sink<K>,
    {
        let (mut pages, mut next) = (Pages::default(), None);
        loop {
            let parameters = ListParams {
                label_selector: config.label_selector.clone(),
                field_selector: config.field_selector.clone(),
                limit: Some(pages.length()),
                continue_token: next,
                ..ListParams::default()
            };
            let turn = match self.budget {
                Some(budget) => budget.turn_alone().await,
                None => None,
            };
            let page = in_time(api.list(&parameters)).await?;
            pages.had(page.items.iter().map(Item::bytes).sum());
            page.items.into_iter().for_each(|item| self.take(item, listing));
            drop(turn);
            next = page.metadata.continue_.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(page.metadata.resource_version.unwrap_or_default());
            }
        }
    }

    /// Takes in an object of a list.
    fn take<K>(&mut self, item: Item<K>, listing: &mut Listing<S::Item>)
    where
        S: Sink<K>,
    {
        match item.and_then(|object| self.sink.parse(object)) {
            Ok(item) => listing.items.extend(item),
            Err(object) => {
                self.await_room(&object);
                listing.lost.push(*object);
            }
        }
    }

    /// Follows the changes since this version, until the objects have to be listed once more.
    async fn watch<K>(&mut self, api: &Api<Item<K>>, config: &Config, mut version: String)
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
        S: Sink<K>,
    {
        let parameters = watch_parameters(config);
        loop {
            let opened = Instant::now();
            let mut events = match in_time(api.watch(&parameters, &version)).await {
                Ok(events) => pin!(events),
                Err(error) => {
                    self.failed(&error);
                    if must_list_again(&error) {
                        return self.pause().await;
                    }
                    let pause = self.next_pause();
                    tokio::select! {
                        () = sleep(pause) => continue,
                        () = room_again(&mut self.waiting, self.budget) => return,
                    }
                }
            };
            loop {
                let event = tokio::select! {
                    event = timeout(IDLE, events.next()) => event.ok().flatten(),
                    () = room_again(&mut self.waiting, self.budget) => return,
                };
                let event = match event {
                    // An API server that ends every watch at once is not asked without a pause.
                    None if opened.elapsed() < SHORT => {
                        self.pause().await;
                        break;
                    }
                    None => {
                        self.backoff.reset();
                        break;
                    }
                    Some(Ok(event)) => event,
                    Some(Err(error)) => {
                        self.failed(&error);
                        self.pause().await;
                        // What is no event would come again after each version before it.
                        if !matches!(error, kube::Error::ReadEvents(_)) {
                            return;
                        }
                        break;
                    }
                };
                match version_after(&event) {
                    Some("") => {
                        self.failed(&Fault::NoVersion.into());
                        return self.pause().await;
                    }
                    Some(newer) => newer.clone_into(&mut version),
                    None => {}
                }
                match event {
                    WatchEvent::Added(item) | WatchEvent::Modified(item) => self.apply(item),
                    WatchEvent::Deleted(item) => {
                        let identity = item.identity();
                        self.sink.delete(&identity);
                        self.unreadable.take(self.watched, &identity);
                    }
                    WatchEvent::Bookmark(_) => {}
                    WatchEvent::Error(status) => {
                        self.failed(&kube::Error::Api(status.boxed()));
                        // What the API server has forgotten, or cannot tell, is listed anew.
                        return self.pause().await;
                    }
                }
                self.backoff.reset();
            }
        }
    }

    /// Waits before the next attempt.
    async fn pause(&mut self) {
        sleep(self.next_pause()).await;
    }

    /// Returns the time until the next attempt, which is longer after each failure in a row.
    fn next_pause(&mut self) -> Duration {
        self.backoff.next().unwrap_or(MAX_BACKOFF).min(MAX_BACKOFF)
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

    fn failed(&self, error: &kube::Error) {
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

/// Returns the parameters of a watch with this configuration.
fn watch_parameters(config: &Config) -> WatchParams {
    WatchParams {
        label_selector: config.label_selector.clone(),
        field_selector: config.field_selector.clone(),
        timeout: Some(WATCH),
        ..WatchParams::default()
    }
}

/// A failure of a watch that the client of the API server does not notice.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the API server did not answer within {} seconds", IDLE.as_secs())]
    Silent,
    #[error("the API server sent an event without a resource version")]
    NoVersion,
}

impl From<Fault> for kube::Error {
    fn from(fault: Fault) -> Self {
        Self::Service(Box::new(fault))
    }
}

/// Returns the version from which a watch goes on after this event: empty if the event has none, and none for an error,
/// which needs none.
fn version_after<K: Resource>(event: &WatchEvent<Item<K>>) -> Option<&str> {
    match event {
        WatchEvent::Added(item) | WatchEvent::Modified(item) | WatchEvent::Deleted(item) => {
            Some(item.meta().resource_version.as_deref().unwrap_or_default())
        }
        WatchEvent::Bookmark(bookmark) => Some(&bookmark.metadata.resource_version),
        WatchEvent::Error(_) => None,
    }
}

/// Returns the answer to a request, or an error if there is none within [`IDLE`].
async fn in_time<T>(answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    timeout(IDLE, answer).await.unwrap_or_else(|_| Err(Fault::Silent.into()))
}

/// Returns true if the watch has to start with a new list. The API server has forgotten the version after an answer of
/// 410. After 404, the kind may have been deleted and created again, and the old version means nothing.
fn must_list_again(error: &kube::Error) -> bool {
    status_code(error).is_some_and(|code| [404, 410].contains(&code))
}

/// Returns the status code with which the API server refused the list or the watch.
const fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// The error of a watch, with a remedy where one is known.
struct Cause<'a>(&'a kube::Error);

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
