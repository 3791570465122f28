//! The lease, with a scripted API server and a clock that the tests move.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tagpin_leader::lease::{LeaseManager, Notes};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::reach::reach;
use tagpin_testing::scripted_api::{Api, Call};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/tagpin-system/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/tagpin-system/leases/tagpin";
const DEPLOYMENT: &str = "GET /apis/apps/v1/namespaces/tagpin-system/deployments/tagpin";

/// One replica that claims the lease.
struct Replica {
    api: Api,
    stop: CancellationToken,
    /// True while a writer runs.
    writes: Arc<AtomicBool>,
    /// True once the replica has left, after its writers had ended.
    left: Arc<AtomicBool>,
    /// The annotations of the lease.
    notes: Notes,
    task: JoinHandle<Result<(), &'static str>>,
}

/// The writers of a replica; the flag becomes false when they are dropped.
struct Writing(Arc<AtomicBool>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Replica {
    /// Starts a replica whose writers end with an error after this time.
    fn start(dies_after: Duration) -> Self {
        let (client, api) = Api::new();
        let lease = LeaseManager::new(client, "tagpin-system", "tagpin-0");
        let notes = lease.notes();
        let (stop, writes) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let left = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn({
            let (stop, writes) = (stop.clone(), Arc::clone(&writes));
            let (left, wrote) = (Arc::clone(&left), Arc::clone(&writes));
            async move {
                let lead = || async {
                    writes.store(true, Ordering::SeqCst);
                    let _writing = Writing(Arc::clone(&writes));
                    sleep(dies_after).await;
                    "a writer died"
                };
                let leave = || async { left.store(!wrote.load(Ordering::SeqCst), Ordering::SeqCst) };
                lease.run(stop, lead, leave).await
            }
        });
        Self { api, stop, writes, left, notes, task }
    }

    fn writes(&self) -> bool {
        self.writes.load(Ordering::SeqCst)
    }

    /// Lets the replica create the lease. Returns the identity.
    async fn takes_it(&mut self) -> String {
        self.get().await.refuse(404, "NotFound");
        self.api.expect(DEPLOYMENT).await.ok(deployment());
        let create = self.api.expect(&format!("POST {LEASES}")).await;
        assert_eq!(create.json()["metadata"]["ownerReferences"], owners());
        let identity = holder(&create);
        create.answer(201, lease(&identity, "1"));
        identity
    }

    async fn get(&mut self) -> Call {
        self.api.expect(&format!("GET {LEASE}")).await
    }

    async fn put(&mut self) -> Call {
        self.api.expect(&format!("PUT {LEASE}")).await
    }
}

const FOREVER: Duration = Duration::from_hours(10_000);

fn deployment() -> Value {
    json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": { "name": "tagpin", "uid": "d" } })
}

fn owners() -> Value {
    json!([{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "tagpin", "uid": "d" }])
}

fn lease(holder: &str, version: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": "tagpin", "namespace": "tagpin-system", "resourceVersion": version, "ownerReferences": owners(),
        },
        "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3,
            "renewTime": "2001-01-01T00:00:00.000000Z", "acquireTime": "2001-01-01T00:00:00.000000Z",
        },
    })
}

fn holder(call: &Call) -> String {
    call.json()["spec"]["holderIdentity"].as_str().unwrap().to_owned()
}

fn version(call: &Call) -> String {
    call.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_there_is_made_and_renewed() {
    let mut replica = Replica::start(FOREVER);
    let start = Instant::now();
    let identity = replica.takes_it().await;
    assert!(identity.starts_with("tagpin-0_") && identity.len() == "tagpin-0_".len() + 16, "{identity}");
    for number in 1..5_u32 {
        let renew = replica.put().await;
        assert!(replica.writes());
        assert_eq!(start.elapsed().as_secs(), u64::from(number) * 5);
        assert_eq!((holder(&renew), version(&renew)), (identity.clone(), number.to_string()));
        assert_eq!(renew.json()["spec"]["leaseDurationSeconds"], 15);
        renew.ok(lease(&identity, &(number + 1).to_string()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_runs_out_by_our_own_clock() {
    // The times in the lease are of the year 2001: by a wall clock the lease would have expired long ago.
    let mut replica = Replica::start(FOREVER);
    let start = Instant::now();
    loop {
        replica
            .get()
            .await
            .ok(lease("other", if start.elapsed() < Duration::from_secs(9) { "7" } else { "8" }));
        if start.elapsed() > Duration::from_secs(22) {
            break;
        }
        assert!(!replica.writes());
    }
    // The last change was seen between 9 and 10 seconds. The replica takes the lease as soon as it has
    // expired.
    let take = loop {
        let call = replica.api.next().await;
        match call.method.as_str() {
            "GET" => call.ok(lease("other", "8")),
            _ => break call,
        }
    };
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(24) && waited < Duration::from_secs(25), "{waited:?}");
    assert_eq!(version(&take), "8");
    assert_eq!(take.json()["spec"]["leaseTransitions"], 4);
    let identity = holder(&take);
    take.ok(lease(&identity, "9"));
    assert_eq!(version(&replica.put().await), "9");
    assert!(replica.writes());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_back_is_taken_at_once() {
    let mut replica = Replica::start(FOREVER);
    let start = Instant::now();
    replica.get().await.ok(lease("", "4"));
    let take = replica.put().await;
    assert_eq!((version(&take), start.elapsed()), ("4".to_owned(), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_back_is_taken_within_a_second() {
    let mut replica = Replica::start(FOREVER);
    let mut last = Instant::now();
    for _ in 0..10 {
        replica.get().await.ok(lease("other", "4"));
        assert!(last.elapsed() < Duration::from_secs(1), "{:?}", last.elapsed());
        last = Instant::now();
    }
    replica.get().await.ok(lease("", "5"));
    assert_eq!(version(&replica.put().await), "5");
    assert!(last.elapsed() < Duration::from_secs(1), "{:?}", last.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_an_earlier_version_is_given_its_owner() {
    let mut replica = Replica::start(FOREVER);
    let mut unowned = lease("", "4");
    unowned["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    replica.get().await.ok(unowned);
    replica.api.expect(DEPLOYMENT).await.ok(deployment());
    assert_eq!(replica.put().await.json()["metadata"]["ownerReferences"], owners());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_once_the_deployment_is_gone() {
    let mut replica = Replica::start(FOREVER);
    for _ in 0..3 {
        replica.get().await.refuse(404, "NotFound");
        replica.api.expect(DEPLOYMENT).await.refuse(404, "NotFound");
    }
    assert!(!replica.writes());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_second_does_not_write() {
    let mut replica = Replica::start(FOREVER);
    replica.get().await.refuse(404, "NotFound");
    replica.api.expect(DEPLOYMENT).await.ok(deployment());
    replica.api.expect(&format!("POST {LEASES}")).await.refuse(409, "AlreadyExists");
    replica.get().await.ok(lease("", "4"));
    replica.put().await.refuse(409, "Conflict");
    for _ in 0..3 {
        replica.get().await.ok(lease("other", "5"));
        assert!(!replica.writes());
    }
}

#[tokio::test(start_paused = true)]
async fn writers_stop_before_others_may_take_over() {
    for answers in [false, true] {
        let mut replica = Replica::start(FOREVER);
        let start = Instant::now();
        let _ = replica.takes_it().await;
        let mut hanging = Vec::new();
        // Only renewals are sent, until the replica has stopped its writers and reads the lease again.
        let call = loop {
            let call = replica.api.next().await;
            if call.method == "GET" {
                break call;
            }
            assert!(replica.writes());
            if answers { call.refuse(500, "InternalError") } else { hanging.push(call) }
        };
        assert_eq!(start.elapsed().as_secs(), 10, "answers: {answers}");
        assert!(!replica.writes());
        drop(call);
    }
}

#[tokio::test(start_paused = true)]
async fn an_edited_label_is_no_new_leader() {
    let mut replica = Replica::start(FOREVER);
    let identity = replica.takes_it().await;
    replica.put().await.refuse(409, "Conflict");
    replica.get().await.ok(lease(&identity, "50"));
    let again = replica.put().await;
    assert_eq!(version(&again), "50");
    again.ok(lease(&identity, "51"));
    assert_eq!(version(&replica.put().await), "51");
    assert!(replica.writes());
}

/// Returns the lease with these annotations.
fn annotated(mut lease: Value, annotations: &Value) -> Value {
    lease["metadata"]["annotations"] = annotations.clone();
    lease
}

#[tokio::test(start_paused = true)]
async fn notes_are_written_with_the_renewals_and_an_annotation_of_a_person_stays() {
    let mut replica = Replica::start(FOREVER);
    let identity = replica.takes_it().await;
    let first = replica.put().await;
    assert_eq!(first.json()["metadata"].get("annotations"), None, "nothing is to be remembered yet");
    replica.notes.wanted.send_modify(|wanted| drop(wanted.insert("tagpin.dev/filled".into(), "f".into())));
    first.ok(lease(&identity, "2"));
    let renew = replica.put().await;
    assert_eq!(renew.json()["metadata"]["annotations"], json!({ "tagpin.dev/filled": "f" }));
    // A person writes at the same time.
    renew.refuse(409, "Conflict");
    let theirs = json!({ "tagpin.dev/rearm": "u" });
    replica.get().await.ok(annotated(lease(&identity, "50"), &theirs));
    let again = replica.put().await;
    let both = json!({ "tagpin.dev/rearm": "u", "tagpin.dev/filled": "f" });
    assert_eq!((version(&again), &again.json()["metadata"]["annotations"]), ("50".to_owned(), &both));
    again.ok(annotated(lease(&identity, "51"), &both));
    reach(&mut replica.notes.seen, |seen| seen.len() == 2).await;
    assert_eq!(replica.put().await.json()["metadata"]["annotations"], both);
    assert!(replica.writes());
}

#[tokio::test(start_paused = true)]
async fn a_new_term_sees_the_notes_of_the_last_leader_and_forgets_its_own() {
    let mut replica = Replica::start(FOREVER);
    replica.notes.wanted.send_modify(|wanted| drop(wanted.insert("tagpin.dev/filled".into(), "old".into())));
    let theirs = json!({ "tagpin.dev/filled": "new" });
    replica.get().await.ok(annotated(lease("", "4"), &theirs));
    let take = replica.put().await;
    let identity = holder(&take);
    take.ok(annotated(lease(&identity, "5"), &theirs));
    reach(&mut replica.notes.seen, |seen| seen.len() == 1).await;
    assert_eq!(replica.put().await.json()["metadata"]["annotations"], theirs);
}

#[tokio::test(start_paused = true)]
async fn a_lease_in_other_hands_or_deleted_is_lost_at_once() {
    for gone in [false, true] {
        let mut replica = Replica::start(FOREVER);
        let start = Instant::now();
        let _ = replica.takes_it().await;
        let lost = replica.put().await;
        assert!(replica.writes());
        if gone {
            lost.refuse(404, "NotFound")
        } else {
            lost.refuse(409, "Conflict")
        }
        if !gone {
            replica.get().await.ok(lease("other", "50"));
            let next = replica.get().await;
            assert!(!replica.writes());
            assert_eq!(start.elapsed().as_secs(), 5);
            next.ok(lease("other", "50"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_stop_the_writers_end_and_then_the_lease_is_given_back() {
    let mut replica = Replica::start(FOREVER);
    let identity = replica.takes_it().await;
    let renew = replica.put().await;
    renew.ok(lease(&identity, "2"));
    tokio::task::yield_now().await;
    replica.stop.cancel();
    let release = replica.put().await;
    assert!(!replica.writes(), "nobody writes while the lease changes hands");
    assert!(replica.left.load(Ordering::SeqCst), "the last writes are made under the lease");
    assert_eq!((holder(&release), version(&release)), (String::new(), "2".to_owned()));
    release.ok(lease("", "3"));
    assert_eq!(replica.task.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_an_api_server_that_does_not_answer() {
    let mut replica = Replica::start(FOREVER);
    let _ = replica.takes_it().await;
    let _hangs = replica.put().await;
    let start = Instant::now();
    replica.stop.cancel();
    let _hangs_too = replica.put().await;
    assert_eq!(replica.task.await.unwrap(), Ok(()));
    assert!(start.elapsed() <= Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_dies_ends_the_leader_with_its_cause() {
    let mut replica = Replica::start(Duration::from_secs(1));
    let _ = replica.takes_it().await;
    let release = replica.put().await;
    assert_eq!(holder(&release), "");
    release.ok(lease("", "2"));
    assert_eq!(replica.task.await.unwrap(), Err("a writer died"));
    assert!(!replica.left.load(Ordering::SeqCst), "only a replica that stops leaves");
}

#[tokio::test(start_paused = true)]
async fn without_the_right_or_an_answer_it_keeps_asking() {
    let mut replica = Replica::start(FOREVER);
    let start = Instant::now();
    replica.get().await.refuse(403, "Forbidden");
    let hangs = replica.get().await;
    hangs.given_up().await;
    let _ = replica.get().await;
    assert!(start.elapsed() >= Duration::from_secs(7), "{:?}", start.elapsed());
    assert!(!replica.writes());
}
