//! The release changes under those who use the cluster: from an earlier chart, by the files of values and single
//! values, and back.

use crate::support::manifests::pod;
use crate::support::release::{CHART, Release, armed, helm, in_force};
use crate::support::replicas::ours;
use crate::support::{Answer, Namespace, alone, image, kubectl, rig};

/// The chart before it knew of topologies, dashboards, alerts and failing closed, as `helm package` packed it then.
const EARLIER: &str = "tests/cluster/earlier-chart.tgz";

/// Waits until the baseline is in force with this mode.
#[track_caller]
fn in_mode(mode: &str) {
    let mode = format!("--for=jsonpath={{.spec.mode}}={mode}");
    kubectl(&["wait", "clusterimagepolicies.tagpin.dev/baseline", &mode, "--timeout=90s"]).succeeded();
    in_force();
}

/// So many replicas are ready, a pod is pinned; the answer to one with a forbidden tag.
#[track_caller]
fn works(namespace: &Namespace, name: &str, replicas: &str) -> Answer {
    assert_eq!(ours(&["get", "deployment", "tagpin", "--output=jsonpath={.status.readyReplicas}"]), replicas);
    namespace.apply(&pod(name, "web:1.4.2")).succeeded();
    assert!(image(&namespace.get("pod", name)).starts_with("web:1.4.2@sha256:"), "{name}");
    namespace.apply(&pod(&format!("{name}-latest"), "web:latest"))
}

#[test]
fn an_earlier_chart_is_upgraded_given_each_file_of_values_and_rolled_back() {
    if rig::here("uninstalls tagpin").is_none() {
        return;
    }
    let _cluster = alone();
    let release = Release::found();
    helm(&["uninstall", "tagpin", "--wait", "--timeout", "90s"]).succeeded();
    release.install(EARLIER, &[]);
    let namespace = Namespace::new("upgrade");
    works(&namespace, "earlier", "2").refused_with("TagForbidden");

    // To this chart.
    release.install(CHART, &[]);
    armed();
    works(&namespace, "upgraded", "2").refused_with("TagForbidden");

    // The values that come with it: for one small node, and for high availability.
    for (file, replicas) in [("values-edge.yaml", "1"), ("values-ha.yaml", "3")] {
        release.install(CHART, &["--values", &format!("{CHART}/{file}")]);
        works(&namespace, &format!("with-{replicas}"), replicas).refused_with("TagForbidden");
    }

    // Another value on top.
    release.install(CHART, &["--set", "replicas=3,baseline.mode=Warn"]);
    in_mode("Warn");
    let warned = works(&namespace, "warned", "3");
    assert!(warned.err.contains("[TagForbidden]"), "{warned:?}");
    warned.succeeded();

    // And back to where it came from.
    helm(&["rollback", "tagpin", "2", "--wait", "--timeout", "90s"]).succeeded();
    in_mode("Enforce");
    works(&namespace, "back", "2").refused_with("TagForbidden");
}
