//! Reads the baseline by name and compares it with what lists and watches report. On SQLite behind kine, the
//! first object of a new kind can be readable by name and yet be missing from every list and watch for hours.
//! A policy that only this read finds is used.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use kube::{Api, Client};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::Cluster;
use crate::image_policy::ClusterImagePolicy;
use crate::policies::Reported;
use crate::slim::Unparsed;
use crate::store::Store;
use tagpin_domain::policy::PolicyId;
use tagpin_objects::release::BASELINE;

/// Time limit for one read.
const LIMIT: Duration = Duration::from_secs(5);
/// Pause before a read, in which a watch that lags behind catches up.
const LAG: Duration = Duration::from_secs(2);
/// Pause between reads while lists and reads differ, while there is no baseline, and after a failed read.
const AGAIN: Duration = Duration::from_secs(10);

/// UID and generation of the baseline on which lists and reads agree; none while they differ.
type Agreed = Option<(String, i64)>;

/// Reads the baseline after the first list, after each reported change of it, and every ten seconds while it
/// is missing or differs from the lists. Runs for ever.
pub async fn watch(cluster: Arc<Cluster>, client: Client) -> Infallible {
    let policies: Api<Unparsed<ClusterImagePolicy>> = Api::all(client);
    let id = PolicyId { namespace: None, name: BASELINE.to_owned() };
    let mut changes = cluster.changes();
    let mut agreed: Agreed = None;
    let mut differed = false;
    loop {
        while cluster.synced.missing().contains(&Store::ClusterImagePolicies)
            || store_matches(&cluster, &id, &agreed)
        {
            changes.changed().await;
        }
        sleep(LAG).await;
        let found = match timeout(LIMIT, policies.get_opt(BASELINE)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                debug!(%error, "cannot read the baseline");
                sleep(AGAIN).await;
                continue;
            }
            Err(_) => continue,
        };
        let reported = found
            .map(|found| Reported::parse::<ClusterImagePolicy>(&found.metadata, found.spec, found.status));
        agreed = reported.as_ref().map(|reported| (reported.uid.clone(), reported.generation));
        if cluster.policies.read_by_name(&id, reported) {
            if differed {
                warn!(
                    "the baseline can be read by name but is not in the API server's lists: its datastore is not consistent"
                );
            }
            differed = true;
            agreed = None;
        } else {
            differed = false;
        }
        if agreed.is_none() {
            sleep(AGAIN).await;
        }
    }
}

/// Returns true if the store holds the generation that lists and reads agree on.
fn store_matches(cluster: &Cluster, id: &PolicyId, agreed: &Agreed) -> bool {
    let Some((uid, generation)) = agreed else { return false };
    cluster
        .policies
        .get(id)
        .is_some_and(|held| held.uid == *uid && held.generation == *generation && !held.by_name)
}
