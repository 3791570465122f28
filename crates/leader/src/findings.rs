//! Gathers from the replicas what they refused and left unpinned, for the status of the policies.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::replicas::{Ask, Replica};
use crate::rows::Rows;
use tagpin_domain::policy::PolicyId;
use tagpin_kube::Observed;
use tagpin_kube::door::held;
use tagpin_objects::findings::{LeftUnpinned, Page};
use tagpin_objects::image_policy::Refused;

/// Time between two questions to the replicas.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// The findings of all replicas together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The requests that each policy refused, the most frequent first.
    pub refused: BTreeMap<PolicyId, Vec<Refused>>,
    /// The newest reason why an image got no digest, by namespace, name of the slot and image.
    pub unpinned: BTreeMap<[String; 3], String>,
}

/// Asks the replicas for their findings.
pub struct Gatherer {
    /// Asks one replica.
    pub ask: Arc<dyn Ask>,
    /// The Secret with the token that the replicas demand.
    pub door: watch::Receiver<Observed<Secret>>,
    /// The ready replicas.
    pub replicas: watch::Receiver<Vec<Replica>>,
    /// Receives the findings once a replica has answered.
    pub found: watch::Sender<Option<Arc<Found>>>,
}

impl Gatherer {
    /// Asks each minute, for ever.
    pub async fn keep(mut self) -> Infallible {
        let mut pages: HashMap<String, Page> = HashMap::new();
        loop {
            let ready = self.replicas.borrow_and_update().clone();
            let token = self.door.borrow_and_update().object().and_then(held).map(|tokens| tokens.current);
            let Some(token) = token.filter(|_| !ready.is_empty()) else {
                // The pattern ignores a closed channel, which would spin the loop.
                tokio::select! {
                    Ok(()) = self.replicas.changed() => {}
                    Ok(()) = self.door.changed() => {}
                    () = sleep(INTERVAL) => {}
                }
                continue;
            };
            let asked = ready.iter().map(async |replica| (replica, self.ask.findings(replica, token).await));
            let answers = join_all(asked).await;
            // A replica that does not answer in time keeps its last page.
            pages.retain(|uid, _| ready.iter().any(|replica| replica.uid == *uid));
            pages
                .extend(answers.into_iter().filter_map(|(replica, page)| Some((replica.uid.clone(), page?))));
            if !pages.is_empty() {
                let found = Some(Arc::new(Found::of(pages.values())));
                self.found.send_if_modified(|told| {
                    let changed = *told != found;
                    *told = found;
                    changed
                });
            }
            sleep(INTERVAL).await;
        }
    }
}

impl Found {
    /// Joins the pages of all replicas.
    fn of<'a>(pages: impl Iterator<Item = &'a Page> + Clone) -> Self {
        let unpinned = unpinned(pages.clone());
        let mut sums: BTreeMap<PolicyId, BTreeMap<[&str; 5], (u32, Timestamp)>> = BTreeMap::new();
        for row in pages.flat_map(|page| &page.refused) {
            let Refused { namespace, kind, user, image, code, count, last } = &row.refused;
            let of_policy = sums.entry(row.id()).or_default();
            let key = [namespace, kind, user, image, code].map(String::as_str);
            let sum = of_policy.entry(key).or_insert((0, *last));
            *sum = (sum.0.saturating_add(*count), sum.1.max(*last));
        }
        let most_frequent = |sums: BTreeMap<[&str; 5], (u32, Timestamp)>| {
            let mut rows = Rows::default();
            for (key, (count, last)) in sums {
                let [namespace, ..] = key;
                rows.add(namespace, (Reverse(count), key), || last);
            }
            let row = |((Reverse(count), key), last): ((_, [&str; 5]), _)| {
                let [namespace, kind, user, image, code] = key.map(str::to_owned);
                Refused { namespace, kind, user, image, code, count, last }
            };
            rows.into_rows().into_iter().map(row).collect()
        };
        Self { refused: sums.into_iter().map(|(id, sums)| (id, most_frequent(sums))).collect(), unpinned }
    }
}

fn unpinned<'a>(pages: impl Iterator<Item = &'a Page>) -> BTreeMap<[String; 3], String> {
    let mut rows: Vec<_> = pages.flat_map(|page| &page.unpinned).collect();
    rows.sort_by_key(|row| row.last);
    let key = |row: &LeftUnpinned| [row.namespace.clone(), row.slot.clone(), row.image.clone()];
    // Of two rows with one key, the later one stays.
    rows.into_iter().map(|row| (key(row), row.code.clone())).collect()
}
