//! Refusals, with the messages that people read.

use crate::support::doctor::noted;
use crate::support::manifests::{deployment, job, pod, pod_with, stateful_set};
use crate::support::release::OtherValues;
use crate::support::replicas::{none_is_leaving, ours, reached};
use crate::support::rig::{self, digest};
use crate::support::{Namespace, alone, undisturbed};

#[test]
fn latest_is_refused_in_every_spelling() {
    let Some(_rig) = rig::here("has these images") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("latest");
    let digest = digest("library/web", "latest");
    let spellings = [
        "web:latest".to_owned(),
        "web".to_owned(),
        "library/web:latest".to_owned(),
        "docker.io/web".to_owned(),
        "docker.io/library/web:latest".to_owned(),
        "index.docker.io/library/web:latest".to_owned(),
        format!("web:latest@{digest}"),
        format!("docker.io/library/web:latest@{digest}"),
    ];
    for spelling in &spellings {
        let message = namespace.apply(&pod("web", spelling)).refused_with("TagForbidden");
        assert!(message.contains("clusterimagepolicy/baseline, rule tags"), "{message}");
        namespace.apply(&deployment("web", spelling, 1)).refused_with("TagForbidden");
    }
    assert_eq!(namespace.pods("app=web").len(), 0);
}

#[test]
fn latest_is_refused_with_the_version_that_it_names_now() {
    let Some(_rig) = rig::here("has these images") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("try");
    let message = namespace.apply(&deployment("web", "web:latest", 1)).refused_with("TagForbidden");
    assert!(message.contains("try:    web:1.4.2"), "{message}");
    assert!(message.contains(&digest("library/web", "1.4.2")[..15]), "{message}");
}

#[test]
fn a_tag_that_does_not_exist_is_refused_with_those_that_look_like_it() {
    let Some(_rig) = rig::here("has these images") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("missing");
    let message = namespace.apply(&stateful_set("web", "web:1.4.9", 1)).refused_with("TagNotFound");
    assert!(message.contains("did you mean:"), "{message}");
    assert!(message.contains("1.4.2"), "{message}");
}

#[test]
fn a_repository_that_does_not_exist_is_refused() {
    let Some(_rig) = rig::here("has these images") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("nowhere");
    namespace.apply(&job("once", "no-such-repository:1.0.0")).refused_with("RepositoryNotFound");
}

#[test]
fn all_failing_slots_are_named_at_once() {
    let Some(_rig) = rig::here("has these images") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("all");
    let spec = "{ initContainers: [ { name: migrate, image: \"web:9.9.9\" } ], \
                  containers: [ { name: app, image: \"web:latest\" }, { name: bad, image: \"Web:1\" }, { name: good, image: \"web:1.4.2\" } ] }";
    let message = namespace.apply(&pod_with("web", spec)).refused_with("TagForbidden");
    assert!(message.contains("(init container migrate)") && message.contains("[TagNotFound]"), "{message}");
    assert!(message.contains("(container bad)") && message.contains("[ReferenceInvalid]"), "{message}");
    assert!(!message.contains("(container good)"), "{message}");
}

#[test]
fn the_causes_are_there_for_programs() {
    let Some(_rig) = rig::here("has these images") else { return };
    let _cluster = undisturbed();
    let namespace = Namespace::new("causes");
    let answer = namespace.kubectl_with(&["-v=8", "create", "-f", "-"], &pod("web", "web:latest"));
    let log = answer.refused();
    assert!(log.contains("\"reason\":\"TagForbidden\""), "{log}");
    assert!(log.contains("\"field\":\"spec.containers[0].image\""), "{log}");
}

#[test]
fn a_runner_that_is_refused_again_and_again_is_named_and_the_printed_exception_lets_it_pass() {
    let Some(_rig) = rig::here("has these images") else { return };
    let _cluster = alone();
    // New replicas have not been told what other tests were refused.
    ours(&["rollout", "restart", "deployment/tagpin"]);
    ours(&["rollout", "status", "deployment/tagpin", "--timeout=120s"]);
    none_is_leaving();
    reached();
    let namespace = Namespace::new("runner");
    namespace.kubectl(&["create", "serviceaccount", "runner"]).succeeded();
    let account = format!("--serviceaccount={}:runner", namespace.name);
    namespace.kubectl(&["create", "rolebinding", "runner", "--clusterrole=edit", &account]).succeeded();
    let user = format!("system:serviceaccount:{}:runner", namespace.name);
    let sent_as = format!("--as={user}");
    let create = |number: u32| {
        let document = pod(&format!("job-{number}"), "web:latest");
        namespace.kubectl_with(&[&sent_as, "create", "-f", "-"], &document)
    };
    for number in 0..12 {
        create(number).refused_with("TagForbidden");
    }
    let remedy = noted("refused", &format!("{user} is refused 12 times: Pod in {}", namespace.name));
    let pasted = OtherValues::typed(&remedy);
    create(12).succeeded();
    namespace.kubectl_with(&["create", "-f", "-"], &pod("other", "web:latest")).refused_with("TagForbidden");
    drop(pasted);
}
