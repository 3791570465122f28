//! Properties of every answer: whatever is posted, the webhook gives an answer that the API server can use.

use axum::http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};
use tagpin_domain::fact::Fact;

use crate::support::webhook::{Table, Tables, Webhook, create, pod, update};
use tagpin_testing::digest;

fn webhook() -> Webhook {
    let facts = [("docker.io/library/web:1".to_owned(), Fact::Present(digest('a')))].into();
    let registry = Table::of(Tables { facts, ..Tables::default() });
    let policies = [
        ("enforce", json!({ "mode": "Enforce", "pin": { "targets": ["Pods"] } })),
        ("warn", json!({ "mode": "Warn", "rules": { "tags": { "requireExplicit": true } } })),
    ];
    Webhook::new(&policies, registry)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Returns a strategy for names and references: good ones, hostile ones, and pins.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("web:1".to_owned()),
        Just("web".to_owned()),
        Just(format!("web:1@{}", digest('b'))),
        "[a-z/:@.]{0,12}",
        any::<String>(),
    ]
}

fn apply(patch: Value, review: &mut Value) {
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
    json_patch::patch(&mut review["request"]["object"], &patch).unwrap();
}

/// Takes the images and tagpin's annotations out of the object of a review. Returns the images.
fn take_what_tagpin_writes(review: &mut Value) -> Vec<Value> {
    let object = &mut review["request"]["object"];
    for annotation in ["tagpin.dev/original", "tagpin.dev/mark"] {
        object["metadata"]["annotations"].as_object_mut().unwrap().remove(annotation);
    }
    let mut images = Vec::new();
    for list in ["containers", "initContainers"] {
        let slots = object["spec"][list].as_array_mut().unwrap();
        images.extend(slots.iter_mut().map(|slot| slot["image"].take()));
    }
    images
}

fn slots() -> impl Strategy<Value = Value> {
    let slot = (text(), prop_oneof![text().prop_map(Value::from), any::<u8>().prop_map(Value::from)]);
    prop::collection::vec(slot, 0..5).prop_map(|slots| {
        slots.into_iter().map(|(name, image)| json!({ "name": name, "image": image })).collect()
    })
}

fn review() -> impl Strategy<Value = Value> {
    let annotation =
        prop_oneof![text(), text().prop_map(|text| json!({ "containers/app": text }).to_string())];
    (slots(), slots(), slots(), annotation, any::<bool>()).prop_map(
        |(new, init, old, annotation, is_update)| {
            let (mut object, mut before) = (pod("web:1"), pod("web:1"));
            object["metadata"]["annotations"] = json!({ "tagpin.dev/original": annotation });
            object["spec"]["containers"] = new;
            object["spec"]["initContainers"] = init;
            before["metadata"] = object["metadata"].clone();
            before["spec"]["containers"] = old;
            if is_update { update(object, before) } else { create(object) }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_get_an_answer(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let webhook = webhook();
        for path in ["/mutate", "/validate"] {
            prop_assert_eq!(block_on(webhook.post(path, body.clone())).status, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn a_review_that_is_cut_or_changed_gets_an_answer(review in review(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let webhook = webhook();
        let mut body = review.to_string().into_bytes();
        let at = at.index(body.len());
        let cut = body[..at].to_vec();
        body[at] = byte;
        for body in [cut, body] {
            let status = block_on(webhook.post("/validate", body)).status;
            prop_assert!(matches!(status, StatusCode::OK | StatusCode::BAD_REQUEST), "{}", status);
        }
    }

    #[test]
    fn an_answer_is_the_same_twice_and_needs_no_second_patch(review in review()) {
        let webhook = webhook();
        let answered = block_on(webhook.mutate(&review));
        if answered.status == StatusCode::BAD_REQUEST {
            return Ok(());
        }
        prop_assert_eq!(&answered, &block_on(webhook.mutate(&review)));
        prop_assert_eq!(&answered.response()["allowed"], &json!(true));
        let mut again = review.clone();
        let patch = answered.patch();
        if !patch.is_null() {
            prop_assert_ne!(&patch, &json!([]));
            apply(patch, &mut again);
        }
        prop_assert_eq!(block_on(webhook.mutate(&again)).patch(), Value::Null);

        let answered = block_on(webhook.validate(&again));
        let response = answered.response();
        prop_assert_eq!(response["allowed"] == json!(false), answered.decision() == "deny");
        prop_assert!(response.get("patch").is_none());
        for line in answered.warnings() {
            prop_assert!(line.len() <= 256 && line.bytes().all(|b| matches!(b, b' '..=b'~')), "{:?}", line);
        }
    }

    #[test]
    fn a_patch_adds_digests_to_images_and_leaves_all_but_our_annotations_alone(review in review()) {
        let answered = block_on(webhook().mutate(&review));
        if answered.status == StatusCode::BAD_REQUEST || answered.patch().is_null() {
            return Ok(());
        }
        let (mut before, mut after) = (review.clone(), review);
        apply(answered.patch(), &mut after);
        let images = (take_what_tagpin_writes(&mut before), take_what_tagpin_writes(&mut after));
        prop_assert_eq!(before, after);
        for (before, after) in images.0.iter().zip(&images.1).filter(|(before, after)| before != after) {
            prop_assert_eq!(after, &json!(format!("{}@{}", before.as_str().unwrap(), digest('a'))));
        }
    }
}
