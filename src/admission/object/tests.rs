use serde_json::{Value, json};

use super::*;
use crate::domain::requirement::SLOT_LIMIT;
use crate::domain::slot::SlotRole;

fn parse(kind: Kind, text: &str) -> Result<Box<Object<'_>>, Malformed> {
    Object::parse(kind, Reader::whole(text, Reader::raw).unwrap())
}

/// An object of this kind with this pod template.
fn object(kind: Kind, template: Value) -> Value {
    let mut object = kind.template_path().iter().rev().fold(template, |inner, part| json!({ *part: inner }));
    object["kind"] = json!(kind.name());
    object
}

#[test]
fn every_kind_of_the_table_is_read_where_the_table_says() {
    let template = json!({
        "metadata": { "labels": { "app": "we\"b" }, "annotations": { "a": "b" } },
        "spec": {
            "volumes": [ { "name": "v", "emptyDir": {} }, { "name": "d", "image": { "reference": "data:1", "pullPolicy": "Never" } } ],
            "containers": [ { "name": "b", "env": [] }, { "name": "a", "image": "x:1" } ],
            "initContainers": [ { "name": "i", "image": "x:2", "imagePullPolicy": "Never" } ],
            "ephemeralContainers": [ { "name": "e", "image": "x:3" } ],
            "serviceAccountName": "robot",
            "imagePullSecrets": [ { "name": "one" }, {}, { "name": "two" } ],
        },
    });
    for kind in Kind::ALL {
        let raw = object(kind, template.clone()).to_string();
        let read = parse(kind, &raw).unwrap();
        let slots: Vec<_> = read
            .slots()
            .into_iter()
            .map(|slot| (slot.key.role, slot.key.name, slot.index, slot.reference, slot.never_pulled))
            .collect();
        let expected = [
            (SlotRole::Container, "a", 1, "x:1", false),
            (SlotRole::InitContainer, "i", 0, "x:2", true),
            (SlotRole::EphemeralContainer, "e", 0, "x:3", false),
            (SlotRole::ImageVolume, "d", 1, "data:1", true),
        ]
        .map(|(role, name, index, reference, never)| (role, name.into(), index, reference.into(), never));
        assert_eq!(slots, expected, "{kind}");
        assert_eq!(read.labels(), [("app".to_owned(), "we\"b".to_owned())].into(), "{kind}");
        assert_eq!(read.service_account(), "robot");
        assert_eq!(read.pull_secrets(), ["one", "two"]);
    }
}

#[test]
fn what_is_left_out_or_null_is_empty() {
    for kind in Kind::ALL {
        let nothing = [
            json!({}),
            object(kind, Value::Null),
            object(kind, json!({ "metadata": null, "spec": null })),
            object(kind, json!({ "metadata": { "labels": null }, "spec": { "containers": null } })),
        ];
        for value in nothing {
            let value = if value.is_object() { value } else { json!({}) };
            let raw = value.to_string();
            let read = parse(kind, &raw).unwrap();
            assert!(read.slots().is_empty() && read.labels().is_empty() && read.way() != Way::Annotations);
        }
    }
}

#[test]
fn what_stands_there_twice_is_refused() {
    let twice = [
        (Kind::Pod, r#"{"spec":{},"spec":{}}"#),
        (Kind::Pod, r#"{"metadata":{},"metadata":{}}"#),
        (Kind::Pod, r#"{"spec":{"containers":[{"image":"a","image":"b"}]}}"#),
        (Kind::Pod, r#"{"metadata":{"labels":{"a":"1","a":"2"}}}"#),
        (Kind::Pod, r#"{"metadata":{"annotations":{"tagpin.dev/original":"","tagpin.dev/original":""}}}"#),
        (Kind::Deployment, r#"{"spec":{},"spec":{}}"#),
        (Kind::Deployment, r#"{"spec":{"template":{},"template":{}}}"#),
        (Kind::CronJob, r#"{"spec":{"jobTemplate":{"spec":{"template":{}},"spec":{"template":{}}}}}"#),
    ];
    for (kind, text) in twice {
        assert!(parse(kind, text).is_err(), "{text}");
    }
}

#[test]
fn no_more_slots_are_kept_than_somebody_looks_at() {
    let containers: Value =
        (0..3 * SLOT_LIMIT).map(|n| json!({ "name": n.to_string(), "image": "x" })).collect();
    let template = json!({ "spec": { "containers": containers, "initContainers": containers } });
    let raw = object(Kind::Job, template).to_string();
    assert_eq!(parse(Kind::Job, &raw).unwrap().slots().len(), SLOT_LIMIT + 1);
}

#[test]
fn labels_have_a_limit() {
    let labels = |count: usize| {
        let labels: serde_json::Map<_, _> = (0..count).map(|n| (n.to_string(), json!(""))).collect();
        json!({ "metadata": { "labels": labels } }).to_string()
    };
    assert!(parse(Kind::Pod, &labels(1024)).is_ok());
    assert!(parse(Kind::Pod, &labels(1025)).is_err());
}

#[test]
fn depth_that_nobody_reads_does_no_harm() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = format!(r#"{{"spec":{{"x":{deep},"containers":[{{"env":{deep},"image":"x:1"}}]}}}}"#);
    assert_eq!(parse(Kind::Pod, &text).unwrap().slots()[0].reference.as_ref(), "x:1");
    let text = format!(r#"{{"spec":{{"containers":{deep}}}}}"#);
    assert!(parse(Kind::Pod, &text).is_err());
}

#[test]
fn a_template_is_the_same_only_byte_by_byte() {
    let one = object(Kind::Deployment, json!({ "spec": { "containers": [] } })).to_string();
    let other =
        object(Kind::Deployment, json!({ "spec": { "containers": [ { "image": "x" } ] } })).to_string();
    let read = |text| parse(Kind::Deployment, text).unwrap();
    assert!(read(&one).has_template_of(&read(&one)));
    assert!(!read(&one).has_template_of(&read(&other)));
    // A pod is its own template, and much else of it may change.
    let pod = || parse(Kind::Pod, r#"{"spec":{}}"#).unwrap();
    assert!(!pod().has_template_of(&pod()));
}

#[test]
fn the_name_in_logs_tells_what_is_still_to_be_made() {
    let name = |metadata: Value| {
        let raw = json!({ "metadata": metadata }).to_string();
        parse(Kind::Pod, &raw).unwrap().name()
    };
    assert_eq!(name(json!({ "name": "web", "generateName": "w-" })), "web");
    assert_eq!(name(json!({ "generateName": "web-5d4f-" })), "web-5d4f-*");
    assert_eq!(name(json!({})), "");
}
