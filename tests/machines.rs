//! Power failures of the whole rig and of one node: everything comes back without a manual step.
//!
//! `cargo xtask rig test` runs these tests after the cluster tests, one by one and outside the rig, because nothing
//! inside survives a reboot.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::env;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

/// Time limit for a condition on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs `cargo xtask rig ARGS` with this standard input.
fn rig(args: &[&str], input: &str) -> Output {
    let xtask = env::var("TAGPIN_XTASK").expect("run it by `cargo xtask rig test`");
    let mut rig = Command::new(xtask);
    rig.arg("rig").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut rig = rig.spawn().unwrap();
    rig.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    rig.wait_with_output().unwrap()
}

fn kubectl(args: &[&str], input: &str) -> Output {
    rig(&[&["exec", "--", "kubectl"], args].concat(), input)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the standard output of a command that must succeed.
#[track_caller]
fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn wait_for<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(value) = seen() {
            return value;
        }
        assert!(Instant::now() < end, "waited {} s for: {what}", LIMIT.as_secs());
        thread::park_timeout(Duration::from_millis(500));
    }
}

/// Returns the ready pods of this namespace whose containers started at or after this time, without terminating pods.
fn ready_since(namespace: &str, since: Timestamp) -> Vec<Value> {
    let list = kubectl(&["-n", namespace, "get", "pods", "-o", "json"], "");
    let list: Value = serde_json::from_slice(&list.stdout).unwrap_or_default();
    let pods = list["items"].as_array().cloned().unwrap_or_default();
    let ready = |pod: &Value| {
        let container = &pod["status"]["containerStatuses"][0];
        let started = container["state"]["running"]["startedAt"].as_str();
        let started = started.is_some_and(|at| at.parse::<Timestamp>().unwrap() >= since);
        started && container["ready"] == true && pod["metadata"].get("deletionTimestamp").is_none()
    };
    pods.into_iter().filter(ready).collect()
}

fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap()
}

/// Creates an ordinary namespace and one that fails closed, each with a Deployment of two pods, and waits until tagpin
/// is armed.
fn namespaces(test: &str) -> [String; 2] {
    let names = [test.to_owned(), format!("{test}-closed")];
    for (namespace, closed) in names.iter().zip(["false", "true"]) {
        ok(kubectl(&["create", "namespace", namespace], ""));
        ok(kubectl(&["label", "namespace", namespace, &format!("tagpin.dev/fail-closed={closed}")], ""));
        ok(create(namespace, "web", "web:1.4.2"));
        wait_for("two pods", || (ready_since(namespace, Timestamp::UNIX_EPOCH).len() == 2).then_some(()));
    }
    let strict = "--for=jsonpath={.webhooks[1].name}=validate-strict.tagpin.dev";
    ok(kubectl(&["wait", "validatingwebhookconfiguration/tagpin", strict, "--timeout=90s"], ""));
    names
}

/// Waits until tagpin refuses and pins in both namespaces, and deletes them.
fn on_guard(namespaces: &[String; 2]) {
    for (namespace, webhook) in namespaces.iter().zip(["validate.tagpin.dev", "validate-strict.tagpin.dev"]) {
        let refused = wait_for("a refusal", || {
            let answer = create(namespace, "latest", "web:latest");
            if answer.status.success() {
                ok(kubectl(&["-n", namespace, "delete", "deployment", "latest"], ""));
            }
            let said = text(&answer.stderr);
            said.contains("[TagForbidden]").then_some(said)
        });
        assert!(refused.contains(webhook), "{refused}");
        ok(create(namespace, "new", "web:1.4.1"));
        wait_for("new pods with a digest", || {
            let pods = ready_since(namespace, Timestamp::UNIX_EPOCH);
            (pods.iter().filter(|pod| image(pod).starts_with("web:1.4.1@sha256:")).count() == 2).then_some(())
        });
        ok(kubectl(&["delete", "namespace", namespace, "--timeout=90s"], ""));
    }
}

/// Creates a Deployment of two pods, and returns the outcome.
fn create(namespace: &str, name: &str, image: &str) -> Output {
    kubectl(&["-n", namespace, "create", "deployment", name, "--replicas=2", "--image", image], "")
}

#[test]
fn a_rig_whose_plug_was_pulled_comes_back_in_namespaces_of_both_sorts() {
    let namespaces = namespaces("reboot");
    // Without the controller manager, the third pods are created only while everything boots, and tagpin may not be
    // ready then.
    ok(rig(&["stop", "kube-controller-manager"], ""));
    for namespace in &namespaces {
        ok(kubectl(&["-n", namespace, "scale", "deployment/web", "--replicas=3"], ""));
    }
    // The start times of containers have whole seconds.
    let unplugged = Timestamp::from_second(Timestamp::now().as_second() + 1).unwrap();
    ok(rig(&["down"], ""));
    ok(rig(&["up"], ""));

    wait_for("tagpin", || (ready_since("tagpin-system", unplugged).len() == 2).then_some(()));
    for namespace in &namespaces {
        let pods = wait_for(&format!("three pods of {namespace}"), || {
            let pods = ready_since(namespace, unplugged);
            (pods.len() == 3).then_some(pods)
        });
        let pinned = pods.iter().filter(|pod| image(pod).starts_with("web:1.4.2@sha256:")).count();
        // The third pod may have been created before tagpin was ready.
        assert!(pinned >= 2, "{namespace}: {pinned}");
    }
    on_guard(&namespaces);
}

/// Waits until each node has a ready replica, and returns their names by node.
fn spread() -> BTreeMap<String, String> {
    wait_for("a replica on each node", || {
        let pods = ready_since("tagpin-system", Timestamp::UNIX_EPOCH);
        let text = |pod: &Value, field: &str| pod.pointer(field).unwrap().as_str().unwrap().to_owned();
        let stay = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let replicas: BTreeMap<_, _> =
            stay.map(|pod| (text(pod, "/spec/nodeName"), text(pod, "/metadata/name"))).collect();
        (replicas.len() == 2).then_some(replicas)
    })
}

/// Returns the name of the pod that leads.
fn leader() -> String {
    let holder = ["-n", "tagpin-system", "get", "lease", "tagpin", "-o", "jsonpath={.spec.holderIdentity}"];
    ok(kubectl(&holder, "")).split('_').next().unwrap().to_owned()
}

#[test]
fn a_second_node_that_is_lost_with_the_leader_leaves_tagpin_to_the_first() {
    ok(rig(&["down"], ""));
    ok(rig(&["up", "--nodes", "2"], ""));
    // A restart spreads the replicas over the nodes.
    ok(kubectl(&["-n", "tagpin-system", "rollout", "restart", "deployment/tagpin"], ""));
    ok(kubectl(&["-n", "tagpin-system", "rollout", "status", "deployment/tagpin", "--timeout=120s"], ""));
    let replicas = wait_for("the leader on the second node", || {
        let (replicas, leads) = (spread(), leader());
        if replicas["rig"] == leads {
            ok(kubectl(&["-n", "tagpin-system", "delete", "pod", &leads], ""));
        }
        (replicas["rig-2"] == leads).then_some(replicas)
    });
    let namespaces = namespaces("lost");

    ok(rig(&["stop", "rig-2"], ""));
    // An ordinary namespace waits no longer than two webhook timeouts.
    let asked = Instant::now();
    ok(create(&namespaces[0], "meanwhile", "web:1.4.2"));
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    // A namespace that fails closed is open again within 90 s.
    wait_for("a Deployment where it fails closed", || {
        create(&namespaces[1], "meanwhile", "web:1.4.2").status.success().then_some(())
    });
    assert!(asked.elapsed() < Duration::from_secs(90), "{:?}", asked.elapsed());
    ok(kubectl(&["wait", "node/rig-2", "--for=condition=Ready=Unknown", "--timeout=120s"], ""));
    wait_for("another leader", || (leader() != replicas["rig-2"]).then_some(()));
    for namespace in &namespaces {
        ok(create(namespace, "after", "web:1.4.1"));
        wait_for("two pods with a digest on the first node", || {
            let pods = ready_since(namespace, Timestamp::UNIX_EPOCH);
            let good = |pod: &&Value| {
                image(pod).starts_with("web:1.4.1@sha256:") && pod["spec"]["nodeName"] == "rig"
            };
            (pods.iter().filter(good).count() == 2).then_some(())
        });
        ok(kubectl(&["-n", namespace, "delete", "deployment", "after"], ""));
    }

    ok(rig(&["start", "rig-2"], ""));
    spread();
    on_guard(&namespaces);
}
