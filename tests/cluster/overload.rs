//! Ten times as many reviews as a replica accepts: the others are turned away and counted, memory stays bounded, and
//! the API server retries its requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::StatusCode;

use crate::support::load::Load;
use crate::support::network::Cut;
use crate::support::replicas::{self, Replica};
use crate::support::webhook::{Broken, Caller, Door, Published, creation};
use crate::support::{Namespace, alone, kubectl, rig};

/// Maximum number of reviews in progress in a replica.
const IN_FLIGHT: usize = 256;
/// Number of connections, each with one request at a time.
const CALLERS: usize = 640;
/// Size of the padding of a review, in bytes.
const NOTES: usize = 16 * 1024;
/// Maximum memory of a replica, in KiB; the chart allows 256 MiB.
const MEMORY: usize = 160 * 1024;
/// Time limit until the replica answers as usual.
const RECOVERY: Duration = Duration::from_secs(2);

/// The numbers of reviews that were answered and turned away.
#[derive(Debug, Default, Clone, Copy)]
struct Answers {
    reviewed: usize,
    turned_away: usize,
}

/// Opens the connections of all callers.
async fn callers(door: &Door, namespace: &str) -> Result<Vec<Caller>, Broken> {
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        callers.push(known(door, namespace).await?);
    }
    Ok(callers)
}

/// Opens a connection and shows the token on it, so that it may stay open.
async fn known(door: &Door, namespace: &str) -> Result<Caller, Broken> {
    let mut caller = door.open().await?;
    caller.review("/validate?timeout=10s", &creation(namespace, "web:latest", 0)).await?;
    Ok(caller)
}

/// Sends this many reviews with unknown tags from all callers, in these namespaces in turn, and counts the answers.
async fn storm(callers: Vec<Caller>, namespaces: &[&Namespace], questions: usize) -> Answers {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for mut caller in callers {
        let names: Vec<_> = namespaces.iter().map(|namespace| namespace.name.clone()).collect();
        let asked = Arc::clone(&asked);
        tasks.spawn(async move {
            let mut answers = Answers::default();
            loop {
                let number = asked.fetch_add(1, Ordering::Relaxed);
                if number >= questions {
                    return answers;
                }
                let review = creation(&names[number % names.len()], &format!("web:0.0.{number}"), NOTES);
                match caller.ask("/mutate?timeout=5s", &review).await.unwrap() {
                    (StatusCode::OK, _) => answers.reviewed += 1,
                    (StatusCode::SERVICE_UNAVAILABLE, _) => answers.turned_away += 1,
                    (status, body) => panic!("{status} {}", String::from_utf8_lossy(&body)),
                }
            }
        });
    }
    let add = |all: Answers, some: Answers| Answers {
        reviewed: all.reviewed + some.reviewed,
        turned_away: all.turned_away + some.turned_away,
    };
    tasks.join_all().await.into_iter().fold(Answers::default(), add)
}

/// Returns the number of requests that the replica counted as shed.
fn counted(replica: &Replica) -> usize {
    let path = format!("/api/v1/namespaces/tagpin-system/pods/{}:8080/proxy/metrics", replica.name);
    let text = kubectl(&["get", "--raw", &path]).succeeded();
    let shed = "tagpin_admission_turned_away_total{reason=\"shed\"} ";
    text.lines().find_map(|line| line.strip_prefix(shed)).unwrap().parse().unwrap()
}

#[test]
fn ten_times_what_a_replica_takes_is_turned_away_and_over_soon() {
    let Some(rig) = rig::here("cuts pods off from the registries") else { return };
    let _cluster = alone();
    let namespace = Namespace::new("overload");
    let replica = replicas::when_ready(2).remove(0);
    let door = Door::of(&replica, &Published::now());
    let before = counted(&replica);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (answers, recovery) = runtime.block_on(async {
        let callers = callers(&door, &namespace.name).await.unwrap();
        let mut afterwards = known(&door, &namespace.name).await.unwrap();
        // The registry neither accepts nor refuses connections, so every look-up lasts until its deadline.
        let _silence = Cut::between_pods_and_registries();
        let answers = storm(callers, &[&namespace], 10 * IN_FLIGHT).await;
        let over = Instant::now();
        let usual =
            afterwards.review("/validate?timeout=10s", &creation(&namespace.name, "web:latest", 0)).await;
        assert_eq!(usual.unwrap()["allowed"], false);
        (answers, over.elapsed())
    });
    eprintln!("{answers:?}, {} KiB at most, as usual again after {recovery:?}", replica.peak());
    assert_eq!(answers.reviewed + answers.turned_away, 10 * IN_FLIGHT);
    assert!(answers.turned_away >= 2 * IN_FLIGHT, "{answers:?}");
    assert_eq!(counted(&replica) - before, answers.turned_away);
    assert!(replica.peak() < MEMORY, "{} KiB", replica.peak());
    assert!(recovery < RECOVERY, "{recovery:?}");
    assert_eq!(replicas::when_ready(2).into_iter().filter(|now| *now == replica).count(), 1, "it runs on");
    // Resets the breakers of the replicas, which are open now.
    rig.registries_are_believed_again();
}

/// Overloads each replica in turn with reviews of these namespaces, because the API server may have a connection to
/// either. Returns the numbers of requests that the replicas turned away, in all and of this storm.
fn overload(namespaces: &[&Namespace], load: &Load) -> (usize, usize) {
    let published = Published::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut turned_away, mut ours) = (0, 0);
    for replica in replicas::when_ready(2) {
        let before = counted(&replica);
        let answers = runtime.block_on(async {
            let callers = callers(&Door::of(&replica, &published), &namespaces[0].name).await.unwrap();
            let _silence = Cut::between_pods_and_registries();
            storm(callers, namespaces, 10 * IN_FLIGHT).await
        });
        ours += answers.turned_away;
        turned_away += counted(&replica) - before;
        load.goes_on(50);
    }
    (turned_away, ours)
}

#[test]
fn namespaces_turn_nothing_of_others_away_and_what_one_turns_away_of_its_own_the_api_server_asks_again() {
    let Some(rig) = rig::here("cuts pods off from the registries") else { return };
    let _cluster = alone();
    let namespace = Namespace::new("asked-again");
    let storms = ["storm-a", "storm-b", "storm-c", "storm-d"].map(Namespace::new);
    let load = Load::start(&namespace);
    load.goes_on(100);
    let (turned_away, ours) = overload(&storms.each_ref(), &load);
    assert!(ours > 0, "the storm was too small");
    assert_eq!(turned_away, ours, "reviews of the load were turned away");
    rig.registries_are_believed_again();

    let (turned_away, ours) = overload(&[&namespace], &load);
    load.end().nothing_lost();
    eprintln!("{ours} turned away of the storm, {} of the API server", turned_away - ours);
    assert!(turned_away > ours, "the API server met a replica that had too much to do");
    // Resets the breakers of the replicas, which are open now.
    rig.registries_are_believed_again();
}
