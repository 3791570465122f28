//! Pins: pods run by digest, whoever creates them, and the templates of workloads stay as their authors wrote them.

use serde_json::Value;

use crate::support::manifests::{
    container, cron_job, daemon_set, deployment, job, pod, pod_with, stateful_set,
};
use crate::support::rig::{self, digest};
use crate::support::{LIMIT, Namespace, image, images, nodes, originals, undisturbed, wait_for};

fn pinned() -> String {
    format!("web:1.4.2@{}", digest("library/web", "1.4.2"))
}

fn assert_pinned(pod: &Value) {
    assert_eq!(image(pod), pinned());
    assert_eq!(originals(pod)["containers/app"], "web:1.4.2");
}

fn template_image(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]["containers"][0]["image"]
}

#[test]
fn pods_of_a_deployment_are_pinned_and_run_and_the_deployment_is_untouched() {
    let Some(_rig) = rig::here("knows the digests of its registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("deployment");
    namespace.apply(&deployment("web", "web:1.4.2", 2)).succeeded();
    namespace.wait("deployment/web", "condition=Available");
    namespace.pods_when("app=web", 2).iter().for_each(assert_pinned);
    assert_eq!(template_image(&namespace.get("deployment", "web")), "web:1.4.2");
    let sets: Value =
        serde_json::from_str(&namespace.kubectl(&["get", "replicasets", "-o", "json"]).succeeded()).unwrap();
    assert_eq!(template_image(&sets["items"][0]), "web:1.4.2");
}

#[test]
fn pods_of_a_stateful_set_are_pinned() {
    let Some(_rig) = rig::here("knows the digests of its registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("statefulset");
    namespace.apply(&stateful_set("web", "web:1.4.2", 2)).succeeded();
    namespace.pods_when("app=web", 2).iter().for_each(assert_pinned);
    assert_eq!(template_image(&namespace.get("statefulset", "web")), "web:1.4.2");
}

#[test]
fn pods_of_a_daemon_set_are_pinned() {
    let Some(_rig) = rig::here("knows the digests of its registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("daemonset");
    namespace.apply(&daemon_set("web", "web:1.4.2")).succeeded();
    namespace.pods_when("app=web", nodes()).iter().for_each(assert_pinned);
}

#[test]
fn the_pod_of_a_job_is_pinned() {
    let Some(_rig) = rig::here("knows the digests of its registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("job");
    namespace.apply(&job("once", "web:1.4.2")).succeeded();
    namespace.pods_when("app=once", 1).iter().for_each(assert_pinned);
    namespace.wait("job/once", "condition=Complete");
}

#[test]
fn the_pod_of_a_cron_job_is_pinned() {
    let Some(_rig) = rig::here("knows the digests of its registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("cronjob");
    namespace.apply(&cron_job("tick", "web:1.4.2")).succeeded();
    let pods = wait_for("the first run", LIMIT, || {
        let pods = namespace.pods("app=tick");
        (!pods.is_empty()).then_some(pods)
    });
    pods.iter().for_each(assert_pinned);
}

#[test]
fn a_bare_pod_is_pinned_and_runs() {
    let Some(_rig) = rig::here("knows the digests of its registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("bare");
    namespace.apply(&pod("web", "web:1.4.2")).succeeded();
    assert_pinned(&namespace.get("pod", "web"));
    namespace.wait("pod/web", "condition=Ready");
}

#[test]
fn a_name_without_a_tag_gets_a_digest_and_no_tag() {
    let Some(_rig) = rig::here("knows the digests of its registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::without_policy("untagged");
    namespace
        .policy("all", "{ mode: Enforce, rules: { tags: { forbidden: [] } }, pin: { targets: [ Pods ] } }");
    namespace.apply(&pod("web", "docker.io/library/web")).succeeded();
    let pod = namespace.get("pod", "web");
    assert_eq!(image(&pod), format!("docker.io/library/web@{}", digest("library/web", "latest")));
    assert_eq!(originals(&pod)["containers/app"], "docker.io/library/web");
}

#[test]
fn init_containers_sidecars_and_image_volumes_are_pinned_and_run() {
    let Some(_rig) = rig::here("knows the digests of its registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("slots");
    let spec = format!(
        "{{ initContainers: [ {{ name: first, image: \"tool:1.0.0\", command: [ /bin/true ] }}, \
            {{ name: side, image: \"sidecar:1.0.0\", restartPolicy: Always, command: [ /bin/sh, -c, \"while :; do sleep 1; done\" ] }} ], \
           containers: [ {} ], volumes: [ {{ name: data, image: {{ reference: \"multi:2.0.1\" }} }} ], terminationGracePeriodSeconds: 1 }}",
        container("app", "web:1.4.2")
    );
    namespace.apply(&pod_with("all", &spec)).succeeded();
    let pod = namespace.get("pod", "all");
    let tool = format!("tool:1.0.0@{}", digest("library/tool", "1.0.0"));
    let sidecar = format!("sidecar:1.0.0@{}", digest("library/sidecar", "1.0.0"));
    let multi = format!("multi:2.0.1@{}", digest("library/multi", "2.0.1"));
    assert_eq!(pod["spec"]["initContainers"][0]["image"], tool.as_str());
    assert_eq!(pod["spec"]["initContainers"][1]["image"], sidecar.as_str());
    assert_eq!(images(&pod), [pinned()]);
    assert_eq!(pod["spec"]["volumes"][0]["image"]["reference"], multi.as_str());
    let original = originals(&pod);
    assert_eq!(original["initContainers/side"], "sidecar:1.0.0");
    assert_eq!(original["volumes/data"], "multi:2.0.1");
    namespace.wait("pod/all", "condition=Ready");
}

#[test]
fn an_index_stays_an_index_with_or_without_attestations_and_the_node_runs_it() {
    let Some(_rig) = rig::here("knows the digests of its registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("index");
    for (name, tag) in [("multi", "2.0.1"), ("attested", "1.0.0")] {
        namespace.apply(&pod(name, &format!("{name}:{tag}"))).succeeded();
        let seen = namespace.get("pod", name);
        assert_eq!(image(&seen), format!("{name}:{tag}@{}", digest(&format!("library/{name}"), tag)));
        namespace.wait(&format!("pod/{name}"), "condition=Ready");
    }
}

#[test]
fn a_digest_that_the_author_wrote_is_left_as_it_is() {
    let Some(_rig) = rig::here("knows the digests of its registry") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("authored");
    let written = pinned();
    namespace.apply(&pod("web", &written)).succeeded();
    let pod = namespace.get("pod", "web");
    assert_eq!(image(&pod), written);
    assert_eq!(originals(&pod), Value::Null);
}
