//! Ephemeral containers: debugging is never refused, unless a policy selects them.

use crate::support::manifests::pod;
use crate::support::rig::{self, digest};
use crate::support::{Namespace, kubectl, undisturbed};

const MATCHING: &str =
    "{ mode: Enforce, match: { slots: [ Container, EphemeralContainer ] }, pin: { targets: [ Pods ] } }";

#[test]
fn the_baseline_leaves_debugging_alone() {
    let _cluster = undisturbed();
    let namespace = Namespace::new("debug");
    namespace.apply(&pod("web", "web:1.4.2")).succeeded();
    namespace.wait("pod/web", "condition=Ready");
    namespace.kubectl(&["debug", "web", "--image=tool:latest", "--", "/bin/true"]).succeeded();
}

#[test]
fn under_a_policy_that_matches_them_they_are_refused_and_pinned_as_others_are() {
    let Some(_rig) = rig::here("knows the digests of its registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("ephemeral");
    namespace.policy("strict", MATCHING);
    namespace.apply(&pod("web", "web:1.4.2")).succeeded();
    namespace.wait("pod/web", "condition=Ready");
    namespace
        .kubectl(&["debug", "web", "--image=web:latest", "--", "/bin/true"])
        .refused_with("TagForbidden");
    namespace.kubectl(&["debug", "web", "--image=web", "--", "/bin/true"]).refused_with("TagForbidden");
    namespace.kubectl(&["debug", "web", "--image=web:9.9.9", "--", "/bin/true"]).refused_with("TagNotFound");
    namespace.kubectl(&["debug", "web", "--image=tool:1.0.0", "--", "/bin/true"]).succeeded();
    let pod = namespace.get("pod", "web");
    let ephemeral = pod["spec"]["ephemeralContainers"].as_array().unwrap();
    assert_eq!(ephemeral.len(), 1);
    assert_eq!(ephemeral[0]["image"], format!("tool:1.0.0@{}", digest("library/tool", "1.0.0")).as_str());
    // A second ephemeral container does not make tagpin judge or change the first one.
    namespace.kubectl(&["debug", "web", "--image=sidecar:1.0.0", "--", "/bin/true"]).succeeded();
    let pod = namespace.get("pod", "web");
    let ephemeral = pod["spec"]["ephemeralContainers"].as_array().unwrap();
    assert_eq!(ephemeral.len(), 2);
    assert_eq!(
        ephemeral[1]["image"],
        format!("sidecar:1.0.0@{}", digest("library/sidecar", "1.0.0")).as_str()
    );
}

#[test]
fn a_warning_policy_warns_of_them() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("ephemeral-warn");
    namespace.policy("soft", "{ mode: Warn, match: { slots: [ EphemeralContainer ] } }");
    namespace.apply(&pod("web", "web:1.4.2")).succeeded();
    namespace.wait("pod/web", "condition=Ready");
    let answer = namespace.kubectl(&["debug", "web", "--image=tool:latest", "--", "/bin/true"]);
    assert!(answer.err.contains("TagForbidden"), "{answer:?}");
    answer.succeeded();
}

#[test]
fn a_debugging_pod_that_is_refused_says_which_command_to_type() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("debug-pods");
    namespace.policy("strict", "{ mode: Enforce, rules: { existence: Ignore } }");
    let nodes = kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]).succeeded();
    let node = format!("node/{}", nodes.trim());
    let said = namespace.kubectl(&["debug", &node, "--image=web", "--", "/bin/true"]).refused();
    assert!(
        said.contains("TagForbidden") && said.contains("kubectl debug node/NODE -it --image=web:"),
        "{said}"
    );
    // The command, with a version of the image.
    namespace.kubectl(&["debug", &node, "--image=web:1.4.2", "--", "/bin/true"]).succeeded();

    namespace.apply(&pod("web", "web:1.4.2")).succeeded();
    let copy = ["debug", "web", "--copy-to=web-copy"];
    let said = namespace.kubectl(&[&copy[..], &["--image=web", "--", "/bin/true"]].concat()).refused();
    assert!(said.contains("kubectl debug POD -it --copy-to=NAME --image=web:"), "{said}");
    namespace.kubectl(&[&copy[..], &["--image=web:1.4.2", "--", "/bin/true"]].concat()).succeeded();
}
