//! All pods of a revision have one digest, even if the tag moves or the registry stops.

use std::time::{Duration, Instant};

use crate::support::manifests::{deployment, pod, stateful_set};
use crate::support::rig;
use crate::support::{LIMIT, Namespace, alone, image, originals, undisturbed, wait_for};

/// Returns a repository for one test, so that tests can move tags in parallel.
fn moving(test: &str) -> (String, String) {
    let repository = format!("library/moving-{test}");
    (format!("docker.io/{repository}:1.0.0"), format!("moving-{test}:1.0.0"))
}

#[test]
fn a_tag_that_moved_gives_a_scaled_deployment_one_digest_and_a_new_template_the_new_one() {
    let Some(rig) = rig::here("moves a tag") else { return };
    let _cluster = alone();
    let (full, short) = moving("scale");
    let first = rig.push(&full, "one");
    let namespace = Namespace::new("scale");
    namespace.apply(&deployment("web", &short, 1)).succeeded();
    namespace.pods_when("app=web", 1);
    let second = rig.push(&full, "two");
    assert_ne!(first, second);

    namespace.kubectl(&["scale", "deployment/web", "--replicas=3"]).succeeded();
    for pod in namespace.pods_when("app=web", 3) {
        assert_eq!(image(&pod), format!("{short}@{first}"));
    }
    // The same holds while the registry is down.
    {
        let _gone = rig.stopped("registry-mirror");
        namespace.kubectl(&["scale", "deployment/web", "--replicas=5"]).succeeded();
        for pod in namespace.pods_when("app=web", 5) {
            assert_eq!(image(&pod), format!("{short}@{first}"));
        }
    }
}

#[test]
fn a_new_revision_of_a_moved_tag_gets_the_new_digest() {
    let Some(rig) = rig::here("moves a tag") else { return };
    let _cluster = undisturbed();
    let (full, short) = moving("revision");
    let first = rig.push(&full, "one");
    let namespace = Namespace::new("revision");
    namespace.apply(&pod("first", &short)).succeeded();
    assert_eq!(image(&namespace.get("pod", "first")), format!("{short}@{first}"));
    let second = rig.push(&full, "two");
    // The digest of a tag is cached for 60 s; until then a new pod may get the old digest.
    let image = wait_for("the new digest", LIMIT, || {
        namespace.kubectl(&["delete", "pod", "next", "--ignore-not-found", "--grace-period=0", "--force"]);
        namespace.apply(&pod("next", &short)).succeeded();
        let image = image(&namespace.get("pod", "next"));
        (image != format!("{short}@{first}")).then_some(image)
    });
    assert_eq!(image, format!("{short}@{second}"));
}

#[test]
fn a_restart_right_after_a_push_runs_what_was_pushed() {
    let Some(rig) = rig::here("moves a tag") else { return };
    let _cluster = undisturbed();
    let (full, short) = moving("restarted");
    let namespace = Namespace::new("restarted");
    for (workload, content, document) in [
        ("deployment/web", ["one", "two"], deployment("web", &short, 1)),
        ("statefulset/db", ["three", "four"], stateful_set("db", &short, 1)),
    ] {
        let selector = workload.replace("deployment/", "app=").replace("statefulset/", "app=");
        let [first, second] = content;
        let first = rig.push(&full, first);
        // The tag is not in the cache of any replica yet, or its digest is that of another workload.
        let asked = Instant::now();
        namespace.apply(&document).succeeded();
        namespace.rolled_out(workload);
        for pod in namespace.pods_when(&selector, 1) {
            assert_eq!(image(&pod), format!("{short}@{first}"), "{workload}");
        }
        let second = rig.push(&full, second);
        assert_ne!(first, second);
        namespace.kubectl(&["rollout", "restart", workload]).succeeded();
        namespace.rolled_out(workload);
        for pod in namespace.pods_when(&selector, 1) {
            assert_eq!(image(&pod), format!("{short}@{second}"), "{workload}");
        }
        // The cache keeps the digest of a tag for a minute, so that a slower run would show nothing.
        assert!(asked.elapsed() < Duration::from_secs(60), "{workload}: {:?}", asked.elapsed());
    }
}

#[test]
fn a_pod_comes_back_with_its_old_pin_when_the_tag_is_deleted() {
    let Some(rig) = rig::here("deletes a tag") else { return };
    let _cluster = alone();
    let (full, short) = moving("deleted");
    let first = rig.push(&full, "one");
    let namespace = Namespace::new("deleted");
    namespace.apply(&deployment("web", &short, 2)).succeeded();
    namespace.rolled_out("deployment/web");
    let pods = namespace.pods_when("app=web", 2);
    rig.delete(&full);
    let name = pods[0]["metadata"]["name"].as_str().unwrap();
    namespace.kubectl(&["delete", "pod", name, "--grace-period=1"]).succeeded();
    for pod in namespace.pods_when("app=web", 2) {
        assert_eq!(image(&pod), format!("{short}@{first}"));
    }
    namespace.rolled_out("deployment/web");
    // Deletes every pod at once while the registry is down.
    let _gone = rig.stopped("registry-mirror");
    namespace.kubectl(&["delete", "pods", "-l", "app=web", "--grace-period=1"]).succeeded();
    for pod in namespace.pods_when("app=web", 2) {
        assert_eq!(image(&pod), format!("{short}@{first}"));
    }
}

#[test]
fn a_bare_pod_that_is_applied_again_keeps_its_pin() {
    let Some(rig) = rig::here("moves a tag") else { return };
    let _cluster = undisturbed();
    let (full, short) = moving("reapplied");
    let first = rig.push(&full, "one");
    let namespace = Namespace::new("reapplied");
    namespace.apply(&pod("web", &short)).succeeded();
    rig.push(&full, "two");
    let again = namespace.apply(&pod("web", &short)).succeeded();
    assert!(again.contains("unchanged") || again.contains("configured"), "{again}");
    let pod = namespace.get("pod", "web");
    assert_eq!(image(&pod), format!("{short}@{first}"));
    // A change of another field keeps the pin.
    namespace.apply(&self::pod("web", &short).replace("app: web }", "app: web, team: a }")).succeeded();
    let pod = namespace.get("pod", "web");
    assert_eq!(pod["metadata"]["labels"]["team"], "a");
    assert_eq!(image(&pod), format!("{short}@{first}"));
    assert_eq!(originals(&pod)["containers/app"], short.as_str());
}
