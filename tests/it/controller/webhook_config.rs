//! The webhook configurations: what is written, when, and when not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tagpin::cluster::client::ApiReader;
use tagpin::cluster::store::Store;
use tagpin::cluster::{Cluster, Seen};
use tagpin::controller::webhook_config::documents::Wanted;
use tagpin::controller::webhook_config::{Installed, WebhookConfig};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::scripted_api::{Api, Call, Watch};

const NAMESPACES: &str = "/api/v1/namespaces";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

fn wanted() -> Wanted {
    Wanted {
        namespace: "tagpin-system".to_owned(),
        namespace_uid: "ns-uid".to_owned(),
        excluded: BTreeSet::from(["tagpin-system".to_owned(), "kube-system".to_owned()]),
        ca: Some(b"CA".to_vec()),
    }
}

fn conditions() -> Value {
    serde_json::to_value(tagpin::k8s::match_conditions::match_conditions()).unwrap()
}

/// What does not differ between the two.
fn common(path: &str) -> Value {
    json!({
        "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "caBundle": "Q0E=",
            "service": { "name": "tagpin", "namespace": "tagpin-system", "path": path, "port": 443 },
        },
        "failurePolicy": "Ignore",
        "matchConditions": conditions(),
        "matchPolicy": "Equivalent",
        "namespaceSelector": { "matchExpressions": [
            { "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "tagpin-system"] },
        ] },
        "objectSelector": {},
        "sideEffects": "None",
    })
}

fn rule(group: &str, operations: &[&str], resources: &[&str]) -> Value {
    json!({
        "apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": resources,
        "scope": "Namespaced",
    })
}

fn metadata(name: &str) -> Value {
    let owner = json!({ "apiVersion": "v1", "kind": "Namespace", "name": "tagpin-system", "uid": "ns-uid" });
    json!({ "name": name, "uid": "its-uid", "ownerReferences": [owner] })
}

fn mutating() -> Value {
    let mut webhook = common("/mutate");
    webhook["name"] = json!("pin.tagpin.dev");
    webhook["reinvocationPolicy"] = json!("IfNeeded");
    webhook["timeoutSeconds"] = json!(5);
    webhook["rules"] = json!([
        rule("", &["CREATE", "UPDATE"], &["pods"]),
        rule("", &["UPDATE"], &["pods/ephemeralcontainers"])
    ]);
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": metadata("zz-tagpin"), "webhooks": [webhook],
    })
}

fn validating() -> Value {
    let mut webhook = common("/validate");
    webhook["name"] = json!("validate.tagpin.dev");
    webhook["timeoutSeconds"] = json!(10);
    webhook["rules"] = json!([
        rule("", &["CREATE", "UPDATE"], &["pods"]),
        rule("", &["UPDATE"], &["pods/ephemeralcontainers"]),
        rule("", &["CREATE", "UPDATE"], &["replicationcontrollers", "podtemplates"]),
        rule("apps", &["CREATE", "UPDATE"], &["deployments", "statefulsets", "daemonsets", "replicasets"]),
        rule("batch", &["CREATE", "UPDATE"], &["jobs", "cronjobs"]),
    ]);
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": metadata("tagpin"), "webhooks": [webhook],
    })
}

fn emptied(mut configuration: Value) -> Value {
    configuration.as_object_mut().unwrap().remove("webhooks");
    configuration
}

#[test]
fn the_documents_are_these() {
    let uid = Some("its-uid".to_owned());
    assert_eq!(serde_json::to_value(wanted().mutating(uid.clone())).unwrap(), mutating());
    assert_eq!(serde_json::to_value(wanted().validating(uid.clone())).unwrap(), validating());
    let leaving = Wanted { ca: None, ..wanted() };
    assert_eq!(serde_json::to_value(leaving.mutating(uid.clone())).unwrap(), emptied(mutating()));
    assert_eq!(serde_json::to_value(leaving.validating(uid)).unwrap(), emptied(validating()));
}

#[test]
fn what_the_chart_made_and_what_somebody_changed_is_not_as_it_should_be() {
    let is = |live: Value| wanted().validating_is(&serde_json::from_value(live).unwrap());
    assert!(is(validating()));
    let changed = |pointer: &str, value: Value| {
        let mut live = validating();
        *live.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        live
    };
    for (pointer, value) in [
        ("/webhooks", json!([])),
        ("/metadata/ownerReferences", json!([])),
        ("/webhooks/0/failurePolicy", json!("Fail")),
        ("/webhooks/0/timeoutSeconds", json!(30)),
        ("/webhooks/0/clientConfig/caBundle", json!("")),
        ("/webhooks/0/clientConfig/service/name", json!("other")),
        ("/webhooks/0/rules/0/operations", json!(["CREATE"])),
        ("/webhooks/0/objectSelector", json!({ "matchLabels": { "a": "b" } })),
        ("/webhooks/0/namespaceSelector", json!({})),
        ("/webhooks/0/namespaceSelector/matchExpressions/0/values", json!(["kube-system"])),
        ("/webhooks/0/matchConditions", json!([])),
        ("/webhooks/0/name", json!("other.tagpin.dev")),
    ] {
        assert!(!is(changed(pointer, value)), "{pointer}");
    }
    assert!(!is(emptied(validating())));
    // An entry of an older version of ours goes; one of somebody else is theirs.
    let with = |name: &str| {
        let mut live = validating();
        let mut other = live["webhooks"][0].clone();
        other["name"] = json!(name);
        live["webhooks"].as_array_mut().unwrap().push(other);
        live
    };
    assert!(!is(with("validate-strict.tagpin.dev")));
    assert!(is(with("policy.example.com")));
}

/// The leader's keeper of the configurations, and the API server.
struct Keeper {
    api: Api,
    /// A write that came before the last watch was opened.
    early: Option<Call>,
    cluster: Arc<Cluster>,
    listens: watch::Sender<bool>,
    certificate: watch::Sender<Seen<Secret>>,
    installed: watch::Receiver<Installed>,
    task: JoinHandle<std::convert::Infallible>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The open watches of a keeper.
struct Watches {
    namespace: Watch,
    mutating: Watch,
    validating: Watch,
}

fn secret(ca: &str) -> Seen<Secret> {
    let data = json!({ "data": { "ca.crt": STANDARD.encode(ca) } });
    Seen::There(Arc::new(serde_json::from_value(data).unwrap()))
}

fn namespace(deleting: bool) -> Value {
    let mut metadata = json!({ "name": "tagpin-system", "uid": "ns-uid", "resourceVersion": "3" });
    if deleting {
        metadata["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
    }
    json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata })
}

/// As the API server holds it.
fn live(mut configuration: Value, version: &str) -> Value {
    configuration["metadata"]["resourceVersion"] = json!(version);
    configuration
}

/// As the chart makes it.
fn chart(configuration: Value) -> Value {
    let mut configuration = live(emptied(configuration), "5");
    configuration["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    configuration
}

impl Keeper {
    /// A keeper that may write.
    fn start() -> Self {
        let (client, api) = Api::new();
        let cluster = Arc::new(Cluster::new(ApiReader::new(client.clone())));
        let listens = watch::Sender::new(true);
        let certificate = watch::Sender::new(secret("CA"));
        let tell = watch::Sender::new(Installed::NotYet);
        let installed = tell.subscribe();
        let keeper = WebhookConfig {
            client,
            namespace: "tagpin-system".to_owned(),
            excluded: wanted().excluded,
            cluster: Arc::clone(&cluster),
            listens: listens.subscribe(),
            certificate: certificate.subscribe(),
            installed: tell,
        };
        let task = tokio::spawn(async move { keeper.keep().await });
        Self { api, early: None, cluster, listens, certificate, installed, task }
    }

    fn fill_stores(&self) {
        Store::all().for_each(|store| self.cluster.synced.fill(store));
    }

    /// Answers the three lists and opens the three watches.
    async fn watches(&mut self, mutating: Value, validating: Value) -> Watches {
        let (mut namespace_watch, mut mutating_watch, mut validating_watch) = (None, None, None);
        while namespace_watch.is_none() || mutating_watch.is_none() || validating_watch.is_none() {
            let call = self.api.next().await;
            if call.method == "PATCH" {
                assert!(self.early.replace(call).is_none());
                continue;
            }
            assert_eq!(call.method, "GET");
            let (items, watch, name) = match call.path.as_str() {
                NAMESPACES => (json!([namespace(false)]), &mut namespace_watch, "tagpin-system"),
                MUTATING => (mutating.clone(), &mut mutating_watch, "zz-tagpin"),
                VALIDATING => (validating.clone(), &mut validating_watch, "tagpin"),
                other => panic!("{other}"),
            };
            // Rights are bound to the names.
            assert_eq!(call.query["fieldSelector"], format!("metadata.name%3D{name}"));
            match call.query.get("watch") {
                None => call.list(items, "10"),
                Some(_) => *watch = Some(call.watch()),
            }
        }
        Watches {
            namespace: namespace_watch.unwrap(),
            mutating: mutating_watch.unwrap(),
            validating: validating_watch.unwrap(),
        }
    }

    /// The next call, which must write this configuration.
    async fn write(&mut self, path: &str, name: &str) -> Call {
        let call = match self.early.take() {
            Some(call) => call,
            None => self.api.next().await,
        };
        assert_eq!(call.line(), format!("PATCH {path}/{name}"));
        assert_eq!(call.content_type, "application/apply-patch+yaml");
        assert_eq!(
            (call.query["fieldManager"].as_str(), call.query["force"].as_str()),
            ("tagpin-webhooks", "true")
        );
        call
    }

    async fn until(&mut self, installed: Installed) {
        self.installed.wait_for(|held| *held == installed).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn they_are_filled_once_the_server_listens_the_stores_are_full_and_there_is_a_certificate() {
    for last in ["listens", "stores", "certificate"] {
        let mut keeper = Keeper::start();
        if last == "listens" {
            keeper.listens.send_replace(false);
        } else { /* it listens */
        }
        if last == "certificate" {
            keeper.certificate.send_replace(Seen::Absent);
        }
        if last != "stores" {
            keeper.fill_stores();
        }
        let _watches = keeper.watches(json!([chart(mutating())]), json!([chart(validating())])).await;
        keeper.api.quiet(Duration::from_secs(30)).await;
        match last {
            "listens" => drop(keeper.listens.send_replace(true)),
            "stores" => keeper.fill_stores(),
            _ => drop(keeper.certificate.send_replace(secret("CA"))),
        }
        let first = keeper.write(MUTATING, "zz-tagpin").await;
        assert_eq!(first.json(), mutating(), "{last}");
        first.ok(live(mutating(), "11"));
        let second = keeper.write(VALIDATING, "tagpin").await;
        assert_eq!(second.json(), validating(), "{last}");
        second.ok(live(validating(), "12"));
        keeper.until(Installed::Yes).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_as_it_should_be_is_never_written() {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let _watches = keeper.watches(json!([live(mutating(), "5")]), json!([live(validating(), "5")])).await;
    keeper.until(Installed::Yes).await;
    keeper.api.quiet(Duration::from_secs(50)).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_by_hand_is_repaired_and_a_new_authority_is_told() {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let watches = keeper.watches(json!([live(mutating(), "5")]), json!([live(validating(), "5")])).await;
    keeper.until(Installed::Yes).await;
    let mut edited = live(validating(), "20");
    edited["webhooks"][0]["failurePolicy"] = json!("Fail");
    watches.validating.event("MODIFIED", edited);
    let repair = keeper.write(VALIDATING, "tagpin").await;
    assert_eq!(repair.json(), validating());
    repair.ok(live(validating(), "21"));
    watches.validating.event("MODIFIED", live(validating(), "21"));
    keeper.api.quiet(Duration::from_secs(20)).await;

    keeper.certificate.send_replace(secret("CA2"));
    for (path, name) in [(MUTATING, "zz-tagpin"), (VALIDATING, "tagpin")] {
        let told = keeper.write(path, name).await;
        assert_eq!(told.json()["webhooks"][0]["clientConfig"]["caBundle"], "Q0Ey");
        let answer = live(told.json(), "30");
        told.ok(answer.clone());
        let watch = if path == MUTATING { &watches.mutating } else { &watches.validating };
        watch.event("MODIFIED", answer);
    }
    keeper.api.quiet(Duration::from_secs(20)).await;
}

#[tokio::test(start_paused = true)]
async fn break_glass_is_final_until_somebody_makes_them_again() {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let watches = keeper.watches(json!([live(mutating(), "5")]), json!([live(validating(), "5")])).await;
    keeper.until(Installed::Yes).await;
    watches.validating.event("DELETED", live(validating(), "6"));
    watches.mutating.event("DELETED", live(mutating(), "7"));
    keeper.until(Installed::Missing).await;
    keeper.api.quiet(Duration::from_secs(50)).await;
    // helm upgrade
    watches.mutating.event("ADDED", chart(mutating()));
    keeper.write(MUTATING, "zz-tagpin").await.ok(live(mutating(), "9"));
    watches.mutating.event("MODIFIED", live(mutating(), "9"));
    watches.validating.event("ADDED", live(validating(), "10"));
    keeper.until(Installed::Yes).await;
}

#[tokio::test(start_paused = true)]
async fn an_apply_that_is_refused_is_told_and_tried_again() {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let _watches = keeper.watches(json!([chart(mutating())]), json!([live(validating(), "5")])).await;
    keeper.write(MUTATING, "zz-tagpin").await.refuse(403, "Forbidden");
    keeper.until(Installed::Unwritable).await;
    let hangs = keeper.write(MUTATING, "zz-tagpin").await;
    hangs.given_up().await;
    keeper.write(MUTATING, "zz-tagpin").await.ok(live(mutating(), "9"));
    keeper.until(Installed::Yes).await;
}

#[tokio::test(start_paused = true)]
async fn when_our_namespace_goes_the_lists_are_emptied_whatever_else_is_missing() {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let watches = keeper.watches(json!([live(mutating(), "5")]), json!([live(validating(), "5")])).await;
    keeper.until(Installed::Yes).await;
    keeper.listens.send_replace(false);
    keeper.certificate.send_replace(Seen::Absent);
    watches.namespace.event("MODIFIED", namespace(true));
    for (path, name, configuration) in
        [(MUTATING, "zz-tagpin", mutating()), (VALIDATING, "tagpin", validating())]
    {
        let write = keeper.write(path, name).await;
        assert_eq!(write.json(), emptied(configuration.clone()));
        write.ok(live(emptied(configuration), "40"));
    }
    keeper.until(Installed::Leaving).await;
}
