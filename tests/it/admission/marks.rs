//! The marks that /mutate writes, and the marks that it accepts as its own.

use jiff::Timestamp;
use serde_json::{Value, json};
use tagpin_domain::fact::Fact;
use tagpin_domain::mark::{Keys, Marks, Provenance};
use tagpin_domain::slot::SlotKey;
use tagpin_kube::stored::Stored;
use tagpin_objects::kinds::POD;

use super::reviews::patched;
use crate::support::webhook::{
    Answered, REPLICA_SET_CONTROLLER, Table, Tables, Webhook, create, pod, update,
};
use tagpin_testing::{digest, object, owned_by};

const ORIGINAL: &str = r#"{"containers/app":"web:1"}"#;

fn keys(secret: &[u8]) -> Keys {
    Keys::new([(7, secret)], Timestamp::UNIX_EPOCH).unwrap()
}

/// Returns a webhook whose registry gives `web:1` the digest made of this letter.
fn webhook(letter: char) -> Webhook {
    let facts = [("docker.io/library/web:1".to_owned(), Fact::Present(digest(letter)))].into();
    let policy = json!({ "mode": "Enforce", "pin": { "targets": ["Pods"] } });
    let webhook = Webhook::new(&[("baseline", policy)], Table::of(Tables { facts, ..Tables::default() }));
    webhook.cluster.pods.use_keys(Some(keys(b"ours")));
    webhook
}

/// Returns a pod of the revision `h1` of the ReplicaSet `rs`.
fn child(name: &str) -> Value {
    let mut pod = pod("web:1");
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["labels"] = json!({ "pod-template-hash": "h1" });
    pod["metadata"]["ownerReferences"] = owned_by("apps/v1", "ReplicaSet", "web-h1", "rs");
    pod
}

/// Returns the pod as the watch reports it once the API server has stored it.
fn stored(mut pod: Value) -> Stored {
    pod["metadata"]["uid"] = pod["metadata"]["name"].clone();
    pod["metadata"]["creationTimestamp"] = json!(Timestamp::now().to_string());
    object(POD, pod)
}

async fn mutated(webhook: &Webhook, pod: Value) -> Value {
    let mut review = create(pod.clone());
    review["request"]["userInfo"]["username"] = json!(REPLICA_SET_CONTROLLER);
    patched(pod, &webhook.mutate(&review).await.patch())
}

fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap()
}

fn mark(pod: &Value) -> Option<&str> {
    pod["metadata"]["annotations"]["tagpin.dev/mark"].as_str()
}

fn app() -> SlotKey {
    "containers/app".parse().unwrap()
}

#[tokio::test]
async fn what_one_replica_pins_counts_for_the_next_pod_at_another() {
    let (one, other) = (webhook('a'), webhook('b'));
    let first = mutated(&one, child("first")).await;
    assert_eq!(image(&first), format!("web:1@{}", digest('a')));
    other.cluster.pods.apply(stored(first.clone()));
    let second = mutated(&other, child("second")).await;
    assert_eq!(image(&second), image(&first), "the tag moved, the revision did not");
    assert_eq!(mark(&second), mark(&first), "a mark says nothing of the single pod");
}

#[tokio::test]
async fn a_pod_that_arrives_with_a_forged_pin_runs_so_and_counts_for_nobody() {
    let webhook = webhook('a');
    let mut forged = child("forged");
    forged["spec"]["containers"][0]["image"] = json!(format!("web:1@{}", digest('f')));
    forged["metadata"]["annotations"] = json!({ "tagpin.dev/original": ORIGINAL });
    let review = create(forged.clone());
    assert_eq!(webhook.mutate(&review).await.patch(), Value::Null, "an author may write a digest");
    webhook.cluster.pods.apply(stored(forged));
    let next = mutated(&webhook, child("next")).await;
    assert_eq!(image(&next), format!("web:1@{}", digest('a')));
}

#[tokio::test]
async fn without_a_key_a_pod_is_pinned_without_a_mark() {
    let webhook = webhook('a');
    webhook.cluster.pods.use_keys(None);
    let first = mutated(&webhook, child("first")).await;
    assert_eq!((image(&first), mark(&first)), (format!("web:1@{}", digest('a')).as_str(), None));
    // With a key, /mutate removes a mark whose pin is gone.
    webhook.cluster.pods.use_keys(Some(keys(b"ours")));
    let mut marked = mutated(&webhook, child("second")).await;
    assert!(mark(&marked).is_some());
    marked["spec"]["containers"][0]["image"] = json!("docker.io/library/web@sha256:0");
    let patch = webhook.mutate(&create(marked)).await.patch().to_string();
    assert!(patch.contains(r#"{"op":"remove","path":"/metadata/annotations/tagpin.dev~1mark"}"#), "{patch}");
}

#[tokio::test]
async fn a_reference_that_is_applied_again_gets_back_a_pin_that_is_ours_and_no_other() {
    let webhook = webhook('b');
    let ours = mutated(&self::webhook('a'), pod("web:1")).await;
    let forged = {
        let mut forged = ours.clone();
        forged["spec"]["containers"][0]["image"] = json!(format!("web:1@{}", digest('f')));
        forged
    };
    for (old, expected) in [(ours, 'a'), (forged, 'b')] {
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = json!("web:1");
        let answered = webhook.mutate(&update(new.clone(), old)).await;
        let object = patched(new, &answered.patch());
        assert_eq!(image(&object), format!("web:1@{}", digest(expected)));
        let text = mark(&object).unwrap();
        let keys = keys(b"ours");
        let provenance = Provenance { keys: Some(&keys), namespace: "shop", ..Provenance::default() };
        assert!(provenance.proves(&app(), "web:1", Marks::parse(text).of(&app()).as_ref()), "{text}");
    }
}

#[tokio::test]
async fn a_pin_counts_as_undone_only_when_its_mark_is_ours() {
    let webhook = webhook('a');
    let mut undone = mutated(&webhook, pod("web:1")).await;
    undone["spec"]["containers"][0]["image"] = json!("web:1");
    let validate = async |pod: Value| -> Answered { webhook.validate(&create(pod)).await };
    let answered = validate(undone.clone()).await;
    assert_eq!(answered.response()["allowed"], true);
    assert_eq!(answered.response()["auditAnnotations"]["codes"], "PinUndone");
    // The annotation `tagpin.dev/original` alone, without a mark, does not get around the pin.
    undone["metadata"]["annotations"] = json!({ "tagpin.dev/original": ORIGINAL });
    assert_eq!(validate(undone).await.codes(), ["NotPinned"]);
}
