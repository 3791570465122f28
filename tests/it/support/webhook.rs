//! The webhook's router in process: it takes reviews as bytes and returns answers as JSON.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::Fact;
use tagpin_domain::image::ImageRef;
use tagpin_domain::kind::Kind;
use tagpin_domain::workload::{Known, Labels};
use tagpin_kube::Cluster;
use tagpin_kube::discovery::ServedKinds;
use tagpin_kube::image_policy::{ClusterImagePolicy, ImagePolicy};
use tagpin_kube::policies::Reported;
use tagpin_kube::reader::Reader;
use tagpin_kube::stored::Stored;
use tagpin_objects::kinds::Kinds;
use tagpin_review::{Effort, Named, NodeImages, Resolve, Suggest, Version};
use tagpin_testing::NoObjects;
use tagpin_webhook::door::Door;
use tagpin_webhook::metrics::Metrics;
use tagpin_webhook::remembered::Remembered;
use tagpin_webhook::{Admission, Registries, Settings, router};
use tokio::time::Instant;
use tower::ServiceExt as _;

/// The user name of the ReplicaSet controller.
pub(crate) const REPLICA_SET_CONTROLLER: &str = "system:serviceaccount:kube-system:replicaset-controller";

/// A registry that answers from a table, by normalised reference; other references do not exist.
#[derive(Clone, Default)]
pub(crate) struct Table(Arc<Tables>);

#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) facts: HashMap<String, Fact>,
    pub(crate) versions: HashMap<String, Version>,
    pub(crate) similar: HashMap<String, Vec<String>>,
    /// References that are never answered.
    pub(crate) hanging: Vec<String>,
    /// References whose look-up panics.
    pub(crate) panicking: Vec<String>,
    pub(crate) asked: AtomicUsize,
    pub(crate) askers: Mutex<Vec<Asker>>,
    pub(crate) efforts: Mutex<Vec<Effort>>,
}

impl Table {
    pub(crate) fn of(tables: Tables) -> Self {
        Self(Arc::new(tables))
    }

    /// Returns the table as the ports of a review.
    pub(crate) fn ports(self) -> Registries {
        let table = Arc::new(self);
        Registries { resolve: table.clone(), suggest: table }
    }

    /// Returns the number of look-ups.
    pub(crate) fn asked(&self) -> usize {
        self.0.asked.load(Ordering::Relaxed)
    }

    /// Returns the askers of the look-ups since the last call.
    pub(crate) fn askers(&self) -> Vec<Asker> {
        std::mem::take(&mut self.0.askers.lock().unwrap())
    }

    /// Returns the efforts that were allowed for suggestions since the last call.
    pub(crate) fn efforts(&self) -> Vec<Effort> {
        std::mem::take(&mut self.0.efforts.lock().unwrap())
    }
}

fn key(image: &ImageRef) -> String {
    format!("{}:{}", image.repository(), image.effective_tag().unwrap_or_default())
}

#[async_trait]
impl Resolve for Table {
    fn remembered(&self, _: &ImageRef, _: &Asker, _: Option<Instant>, _: Instant) -> Option<Fact> {
        None
    }

    fn entry(&self, _: &ImageRef) -> Option<Arc<str>> {
        None
    }

    async fn resolve(&self, image: &ImageRef, asker: &Asker, _: Option<Instant>, _: Instant) -> Fact {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        self.0.askers.lock().unwrap().push(asker.clone());
        let key = key(image);
        assert!(!self.0.panicking.contains(&key), "as the test wants");
        if self.0.hanging.contains(&key) {
            std::future::pending::<()>().await;
        }
        self.0.facts.get(&key).cloned().unwrap_or(Fact::TagMissing)
    }
}

#[async_trait]
impl Suggest for Table {
    async fn version_of(&self, image: &ImageRef, _: &Asker, effort: Effort) -> Named {
        self.0.efforts.lock().unwrap().push(effort);
        Named { version: self.0.versions.get(&key(image)).cloned(), shown: None }
    }

    async fn similar_tags(&self, image: &ImageRef, _: &Asker, effort: Effort) -> Vec<String> {
        self.0.efforts.lock().unwrap().push(effort);
        self.0.similar.get(&key(image)).cloned().unwrap_or_default()
    }
}

/// A cluster whose nodes have no images.
struct NoNodes;

#[async_trait]
impl NodeImages for NoNodes {
    async fn holds(&self, _: &ImageRef, _: Instant) -> bool {
        false
    }
}

/// An API server that never answers.
pub(crate) struct NoAnswer;

#[async_trait]
impl Reader for NoAnswer {
    async fn object(&self, _: Kind, _: &str, _: &str, _: Instant) -> Option<Stored> {
        std::future::pending().await
    }

    async fn namespace_labels(&self, _: &str, _: Instant) -> Option<Labels> {
        std::future::pending().await
    }

    async fn pull_secrets(&self, _: &str, _: &str, _: Instant) -> Known<Option<Vec<String>>> {
        std::future::pending().await
    }

    async fn served_kinds(&self, _: Instant) -> Option<ServedKinds> {
        std::future::pending().await
    }
}

/// The webhook with its stores and metrics.
pub(crate) struct Webhook {
    pub(crate) cluster: Arc<Cluster>,
    metrics: Arc<Registry>,
    pub(crate) router: Router,
    pub(crate) door: Arc<Door>,
    pub(crate) remembered: Arc<Remembered>,
}

/// A response of the webhook.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    /// The header `Retry-After`.
    pub(crate) retry_after: Option<String>,
}

impl Answered {
    /// Returns the `response` of an answered review.
    #[track_caller]
    pub(crate) fn response(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", String::from_utf8_lossy(&self.body));
        let review: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(review["kind"], "AdmissionReview");
        review["response"].clone()
    }

    /// Returns the JSON patch; null if there is none.
    pub(crate) fn patch(&self) -> Value {
        use base64::Engine as _;
        let response = self.response();
        let Some(patch) = response["patch"].as_str() else { return Value::Null };
        assert_eq!(response["patchType"], "JSONPatch");
        serde_json::from_slice(&base64::engine::general_purpose::STANDARD.decode(patch).unwrap()).unwrap()
    }

    /// Returns the decision in the audit annotations.
    pub(crate) fn decision(&self) -> String {
        self.response()["auditAnnotations"]["decision"].as_str().unwrap().to_owned()
    }

    /// Returns the warnings.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let response = self.response();
        let warnings = response["warnings"].as_array().cloned().unwrap_or_default();
        warnings.iter().map(|warning| warning.as_str().unwrap().to_owned()).collect()
    }

    /// Returns the codes of the causes of a refusal.
    pub(crate) fn codes(&self) -> Vec<String> {
        let response = self.response();
        let causes = response["status"]["details"]["causes"].as_array().cloned().unwrap_or_default();
        causes.iter().map(|cause| cause["reason"].as_str().unwrap().to_owned()).collect()
    }
}

impl Webhook {
    /// Creates a webhook with these cluster policies (name and spec) and this registry.
    pub(crate) fn new(policies: &[(&str, Value)], registry: Table) -> Self {
        Self::with(policies, registry, 256, Timestamp::now)
    }

    pub(crate) fn with(
        policies: &[(&str, Value)],
        registry: Table,
        in_flight: usize,
        now: fn() -> Timestamp,
    ) -> Self {
        Self::over(Cluster::new(Kinds::default(), NoObjects), policies, registry.ports(), in_flight, now)
    }

    pub(crate) fn over(
        cluster: Cluster,
        policies: &[(&str, Value)],
        registries: Registries,
        in_flight: usize,
        now: fn() -> Timestamp,
    ) -> Self {
        Self::behind(Door::open(), cluster, policies, registries, in_flight, now)
    }

    /// Creates a webhook behind this door.
    pub(crate) fn behind(
        door: Door,
        cluster: Cluster,
        policies: &[(&str, Value)],
        registries: Registries,
        in_flight: usize,
        now: fn() -> Timestamp,
    ) -> Self {
        let cluster = Arc::new(cluster);
        cluster.accounts.apply("shop".to_owned(), "default".to_owned(), Vec::new());
        let mut metrics = Registry::default();
        let settings = Settings {
            controller_identities: [
                "deployment-controller",
                "replicaset-controller",
                "statefulset-controller",
                "daemon-set-controller",
                "job-controller",
                "cronjob-controller",
                "replication-controller",
            ]
            .map(|name| format!("system:serviceaccount:kube-system:{name}"))
            .into(),
            excluded_namespaces: ["kube-system".to_owned()].into(),
            in_flight,
            kinds: Kinds::default(),
            now,
        };
        let counters = Metrics::register(&mut metrics);
        let (pins, nodes) = (cluster.pods.clone(), Arc::new(NoNodes));
        let door = Arc::new(door);
        let remembered = Arc::new(Remembered::default());
        let admission = Admission::new(
            cluster.clone(),
            pins,
            nodes,
            registries,
            settings,
            counters,
            Arc::clone(&remembered),
        );
        let router = router(admission, Arc::clone(&door));
        let webhook = Self { cluster, metrics: Arc::new(metrics), router, door, remembered };
        for (name, spec) in policies {
            webhook.policy(None, name, spec.clone());
        }
        webhook
    }

    /// Puts a policy in force.
    pub(crate) fn policy(&self, namespace: Option<&str>, name: &str, spec: Value) {
        let metadata = json!({ "name": name, "namespace": namespace, "uid": name, "generation": 1 });
        let metadata = serde_json::from_value(metadata).unwrap();
        let reported = match namespace {
            None => Reported::parse::<ClusterImagePolicy>(&metadata, spec, Value::Null),
            Some(_) => Reported::parse::<ImagePolicy>(&metadata, spec, Value::Null),
        };
        assert!(reported.compiled.is_ok(), "{:?}", reported.compiled.err());
        self.cluster.policies.apply(reported);
    }

    /// Posts this body.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Answered {
        self.send(Request::post(path).body(body.into()).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answered {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let retry_after =
            response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let body = response.into_body().collect().await.unwrap().to_bytes().to_vec();
        Answered { status, body, retry_after }
    }

    pub(crate) async fn mutate(&self, review: &Value) -> Answered {
        self.post("/mutate?timeout=5s", review.to_string()).await
    }

    pub(crate) async fn validate(&self, review: &Value) -> Answered {
        self.post("/validate?timeout=10s", review.to_string()).await
    }

    /// Returns the metrics as the admin port shows them.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        text
    }

    /// Returns the value of the counter with this name and these labels, as they are written on the page; 0 if it is
    /// absent.
    pub(crate) fn count(&self, line: &str) -> u64 {
        let text = self.metrics();
        let found = text.lines().find_map(|seen| seen.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or_default()
    }
}

/// Returns a review of a creation by a developer.
pub(crate) fn create(object: Value) -> Value {
    review("CREATE", object, Value::Null)
}

/// Returns a review of an update by a developer.
pub(crate) fn update(object: Value, old: Value) -> Value {
    review("UPDATE", object, old)
}

fn review(operation: &str, object: Value, old: Value) -> Value {
    let api_version = object["apiVersion"].as_str().unwrap();
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": group, "version": "v1", "kind": object["kind"] },
            "namespace": "shop",
            "name": object["metadata"]["name"],
            "operation": operation,
            "userInfo": { "username": "developer", "groups": ["system:authenticated"] },
            "object": object,
            "oldObject": old,
            "dryRun": false,
        }
    })
}

/// Returns a pod with this image in a container `app`.
pub(crate) fn pod(image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "containers": [ { "name": "app", "image": image } ] },
    })
}

/// Returns a Deployment with this image in a container `app`.
pub(crate) fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "shop", "uid": "deployment-1" },
        "spec": { "replicas": 1, "template": {
            "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [ { "name": "app", "image": image } ] },
        } },
    })
}
