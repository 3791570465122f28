//! Deletion of the CRDs: no policy is left, so the webhook lists are emptied, and they are filled again without a
//! manual step once the CRDs are back.

use serde_json::Value;

use crate::support::manifests::pod;
use crate::support::release::{CHART, Release, armed, entries};
use crate::support::replicas::ours;
use crate::support::{LIMIT, Namespace, alone, kubectl, rig, wait_for};

/// Returns the names of the replicas that are ready and not terminating, with the number of restarts of each.
fn steady() -> Vec<(String, u64)> {
    let pods: Value = serde_json::from_str(&ours(&["get", "pods", "--output=json"])).unwrap();
    let steady = |pod: &Value| {
        let container = &pod["status"]["containerStatuses"][0];
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let stays = pod["metadata"]["deletionTimestamp"].is_null();
        (stays && container["ready"] == true).then_some((name, container["restartCount"].as_u64().unwrap()))
    };
    pods["items"].as_array().unwrap().iter().filter_map(steady).collect()
}

#[test]
fn without_definitions_replicas_stay_ready_and_allow_and_the_lists_are_emptied() {
    if rig::here("deletes every policy").is_none() {
        return;
    }
    let _cluster = alone();
    let release = Release::found();
    armed();
    let (ordinary, closed) = (Namespace::new("undefined"), Namespace::fail_closed("undefined-closed"));
    closed.apply(&pod("before", "web:latest")).refused();
    let replicas = wait_for("two replicas", LIMIT, || Some(steady()).filter(|replicas| replicas.len() == 2));
    let definitions = ["clusterimagepolicies.tagpin.dev", "imagepolicies.tagpin.dev"];
    kubectl(&[&["delete", "crd", "--timeout=90s"], &definitions[..]].concat()).succeeded();
    for namespace in [&ordinary, &closed] {
        // Each replica learns of the deletion by its own watch.
        wait_for("nothing refused", LIMIT, || namespace.apply(&pod("after", "web:latest")).ok.then_some(()));
    }
    wait_for("empty lists", LIMIT, || {
        let pinning = ["get", "mutatingwebhookconfiguration/zz-tagpin", "--output=jsonpath={.webhooks}"];
        (entries().is_empty() && kubectl(&pinning).succeeded().is_empty()).then_some(())
    });
    assert_eq!(steady(), replicas);

    release.install(CHART, &[]);
    armed();
    assert_eq!(steady(), replicas);
    closed.apply(&pod("again", "web:latest")).refused();
    ordinary.apply(&pod("again", "web:latest")).refused_with("TagForbidden");
}
