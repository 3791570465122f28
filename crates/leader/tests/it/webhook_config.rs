//! The webhook configurations: their content, and the times when they are written.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tagpin_kube::client::ApiReader;
use tagpin_kube::pinning;
use tagpin_kube::store::Store;
use tagpin_kube::{Cluster, Observed};
use tagpin_leader::canaries::Metrics;
use tagpin_leader::door::Paths;
use tagpin_leader::lease::Notes;
use tagpin_leader::reconcile::Reconcile;
use tagpin_leader::webhook_config::documents::Wanted;
use tagpin_leader::webhook_config::{Installed, WebhookConfig};
use tagpin_objects::kinds::Kinds;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use tagpin_testing::scripted_api::{Api, Call, Watch};

pub(super) const NAMESPACES: &str = "/api/v1/namespaces";
pub(super) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/tagpin-system/deployments";
/// Time limit, on the paused clock, for a state to come. The keeper never rests, so a wait without a limit would not end.
const LIMIT: Duration = Duration::from_hours(2);
const CANARY: &str = "POST /api/v1/namespaces/tagpin-system/podtemplates";
pub(super) const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
pub(super) const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

fn wanted() -> Wanted {
    Wanted {
        namespace: "tagpin-system".to_owned(),
        namespace_uid: "ns-uid".to_owned(),
        excluded: BTreeSet::from(["tagpin-system".to_owned(), "kube-system".to_owned()]),
        ca: Some(b"CA".to_vec()),
        fails_closed: false,
        withdrawn: false,
        kinds: Kinds::default(),
        door: None,
    }
}

fn conditions() -> Value {
    serde_json::to_value(tagpin_objects::match_conditions::match_conditions(&Kinds::default())).unwrap()
}

/// Returns the fields that are the same in both configurations.
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

pub(super) fn mutating() -> Value {
    let mut webhook = common("/mutate");
    webhook["name"] = json!("pin.tagpin.dev");
    select(&mut webhook, &[("tagpin.dev/break-glass", "NotIn")]);
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

/// Adds these conditions on the namespace: key and operator, each with the value `true`.
fn select(webhook: &mut Value, labels: &[(&str, &str)]) {
    let expressions = webhook["namespaceSelector"]["matchExpressions"].as_array_mut().unwrap();
    expressions.extend(
        labels.iter().map(|(key, operator)| json!({ "key": key, "operator": operator, "values": ["true"] })),
    );
}

/// Returns an entry that judges, with these additional conditions on the namespace.
fn validate(name: &str, path: &str, policy: &str, labels: &[(&str, &str)]) -> Value {
    let mut webhook = common(path);
    webhook["name"] = json!(name);
    webhook["failurePolicy"] = json!(policy);
    select(&mut webhook, labels);
    webhook["timeoutSeconds"] = json!(10);
    webhook["rules"] = json!([
        rule("", &["CREATE", "UPDATE"], &["pods"]),
        rule("", &["UPDATE"], &["pods/ephemeralcontainers"]),
        rule("", &["CREATE", "UPDATE"], &["replicationcontrollers", "podtemplates"]),
        rule(
            "apps",
            &["CREATE", "UPDATE"],
            &["deployments", "statefulsets", "daemonsets", "replicasets", "controllerrevisions"]
        ),
        rule("batch", &["CREATE", "UPDATE"], &["jobs", "cronjobs"]),
    ]);
    webhook
}

fn canary() -> Value {
    let mut webhook = common("/validate");
    webhook["name"] = json!("canary.tagpin.dev");
    webhook["timeoutSeconds"] = json!(3);
    let condition = "has(object.metadata.name) && object.metadata.name == 'tagpin-canary'";
    webhook["matchConditions"] = json!([{ "name": "the-canary", "expression": condition }]);
    webhook["namespaceSelector"] = json!({ "matchExpressions": [
        { "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["tagpin-system"] },
    ] });
    webhook["rules"] = json!([rule("", &["CREATE"], &["podtemplates"])]);
    webhook
}

fn with_webhooks(webhooks: Value) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": metadata("tagpin"), "webhooks": webhooks,
    })
}

const CLOSED: &str = "tagpin.dev/fail-closed";
const GLASS: &str = "tagpin.dev/break-glass";

fn break_glass() -> Value {
    validate("validate-break-glass.tagpin.dev", "/validate/break-glass", "Ignore", &[(GLASS, "In")])
}

pub(super) fn validating() -> Value {
    let open = validate("validate.tagpin.dev", "/validate", "Ignore", &[(GLASS, "NotIn")]);
    with_webhooks(json!([open, break_glass(), canary()]))
}

/// Returns the configuration with the entries that refuse unanswered requests.
pub(super) fn armed() -> Value {
    let (open, closed) = ([(CLOSED, "NotIn"), (GLASS, "NotIn")], [(CLOSED, "In"), (GLASS, "NotIn")]);
    with_webhooks(json!([
        validate("validate.tagpin.dev", "/validate", "Ignore", &open),
        validate("validate-strict.tagpin.dev", "/validate", "Fail", &closed),
        break_glass(),
        canary(),
    ]))
}

/// Returns the validating configuration while the webhooks are withdrawn.
pub(super) fn withdrawn() -> Value {
    with_webhooks(json!([canary()]))
}

/// Returns the configuration with no entry that refuses unanswered requests.
pub(super) fn opened(mut configuration: Value) -> Value {
    let entries = configuration["webhooks"].as_array_mut().unwrap();
    entries.iter_mut().for_each(|entry| entry["failurePolicy"] = json!("Ignore"));
    configuration
}

pub(super) fn emptied(mut configuration: Value) -> Value {
    configuration.as_object_mut().unwrap().remove("webhooks");
    configuration
}

#[test]
fn the_documents_are_these() {
    let uid = Some("its-uid".to_owned());
    assert_eq!(serde_json::to_value(wanted().mutating(uid.clone())).unwrap(), mutating());
    assert_eq!(serde_json::to_value(wanted().validating(uid.clone())).unwrap(), validating());
    let closed = Wanted { fails_closed: true, ..wanted() };
    assert_eq!(serde_json::to_value(closed.validating(uid.clone())).unwrap(), armed());
    assert_eq!(closed.mutating(uid.clone()), wanted().mutating(uid.clone()), "pinning never refuses");
    let out = Wanted { withdrawn: true, ..closed };
    assert_eq!(serde_json::to_value(out.mutating(uid.clone())).unwrap(), emptied(mutating()));
    assert_eq!(serde_json::to_value(out.validating(uid.clone())).unwrap(), withdrawn());
    let leaving = Wanted { ca: None, ..wanted() };
    assert_eq!(serde_json::to_value(leaving.mutating(uid.clone())).unwrap(), emptied(mutating()));
    assert_eq!(serde_json::to_value(leaving.validating(uid)).unwrap(), emptied(validating()));
}

/// Returns true if a namespace with these labels is selected, by the rules of the API server.
fn selects(webhook: &Value, labels: &BTreeMap<&str, &str>) -> bool {
    let expressions = webhook["namespaceSelector"]["matchExpressions"].as_array().unwrap();
    expressions.iter().all(|expression| {
        let value = labels.get(expression["key"].as_str().unwrap());
        let within =
            value.is_some_and(|value| expression["values"].as_array().unwrap().contains(&json!(value)));
        match expression["operator"].as_str().unwrap() {
            "In" => within,
            "NotIn" => !within,
            other => panic!("{other}"),
        }
    })
}

#[test]
fn every_namespace_has_one_entry_and_break_glass_wins_in_each() {
    let values = [None, Some("true"), Some("false")];
    for (closed, glass) in values.into_iter().flat_map(|one| values.map(|other| (one, other))) {
        for name in ["shop", "kube-system", "tagpin-system"] {
            let mut labels = BTreeMap::from([("kubernetes.io/metadata.name", name)]);
            labels.extend(closed.map(|value| ("tagpin.dev/fail-closed", value)));
            labels.extend(glass.map(|value| ("tagpin.dev/break-glass", value)));
            for configuration in [validating(), armed()] {
                let entries = configuration["webhooks"].as_array().unwrap();
                let selected: Vec<_> = entries
                    .iter()
                    .filter(|entry| entry["name"] != "canary.tagpin.dev" && selects(entry, &labels))
                    .collect();
                assert_eq!(selected.len(), usize::from(name == "shop"), "{labels:?}");
                let unchecked = |entry: &&Value| entry["name"] == "validate-break-glass.tagpin.dev";
                let broken = name == "shop" && glass == Some("true");
                assert_eq!(selected.first().is_some_and(unchecked), broken, "{labels:?}");
                let pins = selects(&mutating()["webhooks"][0], &labels);
                assert_eq!(pins, name == "shop" && !broken, "{labels:?}");
                let fails = selected.iter().any(|entry| entry["failurePolicy"] == "Fail");
                let wanted = configuration == armed()
                    && (name, closed) == ("shop", Some("true"))
                    && glass != Some("true");
                assert_eq!(fails, wanted, "{labels:?}");
            }
        }
    }
}

#[test]
fn what_the_chart_made_and_what_somebody_changed_is_not_as_it_should_be() {
    let matches = |live: Value| wanted().matches_validating(&serde_json::from_value(live).unwrap());
    assert!(matches(validating()));
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
        ("/webhooks/0/objectSelector", json!({ "matchLabels": { "tagpin.dev/a": "b" } })),
        ("/webhooks/0/namespaceSelector", json!({})),
        ("/webhooks/0/namespaceSelector/matchExpressions/0/values", json!(["kube-system"])),
        ("/webhooks/0/matchConditions", json!([])),
        ("/webhooks/0/name", json!("other.tagpin.dev")),
    ] {
        assert!(!matches(changed(pointer, value)), "{pointer}");
    }
    assert!(!matches(emptied(validating())));
    let added = json!({ "key": "control-plane", "operator": "DoesNotExist" });
    let condition = |name: &str| json!({ "name": name, "expression": "true" });
    for (pointer, value, tolerated) in [
        ("/namespaceSelector/matchExpressions", added.clone(), true),
        ("/matchConditions", condition("theirs"), true),
        ("/matchConditions", condition("not-being-deleted"), false),
        (
            "/namespaceSelector/matchExpressions",
            json!({ "key": CLOSED, "operator": "In", "values": ["true"] }),
            false,
        ),
    ] {
        let mut live = validating();
        let list = live["webhooks"][0].pointer_mut(pointer).unwrap().as_array_mut().unwrap();
        list.insert(0, value.clone());
        assert_eq!(matches(live), tolerated, "{pointer} {value}");
    }
    // Only where unanswered requests are refused is a selector of objects no mere addition.
    for (number, tolerated) in [(0, true), (1, false), (2, true), (3, true)] {
        let mut live = armed();
        live["webhooks"][number]["objectSelector"] = json!({ "matchLabels": { "a": "b" } });
        let closed = Wanted { fails_closed: true, ..wanted() };
        let found = closed.matches_validating(&serde_json::from_value(live).unwrap());
        assert_eq!(found, tolerated, "{number}");
    }
    // An entry of an older version of tagpin is removed; an entry of somebody else stays.
    let with = |name: &str| {
        let mut live = validating();
        let mut other = live["webhooks"][0].clone();
        other["name"] = json!(name);
        live["webhooks"].as_array_mut().unwrap().push(other);
        live
    };
    assert!(!matches(with("validate-older.tagpin.dev")));
    assert!(!matches(armed()), "what refuses for want of an answer goes when it must not");
    assert!(matches(with("policy.example.com")));
}

/// The leader's keeper of the configurations, and the API server.
pub(super) struct Keeper {
    api: Api,
    /// Calls that arrived before the last watch was opened.
    early: VecDeque<Call>,
    /// Watches that were opened again, without events.
    reopened: Vec<Watch>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) listens: watch::Sender<bool>,
    pub(super) certificate: watch::Sender<Observed<Secret>>,
    pub(super) paths: watch::Sender<Paths>,
    installed: watch::Receiver<Installed>,
    closed: watch::Receiver<bool>,
    /// The annotations of the Lease.
    pub(super) annotations: watch::Sender<BTreeMap<String, String>>,
    /// The annotations that the keeper wants.
    pub(super) notes: watch::Sender<BTreeMap<String, String>>,
    /// The number of additions of others.
    pub(super) added: watch::Receiver<usize>,
    connections: Arc<AtomicU32>,
    metrics: Metrics,
    pub(super) reconcile: Reconcile,
    task: JoinHandle<std::convert::Infallible>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The open watches of a keeper.
pub(super) struct Watches {
    namespace: Watch,
    pub(super) deployment: Watch,
    pub(super) mutating: Watch,
    pub(super) validating: Watch,
}

pub(super) fn secret(ca: &str) -> Observed<Secret> {
    let data = json!({ "data": { "ca.crt": STANDARD.encode(ca) } });
    Observed::Present(Arc::new(serde_json::from_value(data).unwrap()))
}

pub(super) fn namespace(deleting: bool) -> Value {
    let mut metadata = json!({ "name": "tagpin-system", "uid": "ns-uid", "resourceVersion": "3" });
    if deleting {
        metadata["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
    }
    json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata })
}

pub(super) fn deployment(replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "tagpin", "namespace": "tagpin-system", "uid": "d", "resourceVersion": "3",
            "annotations": { "tagpin.dev/release": "r" },
        },
        "spec": { "replicas": replicas, "selector": {}, "template": {} },
    })
}

/// Returns the configuration as the API server holds it.
pub(super) fn live(mut configuration: Value, version: &str) -> Value {
    configuration["metadata"]["resourceVersion"] = json!(version);
    configuration
}

/// Returns the configuration as the chart creates it.
pub(super) fn chart(configuration: Value) -> Value {
    let mut configuration = live(emptied(configuration), "5");
    configuration["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    configuration
}

impl Keeper {
    /// Starts a keeper that may write.
    pub(super) fn start() -> Self {
        Self::remembering(BTreeMap::new())
    }

    /// Starts a keeper that finds these annotations at the Lease.
    pub(super) fn remembering(annotations: BTreeMap<String, String>) -> Self {
        let (client, api) = Api::new();
        let cluster =
            Arc::new(Cluster::new(Kinds::default(), ApiReader::new(client.clone(), Kinds::default())));
        let listens = watch::Sender::new(true);
        let certificate = watch::Sender::new(secret("CA"));
        let paths = watch::Sender::new(Paths::Plain);
        let (tell, metrics) = (watch::Sender::new(Installed::NotYet), Metrics::default());
        let (installed, reconcile) = (tell.subscribe(), Reconcile::default());
        let (annotations, notes) = (watch::Sender::new(annotations), watch::Sender::default());
        let added = watch::Sender::new(0);
        let told = added.subscribe();
        let refuses = watch::Sender::new(false);
        let closed = refuses.subscribe();
        let connecting = client.clone();
        let connections = Arc::new(AtomicU32::new(0));
        let made = Arc::clone(&connections);
        let keeper = WebhookConfig {
            client,
            connect: Arc::new(move || {
                made.fetch_add(1, Ordering::SeqCst);
                Ok(connecting.clone())
            }),
            namespace: "tagpin-system".to_owned(),
            excluded: wanted().excluded,
            cluster: Arc::clone(&cluster),
            listens: listens.subscribe(),
            certificate: certificate.subscribe(),
            paths: paths.subscribe(),
            deployment: watch::Sender::new(Observed::Unknown),
            notes: Notes { seen: annotations.subscribe(), wanted: notes.clone() },
            installed: tell,
            closed: refuses,
            added,
            metrics: metrics.clone(),
            reconcile: reconcile.clone(),
        };
        // The watch of the mutating configuration, which every replica has.
        let (client, known) = (keeper.client.clone(), Arc::clone(&cluster));
        let pinning = async move { pinning::watch(client, &known.pinning, &known.unreadable).await };
        let task = tokio::spawn(async move {
            tokio::select! {
                never = keeper.keep() => never,
                never = pinning => never,
            }
        });
        let early = VecDeque::new();
        Self {
            api,
            early,
            reopened: Vec::new(),
            cluster,
            listens,
            certificate,
            paths,
            installed,
            closed,
            annotations,
            notes,
            added: told,
            connections,
            metrics,
            reconcile,
            task,
        }
    }

    pub(super) fn fill_stores(&self) {
        Store::all(&Kinds::default()).for_each(|store| self.cluster.synced.fill(store));
    }

    /// Answers the four lists and opens the four watches. The Deployment asks for one replica.
    async fn watches(&mut self, mutating: Value, validating: Value) -> Watches {
        self.watches_with(1, mutating, validating).await
    }

    pub(super) async fn watches_with(
        &mut self,
        replicas: i32,
        mutating: Value,
        validating: Value,
    ) -> Watches {
        let mut watches = BTreeMap::new();
        while watches.len() < 4 {
            let call = self.api.next().await;
            if call.method != "GET" {
                self.early.push_back(call);
                continue;
            }
            let (items, name) = match call.path.as_str() {
                NAMESPACES => (json!([namespace(false)]), "tagpin-system"),
                DEPLOYMENTS => (json!([deployment(replicas)]), "tagpin"),
                MUTATING => (mutating.clone(), "zz-tagpin"),
                VALIDATING => (validating.clone(), "tagpin"),
                other => panic!("{other}"),
            };
            // Rights are bound to the names of the objects.
            assert_eq!(call.query["fieldSelector"], format!("metadata.name%3D{name}"));
            match call.query.get("watch") {
                None => call.list(items, "10"),
                Some(_) => drop(watches.insert(call.path.clone(), call.watch())),
            }
        }
        let mut open = |path: &str| watches.remove(path).unwrap();
        Watches {
            namespace: open(NAMESPACES),
            deployment: open(DEPLOYMENTS),
            mutating: open(MUTATING),
            validating: open(VALIDATING),
        }
    }

    pub(super) async fn call(&mut self) -> Call {
        loop {
            let call = match self.early.pop_front() {
                Some(call) => call,
                None => self.api.next().await,
            };
            // A watch without events is opened again after a while.
            if ![NAMESPACES, DEPLOYMENTS].contains(&call.path.as_str()) || !call.query.contains_key("watch") {
                return call;
            }
            self.reopened.push(call.watch());
        }
    }

    /// Returns the next call that is no canary, within five minutes. Canaries come through.
    async fn next(&mut self) -> Call {
        let end = Instant::now() + Duration::from_mins(5);
        loop {
            let call = timeout_at(end, self.call()).await.expect("a call should have come");
            if call.line() != CANARY {
                return call;
            }
            through(call);
        }
    }

    /// Returns the next call that is no canary, which must apply this configuration by force as this manager.
    async fn applies(&mut self, path: &str, name: &str, manager: &str) -> Call {
        let call = self.next().await;
        assert_eq!(call.line(), format!("PATCH {path}/{name}"));
        assert_eq!(call.content_type, "application/apply-patch+yaml", "{}", call.json());
        assert_eq!(
            (call.query["fieldManager"].as_str(), call.query["force"].as_str()),
            (manager, "true"),
            "{}",
            call.json()
        );
        call
    }

    /// Returns the next call that is no canary, which must write this configuration. Canaries come through.
    pub(super) async fn write(&mut self, path: &str, name: &str) -> Call {
        self.applies(path, name, "tagpin-webhooks").await
    }

    /// Returns the next call that is no canary, which must open these entries of this object and touch
    /// nothing else. It must also name every other entry of tagpin that is open, because what an apply leaves
    /// out may fall back to the API server's default.
    pub(super) async fn opens(&mut self, path: &str, held: &Value, names: &[&str]) -> Call {
        let name = held["metadata"]["name"].as_str().unwrap();
        let call = self.applies(path, name, "tagpin-disarm").await;
        let entries = held["webhooks"].as_array().unwrap().iter().filter(|entry| {
            let name = entry["name"].as_str().unwrap();
            names.contains(&name) || (name.ends_with(".tagpin.dev") && entry["failurePolicy"] == "Ignore")
        });
        let webhooks: Vec<_> =
            entries.map(|entry| json!({ "name": entry["name"], "failurePolicy": "Ignore" })).collect();
        assert!(names.iter().all(|name| webhooks.iter().any(|entry| entry["name"] == *name)), "{names:?}");
        let document = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": held["kind"],
            "metadata": { "name": name, "uid": held["metadata"]["uid"] }, "webhooks": webhooks,
        });
        assert_eq!(call.json(), document);
        call
    }

    /// Returns the next call that is no canary, which must be a JSON patch of exactly this object, and the
    /// patched object.
    pub(super) async fn removes(&mut self, path: &str, held: &Value) -> (Call, Value) {
        let call = self.next().await;
        let name = held["metadata"]["name"].as_str().unwrap();
        assert_eq!(call.line(), format!("PATCH {path}/{name}"));
        assert_eq!(call.content_type, "application/json-patch+json", "{}", call.json());
        assert_eq!(call.query["fieldManager"], "tagpin-webhooks");
        let operations = call.json();
        let version = &held["metadata"]["resourceVersion"];
        let test = json!({ "op": "test", "path": "/metadata/resourceVersion", "value": version });
        assert_eq!(operations[0], test, "what is newer is not to be changed");
        let mut left = held.clone();
        let operations: json_patch::Patch = serde_json::from_value(operations).unwrap();
        json_patch::patch(&mut left, &operations).unwrap();
        (call, left)
    }

    /// Returns the next call that is no canary, which must read this configuration anew.
    pub(super) async fn reads(&mut self, path: &str, name: &str) -> Call {
        let call = self.next().await;
        assert_eq!(call.line(), format!("GET {path}"));
        assert_eq!(call.query["fieldSelector"], format!("metadata.name%3D{name}"));
        assert_eq!(call.query.get("watch"), None);
        call
    }

    /// Answers the next calls that are no canaries, which must open and then remove the entries that refuse
    /// unanswered requests, from the validating configuration that is held at this version. Reports the
    /// result as the watch does.
    pub(super) async fn disarms(&mut self, watches: &Watches, version: &str) {
        let held = live(armed(), version);
        let call = self.opens(VALIDATING, &held, &["validate-strict.tagpin.dev"]).await;
        let opened = live(opened(armed()), "31");
        call.ok(opened.clone());
        let (call, left) = self.removes(VALIDATING, &opened).await;
        assert_eq!(left, live(validating(), "31"));
        let left = live(left, "32");
        call.ok(left.clone());
        watches.validating.event("MODIFIED", left);
    }

    /// Answers the next call, which must write this validating configuration, and reports it as the watch
    /// does.
    pub(super) async fn writes(&mut self, watches: &Watches, configuration: &Value) {
        let write = self.write(VALIDATING, "tagpin").await;
        assert_eq!(write.json(), *configuration);
        write.ok(live(configuration.clone(), "30"));
        watches.validating.event("MODIFIED", live(configuration.clone(), "30"));
    }

    /// Answers the next calls, which must empty the lists. The validating list is emptied first, because
    /// nobody may be refused for a pin that was not asked for.
    async fn empties(&mut self, watches: &Watches) {
        self.empties_from(watches, live(validating(), "5"), live(mutating(), "5")).await;
    }

    /// Answers the next calls, which must empty the lists of these configurations.
    async fn empties_from(&mut self, watches: &Watches, judging: Value, pinning: Value) {
        for (path, name, held, watch) in [
            (VALIDATING, "tagpin", judging, &watches.validating),
            (MUTATING, "zz-tagpin", pinning, &watches.mutating),
        ] {
            let (call, left) = self.removes(path, &held).await;
            assert_eq!(left["webhooks"], json!([]), "{name}");
            let left = live(left, "40");
            call.ok(left.clone());
            // The API server is given time to take the change in.
            self.quiet(Duration::from_secs(1)).await;
            watch.event("MODIFIED", left);
        }
        self.until(Installed::Emptied).await;
    }

    /// Returns the next call, which must be a canary.
    pub(super) async fn canary(&mut self) -> Call {
        let call = self.call().await;
        assert_eq!(call.line(), CANARY);
        assert_eq!(call.query["dryRun"], "All");
        assert_eq!(call.json()["metadata"]["name"], "tagpin-canary");
        call
    }

    /// Waits for this time, in which nothing may be written. Canaries come through.
    pub(super) async fn quiet(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(call) = timeout_at(end, self.call()).await {
            assert_eq!(call.line(), CANARY);
            through(call);
        }
    }

    /// Returns true if an entry refuses unanswered requests.
    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Returns the published state of the configurations.
    pub(super) fn state(&self) -> Installed {
        self.installed.borrow().clone()
    }

    /// Returns the published state, now and later.
    pub(super) fn states(&self) -> watch::Receiver<Installed> {
        self.installed.clone()
    }

    /// Returns the number of clients that were made.
    pub(super) fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }

    /// Returns the number of lost canaries.
    pub(super) fn lost(&self) -> u64 {
        self.metrics.failures()
    }

    pub(super) async fn until(&mut self, installed: Installed) {
        let held = timeout(LIMIT, self.installed.wait_for(|held| *held == installed)).await;
        assert!(held.is_ok_and(|held| held.is_ok()), "{:?} and not {installed:?}", *self.installed.borrow());
    }
}

/// Returns the nonce of a canary.
pub(super) fn nonce(call: &Call) -> String {
    call.json()["metadata"]["annotations"]["tagpin.dev/canary"].as_str().unwrap().to_owned()
}

/// Answers a canary as an API server that has asked a replica.
pub(super) fn through(call: Call) {
    let warning = format!("tagpin answered canary {}", nonce(&call));
    let object = call.json();
    call.warn(201, object, &warning);
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
            keeper.certificate.send_replace(Observed::Absent);
        }
        if last != "stores" {
            keeper.fill_stores();
        }
        let _watches = keeper.watches(json!([chart(mutating())]), json!([chart(validating())])).await;
        keeper.quiet(Duration::from_secs(30)).await;
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
    keeper.quiet(Duration::from_secs(50)).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_by_hand_is_repaired_and_a_new_authority_is_told() {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let watches = keeper.watches(json!([live(mutating(), "5")]), json!([live(validating(), "5")])).await;
    keeper.until(Installed::Yes).await;
    let mut edited = live(validating(), "20");
    edited["webhooks"][0]["failurePolicy"] = json!("Fail");
    watches.validating.event("MODIFIED", edited.clone());
    keeper.opens(VALIDATING, &edited, &["validate.tagpin.dev"]).await.ok(live(validating(), "21"));
    watches.validating.event("MODIFIED", live(validating(), "21"));
    keeper.quiet(Duration::from_secs(20)).await;

    keeper.certificate.send_replace(secret("CA2"));
    for (path, name) in [(MUTATING, "zz-tagpin"), (VALIDATING, "tagpin")] {
        let told = keeper.write(path, name).await;
        assert_eq!(told.json()["webhooks"][0]["clientConfig"]["caBundle"], "Q0Ey");
        let answer = live(told.json(), "30");
        told.ok(answer.clone());
        let watch = if path == MUTATING { &watches.mutating } else { &watches.validating };
        watch.event("MODIFIED", answer);
    }
    keeper.quiet(Duration::from_secs(20)).await;
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
    assert_eq!(keeper.reconcile.failures(), 2);
}

#[tokio::test(start_paused = true)]
async fn when_our_namespace_goes_the_lists_are_emptied_whatever_else_is_missing() {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let watches = keeper.watches(json!([live(mutating(), "5")]), json!([live(validating(), "5")])).await;
    keeper.until(Installed::Yes).await;
    keeper.listens.send_replace(false);
    keeper.certificate.send_replace(Observed::Absent);
    watches.namespace.event("MODIFIED", namespace(true));
    keeper.empties(&watches).await;
}

#[tokio::test(start_paused = true)]
async fn when_the_definitions_go_the_lists_are_emptied_and_they_come_back_with_them() {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let watches = keeper.watches(json!([live(mutating(), "5")]), json!([live(validating(), "5")])).await;
    keeper.until(Installed::Yes).await;
    // The policies of the other kind still have to be kept.
    keeper.cluster.synced.unknown(Store::ImagePolicies);
    keeper.quiet(Duration::from_secs(30)).await;
    keeper.cluster.synced.unknown(Store::ClusterImagePolicies);
    keeper.empties(&watches).await;
    keeper.cluster.synced.fill(Store::ImagePolicies);
    assert_eq!(keeper.write(MUTATING, "zz-tagpin").await.json(), mutating());
}

/// Returns the Deployment while it is being deleted.
fn leaving() -> Value {
    let mut deployment = deployment(2);
    deployment["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
    deployment
}

#[tokio::test(start_paused = true)]
async fn when_our_deployment_goes_the_lists_are_emptied_and_another_one_fills_them() {
    for (event, object) in [("MODIFIED", leaving()), ("DELETED", deployment(2))] {
        let mut keeper = Keeper::start();
        keeper.fill_stores();
        let watches =
            keeper.watches_with(2, json!([live(mutating(), "5")]), json!([live(armed(), "5")])).await;
        keeper.until(Installed::Armed).await;
        // A Deployment without replicas comes back, and what is refused meanwhile is refused on purpose.
        watches.deployment.event("MODIFIED", deployment(0));
        keeper.quiet(Duration::from_secs(20)).await;
        let start = Instant::now();
        watches.deployment.event(event, object);
        let call = keeper.opens(VALIDATING, &live(armed(), "5"), &["validate-strict.tagpin.dev"]).await;
        assert_eq!(start.elapsed(), Duration::ZERO, "{event}: the replicas go at once");
        call.ok(live(opened(armed()), "31"));
        keeper.empties_from(&watches, live(opened(armed()), "31"), live(mutating(), "5")).await;
        keeper.quiet(Duration::from_secs(30)).await;
        assert!((keeper.state(), keeper.is_closed()) == (Installed::Emptied, false), "{event}");
        assert_eq!(keeper.reconcile.failures(), 0, "{event}");

        if event == "MODIFIED" {
            watches.deployment.event("DELETED", leaving());
        }
        let mut other = deployment(2);
        other["metadata"]["uid"] = json!("d2");
        watches.deployment.event("ADDED", other);
        let write = keeper.write(MUTATING, "zz-tagpin").await;
        assert_eq!(write.json(), mutating(), "{event}");
        write.ok(live(mutating(), "50"));
        watches.mutating.event("MODIFIED", live(mutating(), "50"));
        keeper.writes(&watches, &validating()).await;
        keeper.writes(&watches, &armed()).await;
        keeper.until(Installed::Armed).await;
        assert!(keeper.notes.borrow()["tagpin.dev/filled"].contains("\"d2\""), "{event}");
    }
}
