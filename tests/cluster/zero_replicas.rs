//! No replica answers: ordinary namespaces work on unprotected, namespaces that fail closed refuse what cannot be
//! checked, and changes that leave images alone are possible in both.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::manifests::{deployment, pod};
use crate::support::release::{Away, armed, in_force};
use crate::support::replicas::ours;
use crate::support::{Namespace, alone, image, kubectl, ready};

/// Does what an unreachable webhook must never block.
fn goes_on(namespace: &Namespace) {
    namespace.kubectl(&["label", "deployment/web", "team=a"]).succeeded();
    namespace.kubectl(&["scale", "deployment/web", "--replicas=1"]).succeeded();
    namespace.pods_when("app=web", 1);
    let status = r#"{"status":{"conditions":[{"type":"tagpin.dev/Test","status":"True"}]}}"#;
    namespace.kubectl(&["patch", "pod/held", "--subresource=status", "-p", status]).succeeded();
    namespace.kubectl(&["delete", "pod/held", "--wait=false", "--grace-period=1"]).succeeded();
    let finalizers = r#"{"metadata":{"finalizers":null}}"#;
    namespace.kubectl(&["patch", "pod/held", "--type=merge", "-p", finalizers]).succeeded();
    namespace.wait("pod/held", "delete");
    namespace.kubectl(&["delete", "deployment/web", "--timeout=90s"]).succeeded();
    kubectl(&["delete", "namespace", &namespace.name, "--timeout=90s"]).succeeded();
}

fn prepared(namespace: &Namespace) {
    namespace.apply(&deployment("web", "web:1.4.2", 2)).succeeded();
    let finalizer = "app: held }, finalizers: [ tagpin.dev/test ]";
    namespace.apply(&pod("held", "web:1.4.2").replace("app: held }", finalizer)).succeeded();
    namespace.pods_when("app=web", 2);
}

#[test]
fn with_no_replica_only_what_asked_to_be_closed_is_and_only_for_images() {
    let _cluster = alone();
    armed();
    let (ordinary, closed) = (Namespace::new("zero"), Namespace::fail_closed("zero-closed"));
    prepared(&ordinary);
    prepared(&closed);
    let away = Away::new();
    // The last leader told so before it ended.
    let get = ["get", "clusterimagepolicies.tagpin.dev", "baseline", "-o", "json"];
    let policy: Value = serde_json::from_str(&kubectl(&get).succeeded()).unwrap();
    assert_eq!(ready(&policy).unwrap()["reason"], "Propagating", "{policy}");
    assert_eq!(ready(&policy).unwrap()["message"], "no replica of tagpin is ready", "{policy}");

    ordinary.apply(&pod("new", "web:latest")).succeeded();
    assert_eq!(image(&ordinary.get("pod", "new")), "web:latest");
    let asked = Instant::now();
    let refused = closed.apply(&pod("new", "web:1.4.2")).refused();
    assert!(refused.contains("failed calling webhook \"validate-strict.tagpin.dev\""), "{refused}");
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    let scaled_up = ["scale", "deployment/web", "--replicas=3"];
    closed.kubectl(&scaled_up).succeeded();
    goes_on(&ordinary);
    goes_on(&closed);

    drop(away);
    ours(&["rollout", "status", "deployment/tagpin", "--timeout=90s"]);
    in_force();
}
