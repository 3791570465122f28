//! A quiet cluster: a ready replica answers.

use std::time::Duration;

use tokio::runtime;
use tokio::time::timeout;

use crate::support::alone;
use crate::support::replicas::{none_is_leaving, ours, when_ready};
use crate::support::webhook::{Door, Published};

/// Time limit for the handshake of a ready replica.
const AT_ONCE: Duration = Duration::from_secs(2);

#[test]
fn each_replica_that_is_ready_answers_at_once_though_nothing_else_happens() {
    let _cluster = alone();
    let published = Published::now();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..2 {
        ours(&["scale", "deployment/tagpin", "--replicas=1"]);
        when_ready(1);
        none_is_leaving();
        ours(&["scale", "deployment/tagpin", "--replicas=2"]);
        for replica in when_ready(2) {
            let door = Door::of(&replica, &published);
            let opened = runtime.block_on(async { timeout(AT_ONCE, door.open()).await });
            let opened = opened.unwrap_or_else(|_| panic!("{} is ready and deaf", replica.name));
            assert!(opened.is_ok(), "{}: {:?}", replica.name, opened.err());
        }
    }
}
