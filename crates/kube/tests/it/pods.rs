//! Sibling pins and last known digests, from pods.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tagpin_domain::asker::Asker;
use tagpin_domain::digest::Digest;
use tagpin_domain::image::ImageRef;
use tagpin_domain::pin::Revision;
use tagpin_domain::slot::SlotKey;
use tagpin_kube::pods::Pods;
use tagpin_kube::stored::Stored;
use tagpin_objects::kinds::POD;
use tagpin_review::{Pins, Seeds};

use tagpin_testing::{digest, object, owned_by};

/// A pod of ReplicaSet `rs` that tagpin pinned; its age is in seconds.
struct Pod {
    name: &'static str,
    controller: Option<&'static str>,
    hash: &'static str,
    original: Option<&'static str>,
    image: String,
    secrets: Value,
    age: i64,
    phase: &'static str,
    deleting: bool,
}

fn pod(name: &'static str, digit: char, age: i64) -> Pod {
    Pod {
        name,
        controller: Some("rs"),
        hash: "h1",
        original: Some("web:1"),
        image: format!("web:1@{}", digest(digit)),
        secrets: json!([]),
        age,
        phase: "Running",
        deleting: false,
    }
}

impl Pod {
    fn object(self) -> Stored {
        let created = Timestamp::now() - SignedDuration::from_secs(self.age);
        let mut value = json!({
            "metadata": {
                "name": self.name, "namespace": "shop", "uid": self.name, "creationTimestamp": created.to_string(),
                "labels": { "pod-template-hash": self.hash },
            },
            "spec": { "containers": [{ "name": "app", "image": self.image }], "imagePullSecrets": self.secrets },
            "status": { "phase": self.phase },
        });
        if let Some(uid) = self.controller {
            value["metadata"]["ownerReferences"] = owned_by("apps/v1", "ReplicaSet", "web-h1", uid);
        }
        if let Some(original) = self.original {
            let entries = json!({ "containers/app": original }).to_string();
            value["metadata"]["annotations"] = json!({ "tagpin.dev/original": entries });
        }
        if self.deleting {
            value["metadata"]["deletionTimestamp"] = json!(created.to_string());
        }
        object(POD, value)
    }
}

/// The key that siblings share.
#[derive(Debug)]
struct Key {
    revision: Revision,
    slot: SlotKey,
    reference: String,
}

impl Key {
    fn of(&self, pods: &Pods) -> Option<Digest> {
        pods.sibling(&self.revision, &self.slot, &self.reference)
    }
}

fn key(controller: &str, hash: &str, slot: &str, reference: &str) -> Key {
    Key {
        revision: Revision { namespace: "shop".into(), controller: controller.into(), hash: hash.into() },
        slot: slot.parse::<SlotKey>().unwrap(),
        reference: reference.into(),
    }
}

fn sibling() -> Key {
    key("rs", "h1", "containers/app", "web:1")
}

fn asker(secrets: &[&str]) -> Asker {
    Asker::new("shop".into(), secrets.iter().map(|&name| name.to_owned()).collect())
}

fn image(text: &str) -> ImageRef {
    text.parse().unwrap()
}

#[test]
fn the_oldest_of_several_pins_counts() {
    let pods = Pods::default();
    pods.apply(pod("young", 'b', 10).object());
    pods.apply(pod("old", 'a', 100).object());
    pods.apply(pod("middle", 'c', 50).object());
    assert_eq!(sibling().of(&pods), Some(digest('a')));
    pods.delete("old");
    assert_eq!(sibling().of(&pods), Some(digest('a')), "a pod that is gone still counts");
}

#[test]
fn pods_that_ended_or_are_going_count() {
    for (phase, deleting) in [("Succeeded", false), ("Failed", false), ("Pending", false), ("Running", true)]
    {
        let pods = Pods::default();
        pods.apply(Pod { phase, deleting, ..pod("one", 'a', 1) }.object());
        assert_eq!(sibling().of(&pods), Some(digest('a')), "{phase} {deleting}");
    }
}

#[test]
fn only_the_same_controller_revision_slot_and_reference_is_a_sibling() {
    let pods = Pods::default();
    pods.apply(pod("one", 'a', 1).object());
    for other in [
        key("other", "h1", "containers/app", "web:1"),
        key("rs", "h2", "containers/app", "web:1"),
        key("rs", "h1", "initContainers/app", "web:1"),
        key("rs", "h1", "containers/sidecar", "web:1"),
        key("rs", "h1", "containers/app", "web:2"),
        key("rs", "h1", "containers/app", "docker.io/library/web:1"),
    ] {
        assert_eq!(other.of(&pods), None, "{other:?}");
    }
    let mut elsewhere = sibling();
    elsewhere.revision.namespace = "other".into();
    assert_eq!(elsewhere.of(&pods), None);
}

#[test]
fn a_digest_that_an_author_wrote_is_no_pin_of_ours() {
    let written = format!("web:1@{}", digest('a'));
    let cases = [
        Pod { original: None, ..pod("no-annotation", 'a', 1) },
        Pod { original: Some("web:2"), ..pod("other-entry", 'a', 1) },
        Pod { original: Some("web"), ..pod("shorter-entry", 'a', 1) },
        Pod { original: Some("web:1"), image: "web:1".into(), ..pod("undone", 'a', 1) },
    ];
    for case in cases {
        let (name, pods) = (case.name, Pods::default());
        pods.apply(case.object());
        assert_eq!(sibling().of(&pods), None, "{name}");
        assert_eq!(key("rs", "h1", "containers/app", &written).of(&pods), None, "{name}");
        assert_eq!(pods.last_known(&image("web:1"), &asker(&[]), Timestamp::now()), None, "{name}");
    }
}

#[test]
fn the_same_event_twice_and_late_deletions_change_nothing() {
    let pods = Pods::default();
    let one = pod("one", 'a', 5).object();
    pods.apply(one.clone());
    pods.apply(one.clone());
    pods.delete("never-seen");
    pods.delete("one");
    pods.delete("one");
    assert!(pods.all().is_empty());
    // A list that is older than the deletion brings the pod back. The next list removes it for good.
    pods.apply(one);
    assert_eq!(pods.all().len(), 1);
    pods.replace(vec![]);
    assert!(pods.all().is_empty());
    assert_eq!(sibling().of(&pods), Some(digest('a')));
}

#[test]
fn a_pod_whose_pin_changes_is_remembered_by_the_new_one() {
    let pods = Pods::default();
    pods.apply(pod("one", 'a', 5).object());
    pods.apply(Pod { image: "web:1".into(), ..pod("one", 'a', 5) }.object());
    assert_eq!(sibling().of(&pods), None);
    pods.apply(pod("one", 'b', 5).object());
    assert_eq!(sibling().of(&pods), Some(digest('b')));
}

#[tokio::test(start_paused = true)]
async fn the_pins_of_a_pod_that_is_gone_count_for_an_hour() {
    let pods = Pods::default();
    pods.apply(pod("deleted", 'a', 5).object());
    pods.delete("deleted");
    tokio::time::advance(Duration::from_mins(59)).await;
    assert_eq!(sibling().of(&pods), Some(digest('a')));
    tokio::time::advance(Duration::from_mins(2)).await;
    assert_eq!(sibling().of(&pods), None);
    assert_eq!(pods.last_known(&image("web:1"), &asker(&[]), Timestamp::now()), None);

    pods.apply(pod("left-out-of-a-list", 'b', 5).object());
    pods.replace(vec![]);
    assert_eq!(sibling().of(&pods), Some(digest('b')));
    tokio::time::advance(Duration::from_mins(61)).await;
    assert_eq!(sibling().of(&pods), None);
}

#[test]
fn a_list_holds_what_is_there_and_remembers_what_is_not() {
    let pods = Pods::default();
    pods.apply(pod("gone", 'a', 100).object());
    pods.apply(pod("stays", 'b', 50).object());
    pods.replace(vec![pod("stays", 'b', 50).object(), pod("new", 'c', 1).object()]);
    let mut names: Vec<_> = pods.all().iter().map(|pod| pod.workload.name.clone()).collect();
    names.sort();
    assert_eq!(names, ["new", "stays"]);
    assert_eq!(sibling().of(&pods), Some(digest('a')));
}

#[test]
fn every_slot_of_a_pod_is_remembered_by_itself() {
    let entries =
        json!({ "containers/app": "web:1", "initContainers/app": "tool:2", "volumes/data": "data:3" });
    let pods = Pods::default();
    pods.apply(object(
        POD,
        json!({
            "metadata": {
                "name": "one", "namespace": "shop", "uid": "one", "labels": { "pod-template-hash": "h1" },
                "ownerReferences": owned_by("apps/v1", "ReplicaSet", "web-h1", "rs"),
                "annotations": { "tagpin.dev/original": entries.to_string() },
            },
            "spec": {
                "containers": [{ "name": "app", "image": format!("web:1@{}", digest('a')) }],
                "initContainers": [{ "name": "app", "image": format!("tool:2@{}", digest('b')) }],
                "volumes": [{ "name": "data", "image": { "reference": format!("data:3@{}", digest('c')) } }],
            },
        }),
    ));
    assert_eq!(sibling().of(&pods), Some(digest('a')));
    assert_eq!(key("rs", "h1", "initContainers/app", "tool:2").of(&pods), Some(digest('b')));
    assert_eq!(key("rs", "h1", "volumes/data", "data:3").of(&pods), Some(digest('c')));
}

#[test]
fn a_pod_of_a_job_shares_with_its_job() {
    let pods = Pods::default();
    let mut job_pod = pod("one", 'a', 1).object();
    job_pod.workload.revision_hash.clear();
    pods.apply(job_pod);
    assert_eq!(key("rs", "", "containers/app", "web:1").of(&pods), Some(digest('a')));
}

#[test]
fn a_bare_pod_has_no_siblings_and_still_seeds() {
    let pods = Pods::default();
    pods.apply(Pod { controller: None, ..pod("bare", 'a', 30) }.object());
    let known = pods.last_known(&image("web:1"), &asker(&[]), Timestamp::now()).unwrap();
    assert_eq!(known.digest, digest('a'));
    assert!(known.age >= Duration::from_secs(30) && known.age < Duration::from_secs(60), "{known:?}");
}

#[test]
fn a_seed_is_found_by_any_spelling_of_its_image() {
    let pods = Pods::default();
    pods.apply(pod("one", 'a', 1).object());
    for spelling in ["web:1", "docker.io/web:1", "docker.io/library/web:1", "index.docker.io/library/web:1"] {
        assert!(pods.last_known(&image(spelling), &asker(&[]), Timestamp::now()).is_some(), "{spelling}");
    }
    for other in ["web", "web:2", "acme/web:1", "ghcr.io/library/web:1"] {
        assert_eq!(pods.last_known(&image(other), &asker(&[]), Timestamp::now()), None, "{other}");
    }
    let untagged =
        Pod { original: Some("web"), image: format!("web@{}", digest('d')), ..pod("latest", 'd', 1) };
    pods.apply(untagged.object());
    assert_eq!(
        pods.last_known(&image("web:latest"), &asker(&[]), Timestamp::now()).unwrap().digest,
        digest('d')
    );
}

#[test]
fn a_seed_answers_only_askers_of_its_namespace_with_its_secrets() {
    let pods = Pods::default();
    pods.apply(Pod { secrets: json!([{ "name": "a" }, { "name": "b" }]), ..pod("one", 'a', 1) }.object());
    assert!(pods.last_known(&image("web:1"), &asker(&["b", "a"]), Timestamp::now()).is_some());
    for others in [&[][..], &["a"], &["a", "b", "c"]] {
        assert_eq!(pods.last_known(&image("web:1"), &asker(others), Timestamp::now()), None, "{others:?}");
    }
    let elsewhere = Asker { namespace: "other".into(), ..asker(&["a", "b"]) };
    assert_eq!(pods.last_known(&image("web:1"), &elsewhere, Timestamp::now()), None);
}

#[test]
fn a_seed_is_what_the_latest_revision_got_and_as_old_as_its_youngest_pod() {
    let pods = Pods::default();
    pods.apply(pod("old-first", 'a', 5000).object());
    pods.apply(Pod { hash: "h2", ..pod("new-first", 'b', 1000) }.object());
    pods.apply(Pod { hash: "h2", ..pod("new-second", 'b', 400) }.object());
    // A node was lost: the old revision has a young pod, with the digest of its oldest one.
    pods.apply(pod("old-second", 'a', 10).object());
    let known = pods.last_known(&image("web:1"), &asker(&[]), Timestamp::now()).unwrap();
    assert_eq!(known.digest, digest('b'));
    assert!(known.age >= Duration::from_secs(400) && known.age < Duration::from_secs(500), "{known:?}");
}

#[test]
fn a_pod_from_the_future_seeds_as_of_now() {
    let pods = Pods::default();
    pods.apply(pod("skewed", 'a', -3600).object());
    assert_eq!(pods.last_known(&image("web:1"), &asker(&[]), Timestamp::now()).unwrap().age, Duration::ZERO);
}

/// Returns a pod of ReplicaSet `rs` with fifty pinned containers that no other pod has.
fn wide(number: usize) -> Stored {
    let names: Vec<_> = (0..50).map(|n| format!("c{number}-{n}")).collect();
    let image = format!("web:1@{}", digest('a'));
    let containers: Vec<_> = names.iter().map(|name| json!({ "name": name, "image": image })).collect();
    let entries: BTreeMap<_, _> = names.iter().map(|name| (format!("containers/{name}"), "web:1")).collect();
    let mut value = json!({
        "metadata": {
            "name": number.to_string(), "namespace": "shop", "uid": number.to_string(),
            "labels": { "pod-template-hash": "h1" },
            "annotations": { "tagpin.dev/original": json!(entries).to_string() },
        },
        "spec": { "containers": containers },
    });
    value["metadata"]["ownerReferences"] = owned_by("apps/v1", "ReplicaSet", "web-h1", "rs");
    object(POD, value)
}

#[tokio::test(start_paused = true)]
async fn a_slot_of_a_revision_with_many_is_kept_and_forgotten_without_a_search() {
    let (few, many) = (kept_and_forgotten(50).await, kept_and_forgotten(400).await);
    // With a search among all slots of the revision, eight times as many take 64 times as long.
    assert!(many < 24 * few, "{few:?} for 50 pods and {many:?} for 400");
}

/// Returns the time in which the slots of this number of pods are kept and forgotten: the shortest of three, which
/// nothing else disturbed.
async fn kept_and_forgotten(number: usize) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..3 {
        let pods = Pods::default();
        let all: Vec<_> = (0..number).map(wide).collect();
        let last = format!("containers/c{}-49", number - 1);
        let started = std::time::Instant::now();
        all.into_iter().for_each(|pod| pods.apply(pod));
        assert_eq!(key("rs", "h1", &last, "web:1").of(&pods), Some(digest('a')));
        (0..number).for_each(|number| pods.delete(&number.to_string()));
        tokio::time::advance(Duration::from_mins(61)).await;
        assert_eq!(key("rs", "h1", &last, "web:1").of(&pods), None);
        shortest = shortest.min(started.elapsed());
    }
    shortest
}
