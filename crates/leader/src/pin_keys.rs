//! The keeper of the keys that pins are marked with. It makes the first key, adds a new one every 30 days, and removes
//! keys that no pod needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::call::{CallError, call};
use crate::reconcile::Reconcile;
use crate::secret::{Document, write};
use tagpin_domain::mark::KeyId;
use tagpin_kube::pin_keys::{KEY_LENGTH, held, since};
use tagpin_kube::secret::SINCE;
use tagpin_kube::{Cluster, Observed};
use tagpin_objects::release;

/// Age of the newest key at which a new one is made.
const ROTATION: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Age below which a key is kept even if no pod uses it, because a pod that it marked may not have been reported yet.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Maximum number of keys. A full set gets no new key until the pods that use an old one are deleted.
const MAX_KEYS: usize = 24;
/// Time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_hours(1);
/// Time to the next check after a write, a failure, or while the Deployment rolls out.
const PAUSE: Duration = Duration::from_secs(5);

/// The keys by their identifiers, and the time since when pods are marked.
#[derive(Clone, Default, PartialEq, Eq)]
struct PinKeys {
    keys: BTreeMap<KeyId, Vec<u8>>,
    since: Option<Timestamp>,
}

impl PinKeys {
    fn of(secret: &Secret) -> Self {
        let keys = held(secret).map(|(id, key)| (id, key.to_vec())).collect();
        Self { keys, since: Some(since(secret)) }
    }

    /// Returns the keys as they should be. `used` are the keys that pods are marked with; none while that is not known.
    fn next(
        &self,
        used: Option<&BTreeSet<KeyId>>,
        now: Timestamp,
        new_key: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Self {
        let mut next = self.clone();
        let newest = self.keys.keys().next_back().copied();
        let age = |id: KeyId| now.as_second().saturating_sub(id);
        if let Some(used) = used {
            next.keys.retain(|id, _| Some(*id) == newest || used.contains(id) || age(*id) < KEPT.as_secs());
        }
        let due = newest.is_none_or(|newest| age(newest) >= ROTATION.as_secs());
        if due
            && next.keys.len() < MAX_KEYS
            && let Some(key) = new_key()
        {
            next.keys.insert(now.as_second(), key);
        }
        next
    }

    fn data(&self) -> BTreeMap<String, ByteString> {
        let keys = self.keys.iter().map(|(id, key)| (id.to_string(), ByteString(key.clone())));
        let since =
            self.since.map(|since| (SINCE.to_owned(), ByteString(since.as_second().to_string().into())));
        keys.chain(since).collect()
    }
}

/// Keeps the keys in the Secret up to date, for ever.
pub async fn keep(
    client: Client,
    namespace: &str,
    cluster: Arc<Cluster>,
    mut seen: watch::Receiver<Observed<Secret>>,
    newest: watch::Receiver<Option<Arc<Secret>>>,
    reconcile: Reconcile,
) -> Infallible {
    // The last keys that this replica saw before it became the leader.
    let last = newest.borrow().as_deref().map(PinKeys::of);
    let mut keeper = Keeper { client, namespace, cluster, last };
    loop {
        let secret = match &*seen.borrow_and_update() {
            Observed::Unknown => None,
            Observed::Absent => Some(None),
            Observed::Present(secret) => Some(Some(Arc::clone(secret))),
        };
        let checked = match &secret {
            None => Ok(Outcome::InOrder),
            Some(secret) => {
                let _pass = reconcile.pass();
                keeper.check(secret.as_deref()).await
            }
        };
        let pause = match checked {
            Ok(Outcome::InOrder) => CHECK_INTERVAL,
            Ok(Outcome::Again) => PAUSE,
            Err(error) => {
                reconcile.failed();
                warn!(%error, secret = release::PIN_KEYS, "cannot write the keys for marks");
                PAUSE
            }
        };
        if timeout(pause, seen.changed()).await.is_ok_and(|changed| changed.is_err()) {
            // The watch runs as long as the process.
            pending::<()>().await;
        }
    }
}

/// The outcome of a check.
enum Outcome {
    /// The Secret is as it should be.
    InOrder,
    /// Something was written, or the check has to be repeated soon.
    Again,
}

struct Keeper<'a> {
    client: Client,
    namespace: &'a str,
    cluster: Arc<Cluster>,
    /// The keys that the Secret held last. A Secret that somebody deletes is restored as it was, because pods
    /// carry marks made with its keys.
    last: Option<PinKeys>,
}

impl Keeper<'_> {
    async fn check(&mut self, secret: Option<&Secret>) -> Result<Outcome, CallError> {
        let held = secret.map(PinKeys::of);
        let usable = held.clone().filter(|held| !held.keys.is_empty());
        let before = usable.or_else(|| self.last.clone()).or_else(|| held.clone());
        let first = before.as_ref().is_none_or(|held| held.keys.is_empty());
        if first && !self.is_rolled_out().await? {
            debug!("replicas of another version pin without marks: the first key is made once they are gone");
            return Ok(Outcome::Again);
        }
        let used = self.cluster.synced.missing().is_empty().then(|| self.cluster.pods.marked_with());
        let before = before.unwrap_or_default();
        let wanted = before.next(used.as_ref(), Timestamp::now(), new_key);
        if held.as_ref() == Some(&wanted) {
            self.last = held;
            return Ok(Outcome::InOrder);
        }
        let document = Document { name: release::PIN_KEYS, kind: "Opaque", data: wanted.data() };
        if write(&self.client, self.namespace, secret, document).await? {
            info!(secret = release::PIN_KEYS, keys = wanted.keys.len(), "wrote the keys for marks");
            self.last = Some(wanted);
        }
        Ok(Outcome::Again)
    }

    /// Returns true if every replica runs this version. A replica of an earlier version pins without marks,
    /// and its pins would not count once the first key exists.
    async fn is_rolled_out(&self) -> Result<bool, CallError> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), self.namespace);
        let Some(deployment) = call(deployments.get_opt(release::NAME)).await? else { return Ok(false) };
        let status = deployment.status.unwrap_or_default();
        Ok(status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas.unwrap_or_default() >= status.replicas.unwrap_or_default())
    }
}

/// Returns a new random key.
fn new_key() -> Option<Vec<u8>> {
    let mut key = vec![0; KEY_LENGTH];
    SystemRandom::new().fill(&mut key).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    fn keys(days: &[i64]) -> PinKeys {
        let keys = days.iter().map(|day| (day * DAY, vec![1])).collect();
        PinKeys { keys, since: Some(Timestamp::UNIX_EPOCH) }
    }

    /// Returns the days of creation of the keys that are held after a check on this day.
    fn after(held: &[i64], used: Option<&[i64]>, day: i64) -> Vec<i64> {
        let used = used.map(|days| days.iter().map(|day| day * DAY).collect());
        let now = Timestamp::from_second(day * DAY).unwrap_or_default();
        let next = keys(held).next(used.as_ref(), now, || Some(vec![2]));
        next.keys.keys().map(|id| id / DAY).collect()
    }

    #[test]
    fn another_key_is_made_when_the_newest_is_thirty_days_old() {
        assert_eq!(after(&[], Some(&[]), 5), [5]);
        assert_eq!(after(&[5], Some(&[5]), 34), [5]);
        assert_eq!(after(&[5], Some(&[5]), 35), [5, 35]);
    }

    #[test]
    fn a_key_stays_as_long_as_a_pod_uses_it_or_that_is_not_known() {
        assert_eq!(after(&[5, 35], Some(&[5]), 60), [5, 35]);
        assert_eq!(after(&[5, 35], None, 60), [5, 35]);
        assert_eq!(after(&[5, 35], Some(&[]), 60), [35], "the newest one stays");
        assert_eq!(
            after(&[34, 35, 36], Some(&[]), 36),
            [36],
            "a day is enough for the last pods to be reported"
        );
        assert_eq!(after(&[35, 36], Some(&[]), 35), [35, 36]);
    }

    #[test]
    fn there_are_never_more_keys_than_the_limit() {
        let all: Vec<i64> = (0..24).collect();
        assert_eq!(after(&all, Some(&all), 100), all);
        let free: Vec<i64> = all.iter().copied().skip(1).chain([100]).collect();
        assert_eq!(after(&all, all.get(1..), 100), free);
    }

    #[test]
    fn a_new_key_is_long_and_no_two_are_the_same() {
        let (one, other) = (new_key(), new_key());
        assert_eq!(one.as_ref().map(Vec::len), Some(KEY_LENGTH));
        assert_ne!(one, other);
    }
}
