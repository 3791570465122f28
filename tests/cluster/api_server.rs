//! A restart and an outage of the API server: replicas answer from memory, and resume their watches with few requests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::support::audit::Audit;
use crate::support::load::{Load, LostKind};
use crate::support::manifests::deployment;
use crate::support::replicas::{self, Replica};
use crate::support::webhook::{Broken, Door, Published, creation};
use crate::support::{Namespace, alone, rig};

/// Duration of the outage.
const AWAY: Duration = Duration::from_secs(30);
/// Maximum number of lists of a kind by a replica after one restart: the replica lists again if the API server no
/// longer knows its last version, and the leader has further watches of its own. Three Secrets have a watch each.
const LISTS: usize = 3;

/// Asks every replica about a known tag and a forbidden one until this time, and returns the number of reviews.
fn ask_until(
    end: Instant,
    namespace: &str,
    replicas: &[Replica],
    published: &Published,
) -> Result<usize, Broken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut callers = Vec::new();
        for replica in replicas {
            callers.push(Door::of(replica, published).open().await?);
        }
        let (good, bad) = (creation(namespace, "web:1.4.1", 0), creation(namespace, "web:latest", 0));
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        let mut asked = 0;
        while Instant::now() < end {
            for caller in &mut callers {
                pace.tick().await;
                let answer = caller.review("/mutate?timeout=5s", &good).await?;
                assert!(pinned(&answer), "{answer}");
                let answer = caller.review("/validate?timeout=10s", &bad).await?;
                assert_eq!(answer["allowed"], false, "{answer}");
                assert!(answer["status"]["message"].as_str().unwrap().contains("[TagForbidden]"), "{answer}");
                asked += 2;
            }
        }
        Ok(asked)
    })
}

fn pinned(answer: &Value) -> bool {
    let patch = BASE64_STANDARD.decode(answer["patch"].as_str().unwrap_or_default()).unwrap();
    answer["allowed"] == true && String::from_utf8_lossy(&patch).contains("web:1.4.1@sha256:")
}

#[test]
fn while_the_api_server_is_away_replicas_answer_and_afterwards_they_watch_on_without_a_storm_of_lists() {
    let Some(rig) = rig::here("stops the API server") else { return };
    let _cluster = alone();
    let namespace = Namespace::new("away");
    let load = Load::start(&namespace);
    load.goes_on(100);
    let (replicas, published) = (replicas::when_ready(2), Published::now());

    // Restarts the API server, and then stops it for a while.
    let audit = Audit::start(&rig);
    let left = Instant::now();
    drop(rig.without_api_server());
    load.goes_on(50);
    let gone = rig.without_api_server();
    let asked = ask_until(Instant::now() + AWAY, &namespace.name, &replicas, &published).unwrap();
    assert!(asked > 200, "{asked}");
    drop(gone);
    let back = Instant::now();
    load.goes_on(100);

    // The watches work again: every replica learns of a new policy.
    namespace.policy("later", "{ mode: Enforce, pin: { targets: [ Pods ] } }");
    assert_eq!(replicas::when_ready(2), replicas, "nobody was restarted");
    let result = load.end();
    for lost in &result.counts.lost {
        let away = lost.answered >= left && lost.sent <= back;
        assert!(away && !matches!(lost.kind, LostKind::Unpinned | LostKind::Admitted), "{lost:?}: {result}");
    }
    assert_eq!(result.counts.children(false), 0, "{result}");
    assert_eq!(result.api_server.failed_open, 0, "{result}");

    let mut lists = BTreeMap::new();
    for request in audit.requests().into_iter().filter(|request| request.verb == "list") {
        *lists.entry((request.pod, request.resource)).or_insert(0) += 1;
    }
    eprintln!("{asked} reviews without an API server, then lists: {lists:?}");
    // The API server came back twice.
    assert!(lists.values().all(|count| *count <= 2 * LISTS), "{lists:?}");

    // Waits for the cluster's own controllers, which the next tests need.
    namespace.apply(&deployment("after", "web:1.4.1", 1)).succeeded();
    namespace.rolled_out("deployment/after");
}
