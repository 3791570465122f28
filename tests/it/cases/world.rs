//! The surroundings of admission in a case: stores that are filled as watches fill them, and a scripted registry.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use jiff::Timestamp;
use kube::api::ObjectMeta;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tagpin_domain::asker::Asker;
use tagpin_domain::fact::{
    AskedWith, Broken, Cloud, Fact, ForbiddenHost, Hidden, LastKnown, Position, Realm, SecretProblem,
    Unavailable,
};
use tagpin_domain::image::ImageRef;
use tagpin_domain::kind::Kind;
use tagpin_domain::workload::{ForeignKind, Known, Labels};
use tagpin_kube::Cluster;
use tagpin_kube::discovery::ServedKinds;
use tagpin_kube::image_policy::{ClusterImagePolicy, ImagePolicy, PolicyObject};
use tagpin_kube::policies::Reported;
use tagpin_kube::reader::Reader;
use tagpin_kube::slim::Slim;
use tagpin_kube::stored::{OldRevision, Stored};
use tagpin_objects::kinds::{CONTROLLER_REVISIONS, Kinds, POD, Row};
use tagpin_review::{Effort, Named, NodeImages, Resolve, Suggest, Version};
use tagpin_testing::NoObjects;
use tagpin_webhook::door::Door;
use tagpin_webhook::metrics::Metrics;
use tagpin_webhook::{Admission, Registries, Settings, router};
use tokio::time::Instant;
use tower::ServiceExt;

use crate::cases::model::Case;

/// The webhook with the cluster and the registry of one case.
pub(crate) struct World {
    pub(crate) script: Arc<Script>,
    pub(crate) metrics: Registry,
    router: Router,
}

impl World {
    pub(crate) fn of(case: &Case) -> Self {
        let cluster = Cluster::new(Kinds::default(), Serving(case.served.clone()));
        for policy in &case.policies {
            cluster.policies.apply(reported(policy));
        }
        if !case.namespace_unknown {
            let mut labels = case.namespace_labels.clone();
            labels.insert("kubernetes.io/metadata.name".into(), case.namespace.clone());
            cluster.namespaces.apply(case.namespace.clone(), labels);
        }
        cluster.accounts.apply(case.namespace.clone(), "default".to_owned(), Vec::new());
        for object in &case.cluster {
            report(&cluster, object.clone());
        }
        let script = Arc::new(Script::of(case));
        let accounts = [
            "deployment-controller",
            "replicaset-controller",
            "statefulset-controller",
            "daemon-set-controller",
            "job-controller",
            "cronjob-controller",
            "replication-controller",
        ];
        let accounts = accounts.map(|name| format!("system:serviceaccount:kube-system:{name}"));
        let settings = Settings {
            controller_identities: accounts
                .into_iter()
                .chain(["system:kube-controller-manager".to_owned()])
                .collect(),
            excluded_namespaces: BTreeSet::new(),
            in_flight: 8,
            kinds: Kinds::default(),
            now: || "2026-11-21T12:00:00Z".parse::<Timestamp>().unwrap(),
        };
        let cluster = Arc::new(cluster);
        let mut metrics = Registry::default();
        let counters = Metrics::register(&mut metrics);
        let scripted = Arc::new(Scripted(Arc::clone(&script)));
        let registries = Registries { resolve: scripted.clone(), suggest: scripted.clone() };
        let pins = cluster.pods.clone();
        let admission =
            Admission::new(cluster.clone(), pins, scripted, registries, settings, counters, Arc::default());
        Self { script, metrics, router: router(admission, Arc::new(Door::open())) }
    }

    /// Sends a review and returns the response in it.
    pub(crate) async fn post(&self, path: &str, review: &Value) -> Value {
        let request = Request::post(path).body(Body::from(review.to_string())).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        assert_eq!(status, 200, "{}: {review}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }
}

/// An API server without objects that serves these kinds.
struct Serving(Option<Vec<String>>);

#[async_trait]
impl Reader for Serving {
    async fn object(&self, kind: Kind, namespace: &str, name: &str, deadline: Instant) -> Option<Stored> {
        NoObjects.object(kind, namespace, name, deadline).await
    }

    async fn namespace_labels(&self, name: &str, deadline: Instant) -> Option<Labels> {
        NoObjects.namespace_labels(name, deadline).await
    }

    async fn pull_secrets(&self, _: &str, _: &str, _: Instant) -> Known<Option<Vec<String>>> {
        Known::Yes(None)
    }

    async fn served_kinds(&self, _: Instant) -> Option<ServedKinds> {
        let kind = |name: &String| {
            let (group, kind) = name.split_once('/').unwrap();
            ForeignKind { group: group.into(), kind: kind.into() }
        };
        Some(ServedKinds { kinds: self.0.as_ref()?.iter().map(kind).collect(), ..ServedKinds::default() })
    }
}

/// Returns a policy as the watch reports it. Panics if the case has a field that the type of the policy does not have.
fn reported(policy: &Value) -> Reported {
    fn parse<K: PolicyObject>(policy: &Value) -> Reported {
        let metadata: ObjectMeta = serde_json::from_value(policy["metadata"].clone()).unwrap();
        let typed: K::Spec = serde_json::from_value(policy["spec"].clone()).unwrap();
        assert_within(&policy["spec"], &serde_json::to_value(typed).unwrap(), "spec");
        Reported::parse::<K>(&metadata, policy["spec"].clone(), Value::Null)
    }
    let reported = match policy["kind"].as_str() {
        Some("ClusterImagePolicy") => parse::<ClusterImagePolicy>(policy),
        Some("ImagePolicy") => parse::<ImagePolicy>(policy),
        other => panic!("a policy of kind {other:?}"),
    };
    if let Err(cause) = &reported.compiled {
        panic!("{}: {cause}", reported.id);
    }
    reported
}

fn assert_within(written: &Value, understood: &Value, path: &str) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (key, value) in written {
                let path = format!("{path}.{key}");
                let known = understood.get(key).unwrap_or_else(|| panic!("{path} is no field"));
                assert_within(value, known, &path);
            }
        }
        (Value::Array(written), Value::Array(understood)) => {
            for (index, (written, understood)) in written.iter().zip(understood).enumerate() {
                assert_within(written, understood, &format!("{path}[{index}]"));
            }
        }
        _ => {}
    }
}

fn report(cluster: &Cluster, mut object: Value) {
    let metadata = &mut object["metadata"];
    if metadata.get("namespace").is_none() {
        metadata["namespace"] = json!("shop");
    }
    let name = object["kind"].as_str().unwrap().to_owned();
    let kinds = Kinds::default();
    let slim: Slim = serde_json::from_str(&object.to_string()).unwrap();
    if name == "ControllerRevision" {
        cluster.workloads.apply_revision(OldRevision::new(&kinds, &slim).unwrap());
        return;
    }
    let kind = kind(&name);
    let object = Stored::new(&kinds, kinds.row(kind).unwrap(), &slim).unwrap().unwrap();
    match kind {
        POD => cluster.pods.apply(object),
        _ => cluster.workloads.apply(object),
    }
}

pub(crate) fn kind(name: &str) -> Kind {
    row(name).kind
}

/// Returns the row of the judged kind of this name.
pub(crate) fn row(name: &str) -> &'static Row {
    let kinds = Kinds::default();
    let mut rows = kinds.rows().chain([&CONTROLLER_REVISIONS]);
    rows.find(|row| row.kind.name() == name).unwrap_or_else(|| panic!("kind {name}"))
}

/// The scripted answers of the registry and of the nodes, and the look-ups that they got.
pub(crate) struct Script {
    facts: BTreeMap<String, Value>,
    otherwise: Option<Value>,
    entries: BTreeMap<String, Arc<str>>,
    versions: BTreeMap<String, Version>,
    shown: BTreeMap<String, bool>,
    similar: BTreeMap<String, Vec<String>>,
    node_images: Vec<String>,
    asked: Mutex<Vec<String>>,
    asked_nodes: Mutex<Vec<String>>,
    unexpected: Mutex<Vec<String>>,
}

impl Script {
    fn of(case: &Case) -> Self {
        let version = |version: &crate::cases::model::Version| Version {
            tag: version.tag.clone(),
            digest: version.digest.parse().unwrap(),
        };
        Self {
            facts: case.registry.clone(),
            otherwise: case.registry_else.clone(),
            entries: case.entries.iter().map(|(host, entry)| (host.clone(), entry.as_str().into())).collect(),
            shown: case.shown.clone(),
            versions: case.versions.iter().map(|(key, value)| (key.clone(), version(value))).collect(),
            similar: case.similar.clone(),
            node_images: case.node_images.clone(),
            asked: Mutex::default(),
            asked_nodes: Mutex::default(),
            unexpected: Mutex::default(),
        }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort();
        asked
    }

    pub(crate) fn asked_nodes(&self) -> Vec<String> {
        let mut asked = self.asked_nodes.lock().unwrap().clone();
        asked.sort();
        asked
    }

    pub(crate) fn unexpected(&self) -> Vec<String> {
        self.unexpected.lock().unwrap().clone()
    }
}

struct Scripted(Arc<Script>);

#[async_trait]
impl Resolve for Scripted {
    fn remembered(&self, _: &ImageRef, _: &Asker, _: Option<Instant>, _: Instant) -> Option<Fact> {
        None
    }

    fn entry(&self, image: &ImageRef) -> Option<Arc<str>> {
        self.0.entries.get(image.domain()).cloned()
    }

    async fn resolve(&self, image: &ImageRef, _: &Asker, _: Option<Instant>, _: Instant) -> Fact {
        let reference = image.original();
        self.0.asked.lock().unwrap().push(reference.to_owned());
        match self.0.facts.get(reference).or(self.0.otherwise.as_ref()) {
            Some(Value::String(word)) if word == "hangs" => pending().await,
            Some(said) => fact(said),
            None => {
                self.0.unexpected.lock().unwrap().push(reference.to_owned());
                Fact::TagMissing
            }
        }
    }
}

#[async_trait]
impl NodeImages for Scripted {
    async fn holds(&self, image: &ImageRef, _: Instant) -> bool {
        self.0.asked_nodes.lock().unwrap().push(image.original().to_owned());
        self.0.node_images.iter().any(|held| held == image.original())
    }
}

#[async_trait]
impl Suggest for Scripted {
    async fn version_of(&self, image: &ImageRef, _: &Asker, effort: Effort) -> Named {
        assert!(matches!(effort, Effort::Until(_)));
        let reference = image.original();
        Named {
            version: self.0.versions.get(reference).cloned(),
            shown: self.0.shown.get(reference).copied(),
        }
    }

    async fn similar_tags(&self, image: &ImageRef, _: &Asker, _: Effort) -> Vec<String> {
        self.0.similar.get(image.original()).cloned().unwrap_or_default()
    }
}

/// Parses a fact: a digest, a word, or a word with details: `{ unavailable: { cause: WORD, last-known: DIGEST, age:
/// SECONDS } }` with a status instead of a word, `{ rate-limited: { retry: SECONDS, … } }`, `{ credentials-rejected:
/// SECRET }`, `{ address-forbidden: HOST }` for a registry and `{ address-forbidden: { host: HOST, position: WORD,
/// registry: HOST, … } }` for another host, `{ realm-not-trusted: { registry: HOST, realm: HOST, entry: MATCH } }`, `{
/// artifact: DIGEST }`, `{ wasm: DIGEST }`, `{ missing-or-private: { secret: NAME } }` and `access-denied` alike, see
/// [`hidden`].
fn fact(said: &Value) -> Fact {
    if let Some(word) = said.as_str() {
        return match word {
            "tag-missing" => Fact::TagMissing,
            "tag-expired" => Fact::TagExpired,
            "repository-missing" => Fact::RepositoryMissing,
            "digest-missing" => Fact::DigestMissing,
            "archived" => Fact::Archived { restoring: false },
            "being-restored" => Fact::Archived { restoring: true },
            "missing-or-private" => Fact::MissingOrPrivate(Hidden::default()),
            "access-denied" => Fact::AccessDenied(Hidden::default()),
            "hash-mismatch" => Fact::Broken(Broken::HashMismatch),
            "schema1" => Fact::Broken(Broken::Schema1),
            "not-an-image" => Fact::Broken(Broken::NotAnImage),
            "offline" => Fact::Offline,
            digest => Fact::Present(digest.parse().unwrap_or_else(|e| panic!("{digest}: {e}"))),
        };
    }
    let (word, more) = said.as_object().and_then(|said| said.iter().next()).unwrap();
    let seconds = |key: &str| more.get(key).map(|seconds| Duration::from_secs(seconds.as_u64().unwrap()));
    let last_known = || {
        let digest = more.get("last-known")?.as_str()?.parse().unwrap();
        let artifact = more.get("artifact").is_some_and(|artifact| artifact.as_bool().unwrap());
        Some(LastKnown { digest, age: seconds("age").unwrap(), artifact })
    };
    match word.as_str() {
        "unavailable" => Fact::Unavailable {
            cause: match more.get("cause") {
                None => Unavailable::Connect,
                Some(Value::Number(status)) => {
                    Unavailable::Status(u16::try_from(status.as_u64().unwrap()).unwrap())
                }
                Some(Value::String(word)) if word == "dns" => Unavailable::Dns,
                Some(Value::String(word)) if word == "tls" => Unavailable::Tls,
                Some(Value::String(word)) if word == "service-account" => Unavailable::ServiceAccount,
                Some(other) => panic!("no cause: {other}"),
            },
            retry_after: seconds("retry"),
            last_known: last_known(),
        },
        "rate-limited" => Fact::RateLimited { retry_after: seconds("retry"), last_known: last_known() },
        "credentials-rejected" => Fact::CredentialsRejected { secret: more.as_str().map(str::to_owned) },
        "address-forbidden" => Fact::AddressForbidden(Box::new(forbidden(more))),
        "realm-not-trusted" => {
            let [registry, realm] = ["registry", "realm"].map(|key| more[key].as_str().unwrap().to_owned());
            Fact::RealmNotTrusted(Box::new(Realm { registry, realm, entry: text(more, "entry") }))
        }
        "missing-or-private" => Fact::MissingOrPrivate(hidden(more)),
        "access-denied" => Fact::AccessDenied(hidden(more)),
        "artifact" | "wasm" => {
            Fact::Artifact { digest: more.as_str().unwrap().parse().unwrap(), wasm: word == "wasm" }
        }
        other => panic!("no fact: {other}"),
    }
}

fn text(said: &Value, key: &str) -> Option<Arc<str>> {
    said.get(key).map(|text| text.as_str().unwrap().into())
}

/// Parses a host that tagpin may not reach: a registry, or `{ host, position, registry, entry, own-entry, untrusted,
/// never }`.
fn forbidden(said: &Value) -> ForbiddenHost {
    let is = |key: &str| said.get(key).is_some_and(|value| value.as_bool().unwrap());
    let host = said.as_str().or_else(|| said.get("host")?.as_str()).unwrap();
    ForbiddenHost {
        authority: host.to_owned(),
        position: match said.get("position").and_then(Value::as_str) {
            None => Position::Registry,
            Some("mirror") => Position::Mirror,
            Some("token-service") => Position::TokenService,
            Some("redirect") => Position::Redirect,
            Some(other) => panic!("no position: {other}"),
        },
        registry: text(said, "registry").as_deref().unwrap_or(host).to_owned(),
        entry: text(said, "entry"),
        own_entry: text(said, "own-entry"),
        untrusted: is("untrusted"),
        never: is("never"),
    }
}

/// Parses how a registry that shows nothing was asked: `{ secret: NAME }`, `{ entry: MATCH }`, `{ none-named: true }`, `{
/// not-readable: [NAME] }`, `{ none-matches: [NAME] }` or `{ missing: NAME }`, and perhaps `cloud: aws`.
fn hidden(said: &Value) -> Hidden {
    let names = |key: &str| {
        let names = said.get(key)?.as_array().unwrap().iter();
        Some(names.map(|name| name.as_str().unwrap().to_owned()).collect::<Box<[String]>>())
    };
    let secret = |key: &str| Some(said.get(key)?.as_str().unwrap().into());
    let with = None
        .or_else(|| secret("secret").map(AskedWith::Secret))
        .or_else(|| text(said, "entry").map(AskedWith::Entry))
        .or_else(|| said.get("none-named").map(|_| AskedWith::NoneNamed))
        .or_else(|| {
            names("not-readable").map(|named| AskedWith::NotReadable { namespace: "shop".into(), named })
        })
        .or_else(|| names("none-matches").map(AskedWith::NoneMatches))
        .or_else(|| {
            let problem = SecretProblem::NotFound;
            secret("missing").map(|secret| AskedWith::Unusable { secret, problem })
        });
    let cloud = said.get("cloud").map(|cloud| match cloud.as_str() {
        Some("aws") => Cloud::Aws,
        other => panic!("no cloud: {other:?}"),
    });
    Hidden { with: with.unwrap_or_else(|| panic!("nothing was asked with: {said}")), cloud }
}
