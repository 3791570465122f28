//! A policy that is applied after the workloads breaks no running workload.

use serde_json::Value;

use crate::support::manifests::{cron_job, pod_with, workload};
use crate::support::{LIMIT, Namespace, image, nodes, undisturbed, wait_for};

const STRICT: &str = "{ mode: Enforce, pin: { targets: [ Pods ] } }";

fn is_what_latest_names(pod: &Value) -> bool {
    image(pod).starts_with("web:latest@sha256:")
}

/// Applies a workload that violates the policy, then the policy, and then makes the workload's controller replace its
/// pods in several ways. `pods` is the number of its pods.
fn survives(kind: &str, fields: &str, pods: usize) {
    let lower = kind.to_lowercase();
    let namespace = Namespace::without_policy(&format!("late-{lower}"));
    namespace.apply(&workload(kind, "web", "web:latest", fields)).succeeded();
    let name = format!("{lower}/web");
    namespace.rolled_out(&name);
    namespace.policy("strict", STRICT);

    // A deleted pod is replaced by a pod with the digest that `latest` names now.
    namespace.kubectl(&["delete", "pods", "-l", "app=web", "--grace-period=1"]).succeeded();
    let found = namespace.pods_when("app=web", pods);
    assert!(found.iter().all(is_what_latest_names), "{found:?}");

    namespace.kubectl(&["rollout", "restart", &name]).succeeded();
    namespace.rolled_out(&name);
    namespace.kubectl(&["set", "env", &name, "COLOUR=blue"]).succeeded();
    namespace.rolled_out(&name);
    namespace.pods_when("app=web", pods);

    // Changes to a good tag, and back to the old revision, which has the forbidden tag.
    namespace.kubectl(&["set", "image", &name, "app=web:1.4.2"]).succeeded();
    namespace.rolled_out(&name);
    let undone = namespace.kubectl(&["rollout", "undo", &name]);
    assert!(
        undone.err.contains("TagForbidden"),
        "a warning names what an enforcing policy finds: {undone:?}"
    );
    undone.succeeded();
    namespace.rolled_out(&name);
    let found = namespace.pods_when("app=web", pods);
    assert!(found.iter().all(is_what_latest_names), "{found:?}");

    // A forbidden reference that no revision had is refused.
    namespace.kubectl(&["set", "image", &name, "app=web"]).refused_with("TagForbidden");
}

#[test]
fn a_deployment_with_recreate_survives() {
    let _cluster = undisturbed();
    survives("Deployment", "replicas: 1, strategy: { type: Recreate },", 1);
}

#[test]
fn a_stateful_set_survives() {
    let _cluster = undisturbed();
    survives("StatefulSet", "replicas: 1, serviceName: web,", 1);
}

#[test]
fn a_daemon_set_survives() {
    let _cluster = undisturbed();
    survives("DaemonSet", "", nodes());
}

#[test]
fn the_next_run_of_a_cron_job_runs() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("late-cronjob");
    namespace.apply(&cron_job("tick", "web:latest")).succeeded();
    namespace.policy("strict", STRICT);
    let pods = wait_for("the next run", LIMIT, || {
        let pods = namespace.pods("app=tick");
        (!pods.is_empty()).then_some(pods)
    });
    assert!(pods.iter().all(is_what_latest_names), "{pods:?}");
}

#[test]
fn a_pod_that_a_user_makes_with_a_copied_owner_is_judged_in_full() {
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("copied");
    namespace.apply(&workload("Deployment", "web", "web:latest", "replicas: 1,")).succeeded();
    let pod = namespace.pods_when("app=web", 1).remove(0);
    namespace.policy("strict", STRICT);
    let owner = pod["metadata"]["ownerReferences"][0].to_string();
    let document = pod_with("forged", "{ containers: [ { name: app, image: \"web:latest\" } ] }").replace(
        "metadata: { name: forged,",
        &format!("metadata: {{ name: forged, ownerReferences: [ {owner} ],"),
    );
    namespace.apply(&document).refused_with("TagForbidden");
}
