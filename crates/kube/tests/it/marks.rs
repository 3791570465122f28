//! Pins count for other pods only when their mark proves that tagpin chose the digest.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tagpin_domain::asker::Asker;
use tagpin_domain::digest::Digest;
use tagpin_domain::mark::{self, Claim, KeyId, Keys};
use tagpin_domain::pin::Revision;
use tagpin_domain::slot::SlotKey;
use tagpin_kube::Cluster;
use tagpin_kube::stored::Stored;
use tagpin_objects::kinds::{Kinds, POD, REPLICA_SET};
use tagpin_review::{Pins, Seeds};

use tagpin_testing::{NoObjects, digest, object, owned_by};

/// Age of the first mark in seconds.
const SINCE: i64 = 1000;
const KEY: KeyId = 7;

fn ago(seconds: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_secs(seconds)
}

fn keys(ids: &[KeyId]) -> Keys {
    let secret = |id: &KeyId| id.to_string().repeat(32);
    let secrets: Vec<_> = ids.iter().map(|id| (*id, secret(id))).collect();
    Keys::new(secrets.iter().map(|(id, secret)| (*id, secret.as_bytes())), ago(SINCE)).unwrap()
}

/// The claim of a mark.
#[derive(Clone)]
struct Marked {
    namespace: &'static str,
    owner: &'static str,
    hash: &'static str,
    slot: &'static str,
    reference: &'static str,
    digit: char,
    key: KeyId,
}

/// The claim that is true of [`ONE`].
const RIGHT: Marked = Marked {
    namespace: "shop",
    owner: "rs",
    hash: "h1",
    slot: "containers/app",
    reference: "web:1",
    digit: 'a',
    key: KEY,
};

impl Marked {
    /// Returns the annotation's value, with the mark in the entry of `containers/app`.
    fn annotation(&self) -> String {
        let app: SlotKey = "containers/app".parse().unwrap();
        let (slot, digest) = (self.slot.parse().unwrap(), digest(self.digit));
        let claim = Claim {
            namespace: self.namespace,
            owner: self.owner,
            hash: self.hash,
            slot: &slot,
            reference: self.reference,
            digest: &digest,
        };
        let mark = keys(&[self.key]).signer(Timestamp::now()).unwrap().mark(&claim);
        mark::annotation(vec![(&app, mark)]).unwrap()
    }
}

/// A pod with image `web:1@…` of revision `h1` of ReplicaSet `rs`.
struct Pod {
    name: &'static str,
    controller: Option<&'static str>,
    digit: char,
    mark: Option<Marked>,
    age: i64,
    generation: i64,
}

const ONE: Pod =
    Pod { name: "one", controller: Some("rs"), digit: 'a', mark: Some(RIGHT), age: 10, generation: 1 };

impl Pod {
    fn object(&self) -> Stored {
        let mut value = json!({
            "metadata": {
                "name": self.name, "namespace": "shop", "uid": self.name, "generation": self.generation,
                "creationTimestamp": ago(self.age).to_string(),
                "labels": { "pod-template-hash": "h1" },
                "annotations": { "tagpin.dev/original": r#"{"containers/app":"web:1"}"# },
            },
            "spec": { "containers": [{ "name": "app", "image": format!("web:1@{}", digest(self.digit)) }] },
        });
        if let Some(uid) = self.controller {
            value["metadata"]["ownerReferences"] = owned_by("apps/v1", "ReplicaSet", "web-h1", uid);
        }
        if let Some(mark) = &self.mark {
            value["metadata"]["annotations"]["tagpin.dev/mark"] = json!(mark.annotation());
        }
        object(POD, value)
    }
}

fn cluster(keys: Option<Keys>, pods: &[Pod]) -> Cluster {
    let cluster = Cluster::new(Kinds::default(), NoObjects);
    cluster.pods.use_keys(keys);
    pods.iter().for_each(|pod| cluster.pods.apply(pod.object()));
    cluster
}

/// Returns the digest that a new pod of the revision gets.
fn sibling(cluster: &Cluster) -> Option<Digest> {
    let revision = Revision { namespace: "shop".into(), controller: "rs".into(), hash: "h1".into() };
    cluster.pods.sibling(&revision, &"containers/app".parse().unwrap(), "web:1")
}

/// Returns the digest that is used while the registry cannot be reached.
fn last_known(cluster: &Cluster) -> Option<Digest> {
    let asker = Asker::new("shop".into(), Vec::new());
    cluster.pods.last_known(&"web:1".parse().unwrap(), &asker, Timestamp::now()).map(|known| known.digest)
}

#[test]
fn a_marked_pin_counts_for_siblings_and_for_when_the_registry_is_away() {
    let cluster = cluster(Some(keys(&[KEY])), &[ONE]);
    assert_eq!((sibling(&cluster), last_known(&cluster)), (Some(digest('a')), Some(digest('a'))));
}

#[test]
fn a_forged_pin_counts_for_nobody() {
    let forgeries = [
        ("no mark", None),
        ("a mark of another digest", Some(Marked { digit: 'b', ..RIGHT })),
        ("a mark of another reference", Some(Marked { reference: "web:2", ..RIGHT })),
        ("a mark of another slot", Some(Marked { slot: "initContainers/app", ..RIGHT })),
        ("a mark of another revision", Some(Marked { hash: "h2", ..RIGHT })),
        ("a mark of another namespace", Some(Marked { namespace: "other", ..RIGHT })),
        ("a mark by a key that is not held", Some(Marked { key: 8, ..RIGHT })),
    ];
    for (what, mark) in forgeries {
        let cluster = cluster(Some(keys(&[KEY])), &[Pod { mark, ..ONE }]);
        assert_eq!((sibling(&cluster), last_known(&cluster)), (None, None), "{what}");
        cluster.pods.delete("one");
        assert_eq!((sibling(&cluster), last_known(&cluster)), (None, None), "{what}, and gone");
    }
    // A mark of another owner proves that tagpin chose the digest, but not for this revision.
    let mark = Some(Marked { owner: "other", ..RIGHT });
    let cluster = cluster(Some(keys(&[KEY])), &[Pod { mark, ..ONE }]);
    assert_eq!((sibling(&cluster), last_known(&cluster)), (None, Some(digest('a'))));
}

#[test]
fn a_forged_pod_does_not_hide_the_right_one() {
    let forged = Pod { name: "forged", digit: 'f', mark: None, age: 500, ..ONE };
    let cluster = cluster(Some(keys(&[KEY])), &[forged, ONE]);
    assert_eq!((sibling(&cluster), last_known(&cluster)), (Some(digest('a')), Some(digest('a'))));
}

#[test]
fn a_pod_that_somebody_gave_another_digest_stops_counting() {
    let cluster = cluster(Some(keys(&[KEY])), &[ONE]);
    // The annotations stay as they are.
    cluster.pods.apply(Pod { digit: 'f', generation: 2, ..ONE }.object());
    assert_eq!((sibling(&cluster), last_known(&cluster)), (None, None));
}

#[test]
fn a_pod_older_than_the_first_mark_counts_without_one_until_somebody_writes_its_spec() {
    let old = Pod { mark: None, age: SINCE + 10, ..ONE };
    let with = |pod: Pod| {
        let cluster = cluster(Some(keys(&[KEY])), &[pod]);
        (sibling(&cluster), last_known(&cluster))
    };
    assert_eq!(with(Pod { ..old }), (Some(digest('a')), Some(digest('a'))));
    assert_eq!(
        with(Pod { mark: None, generation: 0, ..old }).0,
        Some(digest('a')),
        "an API server that does not count"
    );
    assert_eq!(with(Pod { mark: None, generation: 2, ..old }), (None, None));
    assert_eq!(with(Pod { mark: None, age: SINCE - 10, ..old }), (None, None));
}

/// Returns ReplicaSet `rs` with this age in seconds.
fn replica_set(age: i64) -> Stored {
    object(
        REPLICA_SET,
        json!({
            "metadata": {
                "name": "web-h1", "namespace": "shop", "uid": "rs", "creationTimestamp": ago(age).to_string(),
            },
        }),
    )
}

#[test]
fn a_pod_older_than_the_first_mark_that_somebody_gave_to_a_younger_controller_does_not_count_for_it() {
    // Owner references, labels and annotations change without a write of the spec.
    let cluster = cluster(Some(keys(&[KEY])), &[Pod { mark: None, age: SINCE + 10, ..ONE }]);
    cluster.workloads.apply(replica_set(SINCE + 20));
    assert_eq!(sibling(&cluster), Some(digest('a')), "the controller made it");
    cluster.workloads.apply(replica_set(SINCE - 20));
    assert_eq!(sibling(&cluster), None, "the controller came later");
}

#[test]
fn the_mark_of_the_controller_counts_before_age_and_before_the_mark_of_another_owner() {
    let forged = |name, mark, age| Pod { name, digit: 'f', mark, age, ..ONE };
    let of_another = Some(Marked { owner: "", hash: "", digit: 'f', ..RIGHT });
    let pods = [forged("adopted", of_another, 100), forged("old", None, SINCE + 10), ONE];
    let cluster = cluster(Some(keys(&[KEY])), &pods);
    cluster.workloads.apply(replica_set(50));
    assert_eq!((sibling(&cluster), last_known(&cluster)), (Some(digest('a')), Some(digest('a'))));
}

#[test]
fn without_a_key_each_pin_counts() {
    let cluster = cluster(None, &[Pod { mark: None, ..ONE }]);
    assert_eq!(sibling(&cluster), Some(digest('a')));
}

#[test]
fn pins_are_held_against_keys_that_come_later() {
    let cluster = cluster(None, &[Pod { name: "forged", mark: None, age: 20, digit: 'f', ..ONE }, ONE]);
    cluster.pods.use_keys(Some(keys(&[8])));
    assert_eq!(sibling(&cluster), None);
    cluster.pods.use_keys(Some(keys(&[8, KEY])));
    assert_eq!((sibling(&cluster), last_known(&cluster)), (Some(digest('a')), Some(digest('a'))));
    assert_eq!(cluster.pods.marked_with(), [KEY].into());
    cluster.pods.delete("one");
    assert_eq!(cluster.pods.marked_with(), [KEY].into(), "a pod that is gone still counts");
}

#[test]
fn pods_that_a_younger_controller_adopted_count_by_the_owner_of_their_mark() {
    let mark = |owner| Some(Marked { owner, ..RIGHT });
    for owner in ["before", ""] {
        // A bare pod has no revision.
        let hash = if owner.is_empty() { "" } else { "h1" };
        let adopted = mark(owner).map(|mark| Marked { hash, ..mark });
        let cluster = cluster(Some(keys(&[KEY])), &[Pod { mark: adopted, age: 50, ..ONE }]);
        assert_eq!(sibling(&cluster), None, "no controller is known");
        cluster.workloads.apply(replica_set(100));
        assert_eq!(sibling(&cluster), None, "the controller is older");
        cluster.workloads.apply(replica_set(20));
        assert_eq!(sibling(&cluster), Some(digest('a')), "{owner}");
    }
    // A pod that lost its controller still counts while the registry cannot be reached.
    let cluster = cluster(Some(keys(&[KEY])), &[Pod { controller: None, ..ONE }]);
    assert_eq!(last_known(&cluster), Some(digest('a')));
}
