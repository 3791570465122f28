use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::core::{ObjectList, PartialObjectMeta, WatchEvent};
use serde_json::json;

use super::*;
use crate::slim::{Slim, Unparsed};
use crate::stored::{OldRevision, Stored};
use tagpin_objects::kinds::{Kinds, PODS};

/// Returns metadata that every stored object has.
fn identified() -> ObjectMeta {
    let text = Some("x".to_owned());
    ObjectMeta { name: text.clone(), namespace: text.clone(), uid: text, ..ObjectMeta::default() }
}

/// Returns the fault of an object that cannot be read.
#[track_caller]
fn fault(text: &str) -> Unreadable {
    let item = serde_json::from_str::<Item<Slim>>(text).unwrap();
    *item.and_then(|slim| Stored::new(&Kinds::default(), &PODS, &slim)).unwrap_err()
}

#[test]
fn a_page_with_an_object_that_cannot_be_read_has_all_others() {
    let page = r#"{ "kind": "PodList", "apiVersion": "v1", "metadata": { "resourceVersion": "9" }, "items": [
        { "metadata": { "name": "a", "resourceVersion": "1" } },
        { "metadata": { "name": "b", "namespace": "shop", "uid": "u", "resourceVersion": "2", "labels": 5 } },
        null,
        { "metadata": { "name": "c" } } ] }"#;
    let page: ObjectList<Item<Slim>> = serde_json::from_str(page).unwrap();
    let names: Vec<_> = page.items.iter().map(|item| item.identity().name).collect();
    assert_eq!(names, ["a", "b", "", "c"]);
    assert_eq!(page.items.into_iter().filter_map(Item::read).count(), 2);
}

#[test]
fn an_event_keeps_the_version_of_an_object_that_cannot_be_read() {
    let event = r#"{"type":"MODIFIED","object":{"metadata":{"name":"b","resourceVersion":"7","labels":5}}}"#;
    let WatchEvent::Modified(item) = serde_json::from_str::<WatchEvent<Item<Slim>>>(event).unwrap() else {
        panic!("not modified")
    };
    assert_eq!(item.meta().resource_version.as_deref(), Some("7"));
    assert!(item.read().is_none());
}

#[test]
fn a_fault_has_a_place_and_no_value() {
    for (text, place) in [
        (
            r#"{"metadata":{"name":"a","namespace":"b","uid":"c"},"spec":{"containers":[{"name":"a"},{"name":["HIDDEN"]}]}}"#,
            "spec.containers[1].name: not a valid value",
        ),
        (
            r#"{"metadata":{"name":"a","namespace":"b","uid":"c"},"spec":{"containers":[{"name":"HIDDEN"},{"image":7}]}}"#,
            "spec.containers[1].image: not a valid value",
        ),
        (r#"{"metadata":{"labels":{"a\"}":1}}}"#, "metadata.labels.…: expected a string"),
        (r#"{"metadata":{"creationTimestamp":"HIDDEN"}}"#, "metadata.creationTimestamp: not a valid value"),
        ("{\n \"metadata\": {\n  \"name\": {\"HIDDEN\": 1} } }", "metadata.name: expected a string"),
        (r#""HIDDEN""#, "expected struct Slim"),
    ] {
        assert_eq!(fault(text).fault, place, "{text}");
    }
}

#[test]
fn the_name_survives_whatever_is_wrong_with_the_rest() {
    let deep = format!(
        r#"{{"metadata":{{"name":"n","namespace":5,"uid":"u","labels":{}1{}}}}}"#,
        "[".repeat(900),
        "]".repeat(900)
    );
    let unreadable = fault(&deep);
    assert_eq!(unreadable.identity, Identity { namespace: None, name: "n".into(), uid: "u".into() });
}

#[test]
fn a_policy_that_is_nested_too_deeply_is_named_with_its_place() {
    let nested = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let text = format!(r#"{{"metadata":{{"name":"deep"}},"spec":{{"deep":{nested}}},"status":{nested}}}"#);
    let item = serde_json::from_str::<Item<Unparsed<Namespace>>>(&text).unwrap();
    let unreadable = item.and_then(Ok).unwrap_err();
    let fault = &unreadable.fault;
    assert!(fault.starts_with("spec.deep[0][0]") && fault.ends_with(": nested too deeply"), "{fault}");
    // A status that is nested too deeply does not make the policy unreadable.
    let text = format!(r#"{{"metadata":{{"name":"deep"}},"spec":{{}},"status":{nested}}}"#);
    let policy = serde_json::from_str::<Item<Unparsed<Namespace>>>(&text).unwrap().read().unwrap();
    assert!(policy.spec.is_object() && policy.status.is_null());
}

#[test]
fn what_is_not_looked_at_may_be_anything() {
    let deep = format!("{}1e999{}", "[".repeat(900), "]".repeat(900));
    let time = r#""9999-12-31T23:59:59Z""#;
    let text = format!(
        r#"{{"metadata":{{"name":"n","managedFields":[{{"time":{time},"fieldsV1":{deep}}}],"deletionTimestamp":{time}}},
            "data":{deep},"status":{{"startTime":{time}}},"spec":{{"more":{deep}}}}}"#
    );
    let read = serde_json::from_str::<Item<Slim>>(&text).unwrap().read().unwrap();
    assert!(read.metadata.deletion_timestamp.is_some());
    assert!(!read.ended(&PODS));
    let mut named = read;
    *named.metadata = identified();
    assert!(OldRevision::new(&Kinds::default(), &named).unwrap().slots.is_empty());
    assert!(Stored::new(&Kinds::default(), &PODS, &named).unwrap().unwrap().workload.slots.is_empty());
}

#[test]
fn one_of_kubernetes_own_types_is_whole_but_for_its_managed_fields() {
    let managed = json!([{ "manager": "kubectl", "time": "9999-12-31T23:59:59Z" }]);
    let secret = json!({
        "metadata": { "name": "s", "uid": "u", "finalizers": ["f"], "managedFields": managed }, "type": "kubernetes.io/tls", "data": { "k": "dg==" },
    });
    let Whole(read) =
        serde_json::from_str::<Item<Whole<Secret>>>(&secret.to_string()).unwrap().read().unwrap();
    assert_eq!(read.data.unwrap().get("k").unwrap().0, b"v");
    assert_eq!(
        (read.type_.as_deref(), read.metadata.finalizers),
        (Some("kubernetes.io/tls"), Some(vec!["f".into()]))
    );

    let namespace = json!({ "metadata": { "name": "n", "managedFields": managed } }).to_string();
    let read = serde_json::from_str::<Item<Whole<PartialObjectMeta<Namespace>>>>(&namespace).unwrap().read();
    assert_eq!(read.unwrap().0.metadata.name.as_deref(), Some("n"));
}
