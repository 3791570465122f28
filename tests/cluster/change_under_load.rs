//! What admins and machines do to a cluster while it is asked all the time: nothing is lost.

use std::time::Instant;

use crate::support::load::{Load, LostKind};
use crate::support::replicas::{self, ours};
use crate::support::{Namespace, alone, rig};

#[test]
fn three_rolling_restarts_lose_nothing() {
    let _cluster = alone();
    let namespace = Namespace::new("restarts");
    let load = Load::start(&namespace);
    for _ in 0..3 {
        ours(&["rollout", "restart", "deployment/tagpin"]);
        ours(&["rollout", "status", "deployment/tagpin", "--timeout=90s"]);
    }
    load.goes_on(40);
    load.end().nothing_lost();
}

#[test]
fn a_replica_that_is_killed_loses_what_was_in_flight_there() {
    let Some(_rig) = rig::here("kills a process") else { return };
    let _cluster = alone();
    let namespace = Namespace::new("killed");
    let load = Load::start(&namespace);
    let replicas = replicas::when_ready(2);
    let (began, _) = (Instant::now(), replicas[0].kill());
    replicas[0].comes_back();
    let over = Instant::now();
    load.goes_on(100);
    let result = load.end();
    println!("{:?}", over - began);
    for lost in &result.counts.lost {
        println!("{:?} {:?} {:?}", lost.kind, lost.sent - began, lost.answered - began);
        assert!(matches!(lost.kind, LostKind::Unpinned | LostKind::Admitted), "{lost:?}");
        assert!(lost.answered >= began && lost.sent <= over, "{lost:?}");
    }
    assert!(result.counts.lost.len() <= result.api_server.failed_open, "{result}");
}
