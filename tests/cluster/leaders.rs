//! Change of the leader, after a stop or a kill: another replica writes soon, and never two at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::support::audit::{Audit, Request, one_writer_at_a_time};
use crate::support::load::Load;
use crate::support::replicas::{self, ours};
use crate::support::{LIMIT, Namespace, alone, rig, wait_for};

/// Time limit for the first write of the next leader after a stopped leader gave the Lease back.
const AFTER_A_STOP: Duration = Duration::from_secs(2);
/// Time limit for the first write of the next leader after a leader was killed.
const AFTER_A_DEATH: Duration = Duration::from_secs(20);

/// Changes a policy, and waits until the leader has written its status.
#[track_caller]
fn stir(namespace: &Namespace) {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let tag = TURN.fetch_add(1, Ordering::Relaxed);
    namespace
        .policy("stirred", &format!("{{ mode: Audit, rules: {{ tags: {{ forbidden: [ \"{tag}\" ] }} }} }}"));
}

/// Stirs until another replica leads, and then three times more.
#[track_caller]
fn stir_until_another_leads(before: &str, namespace: &Namespace) {
    wait_for("another leader", LIMIT, || {
        stir(namespace);
        let now = replicas::holder();
        (!now.is_empty() && now != before).then_some(())
    });
    for _ in 0..3 {
        stir(namespace);
    }
}

/// Returns the first write after this time, apart from writes to the Lease.
fn first_of_another(requests: &[Request], after: Timestamp) -> &Request {
    let mut writes = requests.iter().filter(|request| request.is_write() && !request.is_lease());
    writes.find(|write| write.done > after).unwrap_or_else(|| panic!("nobody wrote: {requests:?}"))
}

#[test]
fn after_a_leader_that_is_told_to_stop_another_writes_within_two_seconds() {
    let Some(rig) = rig::here("reads the audit log") else { return };
    let _cluster = alone();
    let namespace = Namespace::new("stopped-leader");
    let load = Load::start(&namespace);
    let audit = Audit::start(&rig);
    let (leader, holder) = (replicas::leader(), replicas::holder());
    stir(&namespace);
    ours(&["delete", "pod", &leader.name, "--wait=false"]);
    stir_until_another_leads(&holder, &namespace);
    replicas::when_ready(2);
    load.end().nothing_lost();

    let requests = audit.requests();
    one_writer_at_a_time(&requests, &leader.name);
    let mut own = requests.iter().filter(|request| request.pod == leader.name && request.is_lease());
    let release = own.next_back().unwrap_or_else(|| panic!("the leader wrote no lease: {requests:?}"));
    let next = first_of_another(&requests, release.done);
    assert_ne!(next.pod, leader.name);
    let took = Duration::try_from(next.done - release.done).unwrap();
    eprintln!("another wrote {took:?} after the lease was given back");
    assert!(took < AFTER_A_STOP, "{took:?}");
}

#[test]
fn after_a_leader_that_is_killed_another_writes_within_twenty_seconds() {
    let Some(rig) = rig::here("kills a process and reads the audit log") else { return };
    let _cluster = alone();
    let namespace = Namespace::new("killed-leader");
    let load = Load::start(&namespace);
    let audit = Audit::start(&rig);
    let (leader, holder) = (replicas::leader(), replicas::holder());
    stir(&namespace);
    leader.kill();
    let killed = Timestamp::now();
    stir_until_another_leads(&holder, &namespace);
    leader.comes_back();
    load.goes_on(40);
    drop(load);

    let requests = audit.requests();
    one_writer_at_a_time(&requests, &leader.name);
    let took = Duration::try_from(first_of_another(&requests, killed).done - killed).unwrap();
    eprintln!("another wrote {took:?} after the leader was killed");
    assert!(took < AFTER_A_DEATH, "{took:?}");
}
