//! An outage of a registry or of the leader: known tags still resolve.

use std::time::Instant;

use crate::support::manifests::{deployment, pod};
use crate::support::rig::{self, digest};
use crate::support::{LIMIT, Namespace, alone, image, kubectl, wait_for};

#[test]
fn known_tags_resolve_stale_and_unknown_ones_get_their_outcome_in_time() {
    let Some(rig) = rig::here("stops a registry") else { return };
    let _cluster = alone();
    let namespace = Namespace::new("outage");
    namespace.apply(&deployment("web", "web:1.4.1", 1)).succeeded();
    namespace.pods_when("app=web", 1);
    let known = digest("library/web", "1.4.1");
    let _gone = rig.stopped("registry-mirror");

    // The pod has no sibling, and the registry is down; the tag was resolved before.
    let answer = namespace.apply(&pod("again", "web:1.4.1"));
    answer.succeeded();
    assert_eq!(image(&namespace.get("pod", "again")), format!("web:1.4.1@{known}"));

    let started = Instant::now();
    let unknown = namespace.apply(&pod("unknown", "never-seen:3.2.1"));
    assert!(started.elapsed().as_secs() < 15, "{:?}", started.elapsed());
    assert!(unknown.err.contains("RegistryUnavailable"), "{unknown:?}");
    unknown.succeeded();
    assert_eq!(image(&namespace.get("pod", "unknown")), "never-seen:3.2.1");

    namespace.policy("strict", "{ mode: Enforce, resolution: { onUnavailable: Deny } }");
    let refused = namespace.apply(&pod("refused", "never-seen:3.2.2")).refused_with("RegistryUnavailable");
    assert!(refused.contains("try again in"), "{refused}");
}

#[test]
fn a_registry_that_dies_and_comes_back_while_pods_are_created_costs_none_of_them() {
    const PODS: usize = 10;
    let Some(rig) = rig::here("stops a registry") else { return };
    let _cluster = alone();
    let namespace = Namespace::new("returns");
    rig.push("docker.io/library/returning:1.0.0", "returning");
    let pinned = format!("web:1.4.1@{}", digest("library/web", "1.4.1"));
    let mut number = 0;
    // Creates a pod with a known tag, and a pod with a tag that nobody looked up before the registry stopped.
    let mut create = || {
        number += 1;
        let (known, unknown) = (format!("known-{number}"), format!("unknown-{number}"));
        namespace.apply(&pod(&known, "web:1.4.1")).succeeded();
        namespace.apply_again(&pod(&unknown, "returning:1.0.0"));
        assert_eq!(image(&namespace.get("pod", &known)), pinned);
        image(&namespace.get("pod", &unknown))
    };
    namespace.apply(&pod("first", "web:1.4.1")).succeeded();
    let gone = rig.stopped("registry-mirror");
    for _ in 0..PODS {
        assert_eq!(create(), "returning:1.0.0");
    }
    // The same replicas use the registry again without a restart.
    rig.rig(&["start", "registry-mirror"]).succeeded();
    wait_for("the tag to be pinned", LIMIT, || create().contains("@sha256:").then_some(()));
    drop(gone);
}

#[test]
fn digests_need_neither_a_registry_nor_a_leader() {
    let Some(rig) = rig::here("stops a registry") else { return };
    let _cluster = alone();
    let namespace = Namespace::new("digests");
    let written = format!("web:1.4.2@{}", digest("library/web", "1.4.2"));
    let _gone = rig.stopped("registry-mirror");
    let lease = ["-n", "tagpin-system", "get", "lease", "tagpin", "-o", "jsonpath={.spec.holderIdentity}"];
    let leader = kubectl(&lease).succeeded();
    let pods = kubectl(&["-n", "tagpin-system", "get", "pods", "-o", "name"]).succeeded();
    let pod_of_leader = pods
        .lines()
        .filter_map(|name| name.strip_prefix("pod/"))
        .find(|name| leader.starts_with(name))
        .unwrap_or_else(|| panic!("the leader {leader} is none of {pods}"));
    kubectl(&["-n", "tagpin-system", "delete", "pod", pod_of_leader, "--wait=false"]).succeeded();
    for number in 0..5 {
        let started = Instant::now();
        namespace.apply(&pod(&format!("web-{number}"), &written)).succeeded();
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
        assert_eq!(image(&namespace.get("pod", &format!("web-{number}"))), written);
    }
    wait_for("another leader", LIMIT, || {
        let now = kubectl(&lease).out;
        (!now.is_empty() && !now.starts_with(pod_of_leader)).then_some(())
    });
    kubectl(&["-n", "tagpin-system", "rollout", "status", "deployment/tagpin", "--timeout=90s"]).succeeded();
}
