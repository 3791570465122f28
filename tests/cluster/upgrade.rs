//! Changes of the release in use: an upgrade from an earlier chart, the values files, single values, and a rollback.

use crate::support::manifests::{deployment, pod};
use crate::support::release::{CHART, Release, armed, helm, in_force};
use crate::support::replicas::ours;
use crate::support::{Answer, LIMIT, Namespace, alone, image, kubectl, rig, wait_for};

/// A package of an earlier chart, without topologies, dashboards, alerts and failing closed.
const EARLIER: &str = "tests/cluster/earlier-chart.tgz";

/// Waits until the baseline is in force with this mode.
#[track_caller]
fn in_mode(mode: &str) {
    let mode = format!("--for=jsonpath={{.spec.mode}}={mode}");
    kubectl(&["wait", "clusterimagepolicies.tagpin.dev/baseline", &mode, "--timeout=90s"]).succeeded();
    in_force();
}

/// Checks that this many replicas are ready and that a pod is pinned, and returns the answer to a pod with a forbidden
/// tag.
#[track_caller]
fn works(namespace: &Namespace, name: &str, replicas: &str) -> Answer {
    assert_eq!(ours(&["get", "deployment", "tagpin", "--output=jsonpath={.status.readyReplicas}"]), replicas);
    namespace.apply(&pod(name, "web:1.4.2")).succeeded();
    assert!(image(&namespace.get("pod", name)).starts_with("web:1.4.2@sha256:"), "{name}");
    namespace.apply(&pod(&format!("{name}-latest"), "web:latest"))
}

#[test]
fn an_earlier_chart_is_upgraded_given_each_file_of_values_and_rolled_back() {
    let Some(rig) = rig::here("uninstalls tagpin") else { return };
    let _cluster = alone();
    let release = Release::found();
    helm(&["uninstall", "tagpin", "--wait", "--timeout", "90s"]).succeeded();
    release.install_earlier(EARLIER, "notFoundIsProof");
    let namespace = Namespace::new("upgrade");
    works(&namespace, "earlier", "2").refused_with("TagForbidden");
    // The earlier chart gives no right to the keys for marks, so pods are pinned without a mark.
    let tag = "docker.io/library/moving-upgrade:1.0.0";
    let first = rig.push(tag, "one");
    let web = |replicas| deployment("web", "moving-upgrade:1.0.0", replicas);
    namespace.apply(&web(1)).succeeded();
    let [unmarked] = &namespace.pods_when("app=web", 1)[..] else { panic!("not one pod") };
    assert_eq!(image(unmarked), format!("moving-upgrade:1.0.0@{first}"));
    assert_eq!(unmarked["metadata"]["annotations"].get("tagpin.dev/mark"), None);
    rig.push(tag, "two");

    // Upgrades to this chart. New pods are marked, and older pods count without a mark.
    release.install(CHART, &[]);
    armed();
    wait_for("the keys for marks", LIMIT, || {
        kubectl(&["-n", "tagpin-system", "get", "secret", "tagpin-pin-keys"]).ok.then_some(())
    });
    namespace.apply(&web(3)).succeeded();
    for pod in namespace.pods_when("app=web", 3) {
        assert_eq!(image(&pod), format!("moving-upgrade:1.0.0@{first}"));
        let marked = pod["metadata"]["annotations"].get("tagpin.dev/mark").is_some();
        assert_eq!(marked, pod["metadata"]["name"] != unmarked["metadata"]["name"]);
    }
    works(&namespace, "upgraded", "2").refused_with("TagForbidden");

    // Installs the chart's values files: for one small node, and for high availability.
    for (file, replicas) in [("values-edge.yaml", "1"), ("values-ha.yaml", "3")] {
        release.install(CHART, &["--values", &format!("{CHART}/{file}")]);
        works(&namespace, &format!("with-{replicas}"), replicas).refused_with("TagForbidden");
    }

    // Sets single values.
    release.install(CHART, &["--set", "replicas=3,baseline.mode=Warn"]);
    in_mode("Warn");
    let warned = works(&namespace, "warned", "3");
    assert!(warned.err.contains("[TagForbidden]"), "{warned:?}");
    warned.succeeded();

    // Rolls back to this chart with the values from before.
    helm(&["rollback", "tagpin", "2", "--wait", "--timeout", "90s"]).succeeded();
    in_mode("Enforce");
    works(&namespace, "back", "2").refused_with("TagForbidden");
}
