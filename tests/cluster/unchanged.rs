//! Objects that are older than a policy: only their changed slots are judged.

use crate::support::manifests::{deployment, pod};
use crate::support::{LIMIT, Namespace, undisturbed, wait_for};

const STRICT: &str = "{ mode: Enforce, pin: { targets: [ Pods ] } }";

#[test]
fn an_old_deployment_that_violates_scales_is_labelled_and_deleted() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("old");
    namespace.apply(&deployment("web", "web:latest", 1)).succeeded();
    namespace.pods_when("app=web", 1);
    namespace.policy("strict", STRICT);
    namespace.kubectl(&["scale", "deployment/web", "--replicas=2"]).succeeded();
    namespace.pods_when("app=web", 2);
    namespace.kubectl(&["label", "deployment/web", "team=a"]).succeeded();
    namespace.kubectl(&["annotate", "deployment/web", "note=b"]).succeeded();
    let status = r#"{"status":{"conditions":[{"type":"Tested","status":"True"}]}}"#;
    namespace
        .kubectl(&["patch", "deployment/web", "--subresource=status", "--type=merge", "-p", status])
        .succeeded();
    namespace.kubectl(&["delete", "deployment/web", "--timeout=60s"]).succeeded();
    assert!(namespace.find("deployment", "web").is_none());
}

#[test]
fn a_finalizer_is_removed_from_an_old_pod_that_violates() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("finalizer");
    namespace.apply(&pod("web", "web:latest")).succeeded();
    let add = r#"{"metadata":{"finalizers":["tagpin.dev/test"]}}"#;
    namespace.kubectl(&["patch", "pod/web", "--type=merge", "-p", add]).succeeded();
    namespace.policy("strict", STRICT);
    namespace.kubectl(&["label", "pod/web", "team=a"]).succeeded();
    namespace.kubectl(&["delete", "pod/web", "--wait=false", "--grace-period=1"]).succeeded();
    let remove = r#"{"metadata":{"finalizers":null}}"#;
    namespace.kubectl(&["patch", "pod/web", "--type=merge", "-p", remove]).succeeded();
    wait_for("the pod is gone", LIMIT, || namespace.find("pod", "web").is_none().then_some(()));
}

#[test]
fn a_changed_slot_of_an_old_deployment_is_judged() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("changed");
    namespace.apply(&deployment("web", "web:1.4.2", 1)).succeeded();
    namespace.policy("strict", STRICT);
    namespace.kubectl(&["set", "image", "deployment/web", "app=web:latest"]).refused_with("TagForbidden");
}

#[test]
fn a_terminating_pod_takes_no_forbidden_image() {
    let _cluster = undisturbed();
    for namespace in [Namespace::new("terminating"), Namespace::fail_closed("terminating")] {
        namespace.apply_again(&pod("web", "web:1.4.2"));
        let add = r#"{"metadata":{"finalizers":["tagpin.dev/test"]}}"#;
        namespace.kubectl(&["patch", "pod/web", "--type=merge", "-p", add]).succeeded();
        namespace.kubectl(&["delete", "pod/web", "--wait=false", "--grace-period=60"]).succeeded();
        let message = namespace.kubectl(&["set", "image", "pod/web", "app=web:latest"]).refused();
        assert!(message.contains("[TagForbidden]"), "{message}");
        let remove = r#"{"metadata":{"finalizers":null}}"#;
        namespace.kubectl(&["patch", "pod/web", "--type=merge", "-p", remove]).succeeded();
        namespace.kubectl(&["delete", "pod/web", "--ignore-not-found", "--grace-period=1"]).succeeded();
        assert!(namespace.find("pod", "web").is_none());
    }
}
