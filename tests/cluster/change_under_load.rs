//! What admins and machines do to a cluster while it is asked all the time: nothing is lost.

use crate::support::load::Load;
use crate::support::{Namespace, alone, kubectl};

fn ours(args: &[&str]) -> String {
    kubectl(&[&["-n", "tagpin-system"], args].concat()).succeeded()
}

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
