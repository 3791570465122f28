use serde_json::{Value, json};

use super::*;
use tagpin_domain::kind::Kind;
use tagpin_domain::requirement::SLOT_LIMIT;
use tagpin_domain::slot::{Place, PullPolicy, Role};
use tagpin_domain::workload::Labels;

use crate::kinds::{CRON_JOB, DEPLOYMENT, POD};

fn row(kind: Kind) -> &'static Row {
    Kinds::default().row(kind).unwrap()
}

fn parse(kind: Kind, text: &str) -> Result<Box<Document<'_>>, Unreadable> {
    Document::parse(row(kind), Reader::whole(text, Reader::raw).unwrap())
}

/// Returns the workload with the labels of these keys.
fn workload(read: &Document<'_>, keys: &[&str]) -> Workload {
    read.workload(&Kinds::default(), "shop", Wanted::Keys(&keys.iter().copied().collect()))
}

/// Returns an object of this kind with this pod template.
fn object(kind: Kind, template: Value) -> Value {
    let mut object = row(kind).template.iter().rev().fold(template, |inner, part| json!({ *part: inner }));
    object["kind"] = json!(kind.name());
    object
}

#[test]
fn every_kind_of_the_table_is_read_where_the_table_says() {
    let template = json!({
        "metadata": { "labels": { "app": "we\"b" }, "annotations": { "a": "b" } },
        "spec": {
            "volumes": [ { "name": "v", "emptyDir": {} }, { "name": "d", "image": { "reference": "data:1", "pullPolicy": "Never" } } ],
            "containers": [ { "name": "b", "env": [] }, { "name": "a", "image": "x:1", "imagePullPolicy": "Always" } ],
            "initContainers": [ { "name": "i", "image": "x:2", "imagePullPolicy": "Never" } ],
            "ephemeralContainers": [ { "name": "e", "image": "x:3" } ],
            "serviceAccountName": "robot",
            "runtimeClassName": "wasmtime",
            "imagePullSecrets": [ { "name": "one" }, {}, { "name": "two" } ],
        },
    });
    for kind in Kinds::default().all() {
        let raw = object(kind, template.clone()).to_string();
        let read = parse(kind, &raw).unwrap();
        let made = workload(&read, &["app", "tier"]);
        let slots: Vec<_> = made
            .slots
            .into_iter()
            .map(|slot| {
                let Place { key, field } = slot.place;
                (key.role, key.name, field.index, slot.reference, slot.pull, slot.runtime_class)
            })
            .collect();
        let expected = [
            (Role::Container, "a", 1, "x:1", PullPolicy::Always, true),
            (Role::InitContainer, "i", 0, "x:2", PullPolicy::Never, true),
            (Role::EphemeralContainer, "e", 0, "x:3", PullPolicy::Unset, true),
            (Role::ImageVolume, "d", 1, "data:1", PullPolicy::Never, false),
        ]
        .map(|(role, name, index, reference, pull, class)| {
            (role, name.into(), index, reference.into(), pull, class)
        });
        assert_eq!(slots, expected, "{kind}");
        assert_eq!(made.labels.known, [("app".to_owned(), "we\"b".to_owned())].into(), "{kind}");
        assert_eq!(workload(&read, &[]).labels.known, Labels::new());
        assert_eq!(read.workload(&Kinds::default(), "shop", Wanted::All).labels, made.labels);
        assert_eq!(made.service_account, "robot");
        assert_eq!(made.pull_secrets, ["one", "two"]);
        assert_eq!((made.kind, made.is_pod), (kind, kind == POD));
    }
}

#[test]
fn what_is_left_out_or_null_is_empty() {
    for kind in Kinds::default().all() {
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
            assert!(
                workload(&read, &["app"]).slots.is_empty()
                    && workload(&read, &["app"]).labels.known.is_empty()
                    && read.way() != Way::Annotations
            );
        }
    }
}

#[test]
fn what_stands_there_twice_is_refused() {
    let twice = [
        (POD, r#"{"spec":{},"spec":{}}"#),
        (POD, r#"{"metadata":{},"metadata":{}}"#),
        (POD, r#"{"spec":{"containers":[{"image":"a","image":"b"}]}}"#),
        (POD, r#"{"metadata":{"labels":{"a":"1","a":"2"}}}"#),
        (POD, r#"{"metadata":{"labels":{"a":"1","c":"","b":"","a":"1"}}}"#),
        (POD, r#"{"metadata":{"labels":{"<":"1","\u003c":"1"}}}"#),
        (POD, r#"{"metadata":{"annotations":{"tagpin.dev/original":"","tagpin.dev/original":""}}}"#),
        (DEPLOYMENT, r#"{"spec":{},"spec":{}}"#),
        (DEPLOYMENT, r#"{"spec":{"template":{},"template":{}}}"#),
        (CRON_JOB, r#"{"spec":{"jobTemplate":{"spec":{"template":{}},"spec":{"template":{}}}}}"#),
    ];
    for (kind, text) in twice {
        assert!(parse(kind, text).is_err(), "{text}");
    }
}

#[test]
fn an_object_with_more_slots_than_somebody_looks_at_is_unreadable() {
    let slots = |count: usize| -> Value {
        (0..count).map(|n| json!({ "name": n.to_string(), "image": "x" })).collect()
    };
    let volumes = |count: usize| -> Value {
        (0..count).map(|n| json!({ "name": n.to_string(), "image": { "reference": "x" } })).collect()
    };
    let no_images: Value = (0..SLOT_LIMIT).map(|n| json!({ "name": n.to_string() })).collect();
    for kind in Kinds::default().all() {
        let read = |spec: Value| {
            let raw = object(kind, json!({ "spec": spec })).to_string();
            parse(kind, &raw).map(|read| workload(&read, &[]).slots.len())
        };
        assert_eq!(read(json!({ "containers": slots(SLOT_LIMIT), "volumes": no_images })), Ok(SLOT_LIMIT));
        for spec in [
            json!({ "containers": slots(SLOT_LIMIT + 1) }),
            json!({ "containers": slots(3 * SLOT_LIMIT) }),
            json!({ "containers": slots(1), "initContainers": slots(SLOT_LIMIT) }),
            json!({ "containers": slots(1), "volumes": volumes(SLOT_LIMIT) }),
            json!({ "containers": slots(1), "ephemeralContainers": slots(SLOT_LIMIT) }),
        ] {
            assert_eq!(read(spec), Err(Unreadable::TooManySlots), "{kind}");
        }
    }
}

#[test]
fn labels_are_read_whatever_their_number_and_order() {
    let count = 100_000;
    let label = |n: usize| format!(r#""{n}":"v{n}""#);
    let labels = |labels: Vec<String>| format!(r#"{{"metadata":{{"labels":{{{}}}}}}}"#, labels.join(","));
    let mut sorted: Vec<String> = (0..count).map(label).collect();
    sorted.sort();
    let backwards: Vec<String> = sorted.iter().rev().cloned().collect();
    let twice: Vec<String> = backwards.iter().cloned().chain([label(7)]).collect();
    for text in [labels(sorted), labels(backwards)] {
        let read = parse(POD, &text).unwrap();
        assert_eq!(read.label("99999").as_ref().map(Text::as_str), Some("v99999"));
        assert_eq!(read.label("100000"), None);
        assert_eq!(workload(&read, &["12", "x"]).labels.known, [("12".to_owned(), "v12".to_owned())].into());
    }
    assert!(matches!(parse(POD, &labels(twice)), Err(Unreadable::Malformed { .. })));
}

#[test]
fn an_annotation_above_what_the_api_server_accepts_says_nothing() {
    let originals = |padding: usize| {
        let annotation = format!(r#"{{"containers/web":"{}"}}"#, "x".repeat(padding));
        let text =
            json!({ "metadata": { "annotations": { "tagpin.dev/original": annotation } } }).to_string();
        let read = parse(POD, &text).unwrap();
        (read.present().original.is_some(), workload(&read, &[]).originals.is_empty())
    };
    assert_eq!(originals(ANNOTATIONS_LIMIT - 100), (true, false));
    assert_eq!(originals(ANNOTATIONS_LIMIT), (true, true));
}

#[test]
fn depth_that_nobody_reads_does_no_harm() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = format!(r#"{{"spec":{{"x":{deep},"containers":[{{"env":{deep},"image":"x:1"}}]}}}}"#);
    assert_eq!(workload(&parse(POD, &text).unwrap(), &[]).slots[0].reference.as_ref(), "x:1");
    let text = format!(r#"{{"spec":{{"containers":{deep}}}}}"#);
    assert!(parse(POD, &text).is_err());
}

#[test]
fn a_template_is_the_same_only_byte_by_byte() {
    let one = object(DEPLOYMENT, json!({ "spec": { "containers": [] } })).to_string();
    let other = object(DEPLOYMENT, json!({ "spec": { "containers": [ { "image": "x" } ] } })).to_string();
    let read = |text| parse(DEPLOYMENT, text).unwrap();
    assert!(read(&one).has_template_of(&read(&one)));
    assert!(!read(&one).has_template_of(&read(&other)));
    // A pod is its own template, and many other fields of it may change.
    let pod = || parse(POD, r#"{"spec":{}}"#).unwrap();
    assert!(!pod().has_template_of(&pod()));
}

#[test]
fn the_name_in_logs_tells_what_is_still_to_be_made() {
    let name = |metadata: Value| {
        let raw = json!({ "metadata": metadata }).to_string();
        parse(POD, &raw).unwrap().name()
    };
    assert_eq!(name(json!({ "name": "web", "generateName": "w-" })), "web");
    assert_eq!(name(json!({ "generateName": "web-5d4f-" })), "web-5d4f-*");
    assert_eq!(name(json!({})), "");
}

#[test]
fn a_placeholder_for_istio_is_no_slot_of_a_template_and_one_of_a_pod() {
    let asks = [
        json!({ "labels": { "sidecar.istio.io/inject": "true" } }),
        json!({ "labels": { "app": "web", "istio.io/rev": "canary" } }),
        json!({ "annotations": { "a": "b", "inject.istio.io/templates": "gateway" } }),
    ];
    let asks_not = [
        json!({}),
        json!({ "labels": { "sidecar.istio.io/inject": "false" } }),
        json!({ "labels": { "app": "auto" }, "annotations": { "sidecar.istio.io/rewriteAppHTTPProbers": "true" } }),
    ];
    let slots = |kind, metadata: &Value| {
        let spec = json!({
            "containers": [
                { "name": "gateway", "image": "auto" }, { "name": "istio-proxy", "image": "auto" },
                { "name": "web", "image": "auto:1" }, { "name": "istio-proxy-2", "image": "istio/proxyv2:1" },
            ],
            "initContainers": [ { "name": "istio-proxy", "image": "auto" } ],
            "volumes": [ { "name": "istio-proxy", "image": { "reference": "auto" } } ],
        });
        let raw = object(kind, json!({ "metadata": metadata, "spec": spec })).to_string();
        let made = workload(&parse(kind, &raw).unwrap(), &[]);
        made.slots.iter().map(|slot| slot.key().text()).collect::<Vec<_>>()
    };
    let always = ["containers/web", "containers/istio-proxy-2", "volumes/istio-proxy"];
    for kind in [DEPLOYMENT, CRON_JOB] {
        for metadata in &asks {
            assert_eq!(slots(kind, metadata), always, "{metadata}");
        }
        for metadata in &asks_not {
            assert_eq!(slots(kind, metadata), [&["containers/gateway"], &always[..]].concat(), "{metadata}");
        }
    }
    for metadata in asks.iter().chain(&asks_not) {
        assert_eq!(slots(POD, metadata).len(), 6, "{metadata}");
    }
}
