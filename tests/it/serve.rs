//! The operator as a process in a quiet cluster: its readiness, and its handling of stored objects.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tagpin_kube::store::Store;
use tagpin_objects::kinds::PODS;
use tagpin_testing::path;

use crate::support::serving::{MUTATING, Serving, Start};
use crate::support::webhook::{create, pod};

/// Time limit for an answer over TLS on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_ready_answers_though_nothing_happened_after_the_lists() {
    let pods = path(Store::Objects(&PODS));
    let replica = Serving::start(&[], Some(&pods), "info").await;
    // Everything else was listed, and after this list no watch reports anything.
    replica.readiness_is("waiting for pods, webhook").await;
    assert_eq!(
        replica.asked_over_tls(Duration::from_millis(300)).await,
        None,
        "empty stores would allow all"
    );
    replica.release();
    replica.readiness_is("ok").await;
    let answer = replica.asked_over_tls(AT_ONCE).await;
    assert_eq!(answer.as_deref(), Some("HTTP/1.1 405 Method Not Allowed"), "{}", replica.log());
    let (_, metrics) = replica.page("/metrics").await.unwrap();
    let turned_away = r#"tagpin_admission_turned_away_total{reason="not_found"} 1"#;
    assert!(metrics.contains(turned_away), "its own question is no review: {metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_in_the_environment_is_told_of_and_not_used() {
    let binary = Command::new(env!("CARGO_BIN_EXE_tagpin"));
    // Nothing listens there.
    let environment = &[("HTTPS_PROXY", "http://127.0.0.1:9"), ("HTTP_PROXY", "http://127.0.0.1:9")];
    let replica = Serving::run(binary, Start { environment, ..Start::default() }, "info").await;
    replica.logs("HTTPS_PROXY is not used: the value registryDefaults.proxy").await;
    replica.readiness_is("ok").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tokens_in_the_secret_tell_strangers_from_the_api_server() {
    // The tokens of the Secret are text here, so that their paths are known.
    let entries = &[("current", "aaaaaaaaaaaaaaaaaaaa"), ("next", "bbbbbbbbbbbbbbbbbbbb")];
    let (current, next) = ("61".repeat(20), "62".repeat(20));
    let configuration = |path: &str| {
        let service = json!({ "name": "tagpin", "namespace": "tagpin-system", "path": path });
        json!({ "metadata": { "name": "zz-tagpin", "uid": "z" }, "webhooks": [{
            "name": "pin.tagpin.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": { "service": service },
        }] })
    };
    let authority = tempfile::NamedTempFile::new().unwrap();
    let certificate = rcgen::generate_simple_self_signed(vec!["an authority".to_owned()]).unwrap();
    std::fs::write(authority.path(), certificate.cert.pem()).unwrap();
    let ask_for_a_certificate = [format!("--client-ca={}", authority.path().display())];
    let tokens = format!("/mutate/{current}");
    for (path, arguments, strangers) in [
        (tokens.as_str(), &[][..], [1, 1, 1, 2]),
        ("/mutate", &[][..], [0, 0, 0, 0]),
        (tokens.as_str(), &ask_for_a_certificate[..], [1, 2, 3, 4]),
    ] {
        let lists = &[(MUTATING.to_owned(), vec![configuration(path)])];
        let binary = Command::new(env!("CARGO_BIN_EXE_tagpin"));
        let start = Start { lists, entries, arguments, ..Start::default() };
        let replica = Serving::run(binary, start, "trace").await;
        replica.readiness_is("ok").await;
        let paths = ["/validate", &format!("/validate/{current}"), &format!("/validate/{next}"), "/mutate"];
        for (asked, strangers) in paths.into_iter().zip(strangers) {
            let answer = replica.posted_over_tls(asked, &create(pod("web:latest"))).await;
            assert_eq!(answer, "HTTP/1.1 200 OK");
            let (_, metrics) = replica.page("/metrics").await.unwrap();
            let line = format!("tagpin_admission_strangers_total {strangers}\n");
            assert!(metrics.contains(&line), "{asked} where {path} is named: {metrics}");
        }
        let log = replica.log();
        assert!(!log.contains(&current) && !log.contains(&next), "a log shows a token");
    }
}

/// Returns an object with hostile `managedFields`. Anybody who may patch such an object can write them, and the API
/// server stores them.
fn service_account() -> Value {
    let managed = json!([{ "manager": "kubectl", "operation": "Update", "time": "9999-12-31T23:59:59Z", "fieldsType": "FieldsV1", "fieldsV1": {} }]);
    json!({ "metadata": { "name": "p", "namespace": "shop", "uid": "u", "resourceVersion": "3", "managedFields": managed } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_cannot_be_read_keep_no_replica_from_being_ready_and_are_named() {
    let revision = json!({ "metadata": { "name": "web-1", "namespace": "shop", "uid": "r", "ownerReferences": "HIDDEN" } });
    let lists = [
        (path(Store::ServiceAccounts), vec![service_account()]),
        (path(Store::ControllerRevisions), vec![revision]),
    ];
    let replica = Serving::start(&lists, None, "info").await;
    replica.readiness_is("ok").await;
    let (_, rows) = replica.page("/unreadable").await.unwrap();
    let named = json!([{ "namespace": "shop", "name": "web-1", "fault": "metadata.ownerReferences: expected a sequence" }]);
    let row = json!([{ "watch": "controllerrevisions", "count": 1, "named": named }]);
    assert_eq!(serde_json::from_str::<Value>(&rows).unwrap(), row);
    let (_, metrics) = replica.page("/metrics").await.unwrap();
    for line in [
        r#"tagpin_unreadable_objects{kind="controllerrevisions"} 1"#,
        r#"tagpin_unreadable_objects{kind="serviceaccounts"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(!replica.log().contains("HIDDEN"), "{}", replica.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_filter_brings_objects_of_others_into_the_log() {
    let pods = path(Store::Objects(&PODS));
    let filter = "info,tagpin=trace,kube=trace,kube_client=trace,kube_client::client=trace";
    let replica = Serving::start(&[], Some(&pods), filter).await;
    // This text is not a valid list, although it holds an object.
    let page = json!({ "metadata": [], "items": [{ "metadata": { "name": "a" }, "spec": { "containers": [{ "env": "HIDDEN" }] } }] });
    replica.lists(&pods, &page.to_string());
    replica.release();
    replica.logs("Error deserializing response").await;
    assert!(!replica.log().contains("HIDDEN"), "{}", replica.log());
}

/// Returns an object with much in each part that a store keeps. Some are as large as any that the API server stores.
fn hostile(number: usize) -> Value {
    let labels = if number.is_multiple_of(40) { 12_000 } else { 60 };
    let labels: Value = (0..labels).map(|number| (format!("label-{number:06}"), json!("v"))).collect();
    let image =
        |at| json!({ "name": format!("c{at}"), "image": format!("registry.example.com/{number}/{at}:1") });
    let containers: Vec<_> = (0..40).map(image).collect();
    let secrets: Vec<_> = (0..100).map(|number| json!({ "name": format!("secret-{number}") })).collect();
    let template = json!({ "metadata": { "labels": labels }, "spec": { "containers": containers } });
    json!({
        "metadata": {
            "name": format!("n{number}"), "namespace": "loud", "uid": format!("u{number}"), "resourceVersion": "5", "generation": 1,
            "labels": labels, "annotations": labels,
        },
        "spec": { "containers": containers, "template": template, "jobTemplate": { "spec": { "template": template } } },
        "template": template,
        "data": { "spec": { "template": template } },
        "imagePullSecrets": secrets,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_hostile_objects_of_each_kind_take_at_most_twice_the_memory() {
    let hostile: Vec<_> = (0..200).map(hostile).collect();
    // Policies have a schema, which keeps out all but the metadata, and not everybody may write policies for a cluster.
    let policies: Vec<_> = hostile.iter().map(|object| json!({ "metadata": object["metadata"] })).collect();
    let lists = [(path(Store::ClusterImagePolicies), vec![]), (path(Store::ImagePolicies), policies)];
    let mut figures = Vec::new();
    for (pages, lists, each) in
        [(false, &[][..], &[][..]), (false, &lists, &hostile), (true, &lists, &hostile)]
    {
        let binary = Command::new(env!("CARGO_BIN_EXE_tagpin"));
        let replica = Serving::run(binary, Start { lists, each, pages, ..Start::default() }, "info").await;
        replica.readiness_is("ok").await;
        figures.push(replica.memory("VmHWM"));
    }
    let [quiet, streamed, paged] = *figures else { panic!("{figures:?}") };
    // With streams the peak is that of a few objects, and with pages that of a few pages.
    assert!(streamed <= 2 * quiet && paged <= 3 * quiet, "{figures:?} KiB");
}
