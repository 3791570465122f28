//! The ports of a review: everything that it asks of the outside world. Each trait is small and object-safe, and no
//! method has a default: an implementation that wraps another one cannot lose what it does not name.

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
use tagpin_domain::policy::{Labels, PolicySet};
use tagpin_domain::slot::{Slot, SlotKey};
use tagpin_domain::subject::TopOwner;
use tagpin_domain::workload::Workload;

/// Tells what a registry says of a tag.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// Returns the fact if it is known now, without waiting for anything. Most references of a review are.
    fn remembered(&self, image: &ImageRef, asker: &Asker, now: Instant) -> Option<Fact>;

    /// Returns what the registry tells this asker about the reference's tag (an omitted tag is `latest`), before the
    /// deadline. It never fails: a failure is a [`Fact`]. Callers do not pass references that carry a digest.
    async fn resolve(&self, image: &ImageRef, asker: &Asker, deadline: Instant) -> Fact;
}

/// Finds what to type instead of a refused tag, among the tags that a registry lists. It never fails, and it parses
/// every tag before it repeats it.
#[async_trait]
pub trait Suggest: Send + Sync {
    /// Returns the version that the forbidden tag names now; none if that cannot be told in time.
    async fn version_of(&self, image: &ImageRef, asker: &Asker, effort: Effort) -> Option<Version>;

    /// Returns up to three tags of the repository that look like the missing one, best first.
    async fn similar_tags(&self, image: &ImageRef, asker: &Asker, effort: Effort) -> Vec<String>;
}

/// The effort that a suggestion may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Only what is cached.
    Cached,
    /// One page of tags and eight HEAD requests, until this time.
    Until(Instant),
}

/// A tag that says more than the one it was asked for, and names the same digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// `1.29.3`
    pub tag: String,
    /// The digest that both tags name.
    pub digest: Digest,
}

/// Gives the pins of sibling pods from memory. A review asks it before any registry.
pub trait Pins: Send + Sync {
    /// Returns the digest that the oldest pod of a revision carries in this slot by a pin of ours, for a reference
    /// without a digest as its author wrote it.
    fn sibling(&self, revision: &Revision, slot: &SlotKey, reference: &str) -> Option<Digest>;
}

/// Gives the facts about a workload that are not in the object itself. Most are in memory; what is not there yet is
/// waited for, before the deadline.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// Returns the policies in force, as one snapshot.
    fn policies(&self) -> Arc<PolicySet>;

    /// Returns the keys that prove pins and mark new ones; none while there is no key.
    fn keys(&self) -> Option<Arc<Keys>>;

    /// Returns the names of the service account's pull secrets, in its order. An omitted service account is `default`.
    fn pull_secrets(&self, namespace: &str, service_account: &str) -> Vec<String>;

    /// Returns true if another revision of this workload carries this reference in this slot.
    fn carries(&self, workload: &Workload, slot: &Slot) -> bool;

    /// Returns true if the pins of the pod with this UID count without a mark, because it is older than the first key.
    fn needs_no_mark(&self, uid: &str) -> bool;

    /// Returns the labels of a namespace; none if they cannot be known in time.
    async fn namespace_labels(&self, namespace: &str, deadline: Instant) -> Option<Arc<Labels>>;

    /// Returns the last validated object on the way up from a workload along its controllers.
    async fn top_owner(&self, workload: &Workload, deadline: Instant) -> TopOwner;

    /// Returns true if no pod is sent to be pinned, now or as is heard within a moment.
    async fn pinning_is_off(&self, deadline: Instant) -> bool;
}

/// Gives the digests that our pins on pods remember, for when a registry cannot be asked.
pub trait Seeds: Send + Sync {
    /// Returns what this reference named by the pins of pods in the asker's namespace that use the same pull secrets.
    /// Its age at this time counts from the creation of the youngest pod that carries the digest.
    fn last_known(&self, image: &ImageRef, asker: &Asker, now: Timestamp) -> Option<LastKnown>;
}
