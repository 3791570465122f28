//! The ports of a review: everything that it needs from the outside world. Each trait is small and
//! object-safe. No method has a default, so an implementation that wraps another one cannot forget to pass a
//! method on.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use tagpin_domain::asker::Asker;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::{Fact, LastKnown};
use tagpin_domain::image::ImageRef;
use tagpin_domain::mark::Keys;
use tagpin_domain::pin::Revision;
use tagpin_domain::policy::PolicySet;
use tagpin_domain::slot::{Slot, SlotKey};
use tagpin_domain::subject::TopOwner;
use tagpin_domain::workload::{ControllerRef, ForeignKind, Known, Labels, Served, Workload};

/// Looks up the digests of tags in registries.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// Returns the fact if it is known now, without waiting. Most references of a review are known. A fact that was
    /// asked for before `since` does not count.
    fn remembered(
        &self,
        image: &ImageRef,
        asker: &Asker,
        since: Option<Instant>,
        now: Instant,
    ) -> Option<Fact>;

    /// Returns the `match` of the operator's entry that covers the registry of the reference.
    fn entry(&self, image: &ImageRef) -> Option<Arc<str>>;

    /// Returns what the registry tells this asker about the reference's tag (an omitted tag is `latest`), before the
    /// deadline. It never fails: a failure is a [`Fact`]. Callers do not pass references that carry a digest. A fact
    /// that was asked for before `since` counts only as the last known one.
    async fn resolve(
        &self,
        image: &ImageRef,
        asker: &Asker,
        since: Option<Instant>,
        deadline: Instant,
    ) -> Fact;
}

/// Suggests tags to type instead of a refused one, from the tags that a registry lists. It never fails, and
/// it parses every tag before it repeats it.
#[async_trait]
pub trait Suggest: Send + Sync {
    /// Returns the version that the forbidden tag names now.
    async fn version_of(&self, image: &ImageRef, asker: &Asker, effort: Effort) -> Named;

    /// Returns up to three tags of the repository that look like the missing one, best first.
    async fn similar_tags(&self, image: &ImageRef, asker: &Asker, effort: Effort) -> Vec<String>;
}

/// The effort that a suggestion may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Answers from the cache only.
    Cached,
    /// One page of tags and eight HEAD requests, until this time.
    Until(Instant),
}

/// The answer about a forbidden tag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// The version that the tag names; none if there is none, or if that cannot be told in time.
    pub version: Option<Version>,
    /// True if the registry shows the repository to the asker, false if it shows nothing of it; none if that is not
    /// known.
    pub shown: Option<bool>,
}

/// A tag that is more specific than the requested one, and names the same digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The tag: `1.29.3`.
    pub tag: String,
    /// The digest that both tags name.
    pub digest: Digest,
}

/// Gives the pins of sibling pods from memory. A review asks it before any registry.
pub trait Pins: Send + Sync {
    /// Returns the digest that the oldest pod of a revision carries in this slot by a pin of tagpin, for a
    /// reference without a digest as its author wrote it.
    fn sibling(&self, revision: &Revision, slot: &SlotKey, reference: &str) -> Option<Digest>;

    /// Returns the time at which this replica first saw the revision: the time of a watch event, or `now` for the first
    /// review of one of its pods. Returns none for a revision whose pods may get an answer of any age: a Job that a
    /// CronJob made.
    fn first_seen(&self, revision: &Revision, now: Instant) -> Option<Instant>;
}

/// Tells which images nodes have, for tags that no registry has.
#[async_trait]
pub trait NodeImages: Send + Sync {
    /// Returns true if a node lists an image of this name and tag; false if that cannot be known before the deadline.
    async fn holds(&self, image: &ImageRef, deadline: Instant) -> bool;
}

/// Gives the facts about a workload that are not in the object itself. Most are in memory. A fact that is not
/// there yet is awaited before the deadline. With a deadline that has passed, nothing is read, and only facts in memory
/// count.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// Returns the policies in force, as one snapshot.
    fn policies(&self) -> Arc<PolicySet>;

    /// Returns the keys that prove pins and mark new ones; none while there is no key.
    fn keys(&self) -> Option<Arc<Keys>>;

    /// Returns for each of these slots the labels of the other revisions of this workload whose slot it repeats, as far
    /// as they have these keys.
    fn carries(&self, workload: &Workload, slots: &[&Slot], keys: &BTreeSet<&str>) -> Vec<Vec<Labels>>;

    /// Returns true if the pins of the pod with this UID count without a mark, because it is older than the first key.
    fn needs_no_mark(&self, uid: &str) -> bool;

    /// Returns the labels of a namespace; none if they cannot be known in time.
    async fn namespace_labels(&self, namespace: &str, deadline: Instant) -> Option<Arc<Labels>>;

    /// Returns the names of the service account's pull secrets, in its order. An omitted service account is `default`.
    /// An account that does not exist is unknown, because it may be created with secrets before any pod runs.
    async fn pull_secrets(
        &self,
        namespace: &str,
        service_account: &str,
        deadline: Instant,
    ) -> Known<Vec<String>>;

    /// Returns the topmost validated owner of a workload, found along its controllers.
    async fn top_owner(&self, workload: &Workload, deadline: Instant) -> TopOwner;

    /// Returns the controller of an owner in this namespace.
    async fn controller_of(
        &self,
        owner: &ControllerRef,
        namespace: &str,
        deadline: Instant,
    ) -> Known<Option<ControllerRef>>;

    /// Says if the API server serves a kind.
    async fn serves(&self, kind: &ForeignKind, deadline: Instant) -> Served;

    /// Returns true if no pod is sent to be pinned, or if that becomes known within a moment.
    async fn pinning_is_off(&self, deadline: Instant) -> bool;
}

/// Gives the digests of tagpin's pins on pods, for times when a registry cannot be reached.
pub trait Seeds: Send + Sync {
    /// Returns the digest that this reference had in the pins of pods in the asker's namespace with the same
    /// pull secrets. Its age at this time counts from the creation of the youngest pod that carries the
    /// digest.
    fn last_known(&self, image: &ImageRef, asker: &Asker, now: Timestamp) -> Option<LastKnown>;
}
