//! The fuzz targets. Each gives its bytes to the code that ships, and checks what must hold for the result.
//! `fuzz/fuzz_targets/` passes the inputs of libFuzzer on, `tests/it/fuzz.rs` those of the corpus.

use std::collections::BTreeMap;
use std::path::Path;

use axum::http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::Fact;
use tagpin_domain::image::ImageRef;
use tagpin_domain::kind::Kind;
use tagpin_kube::image_policy::{ClusterImagePolicy, ImagePolicy, PolicyObject};
use tagpin_kube::item::{Item, Unreadable, Whole};
use tagpin_kube::policies::Reported;
use tagpin_kube::slim::{ReplicaPod, Slim, SlimNamespace, SlimServiceAccount, Unparsed};
use tagpin_kube::stored::{OldRevision, Stored};
use tagpin_objects::kinds::{CRON_JOB, DEPLOYMENT, Kinds, POD};
use tagpin_registry::{
    Challenge, Challenges, DockerConfig, Identity, Keyring, OperatorCredentials as _, Profiles, Registries,
    Source, follow_link, next_link, read_manifest,
};
use tokio::runtime::{self, Runtime};
use url::Url;

use crate::support::webhook::{Table, Tables, Webhook, create, pod};

/// The function that a target calls with the bytes of one input.
pub type Target = fn(&[u8]);

/// Every target, by name.
pub const ALL: [(&str, Target); 10] = [
    ("envelope", envelope),
    ("reference", reference),
    ("policy", policy),
    ("challenge", challenge),
    ("dockerconfigjson", dockerconfigjson),
    ("link", link),
    ("registries", registries),
    ("hosts", hosts),
    ("manifest", manifest),
    ("item", item),
];

const HEX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn digest() -> Digest {
    Digest::parse(&format!("sha256:{HEX}")).unwrap()
}

/// A webhook in process, which is the same for all inputs of a thread.
struct World {
    runtime: Runtime,
    registry: Table,
    webhook: Webhook,
}

impl World {
    fn new(policies: &[(&str, Value)]) -> Self {
        let facts = [("docker.io/library/web:1".to_owned(), Fact::Present(digest()))].into();
        let registry = Table::of(Tables { facts, ..Tables::default() });
        let now: fn() -> Timestamp = || Timestamp::UNIX_EPOCH;
        let webhook = Webhook::with(policies, registry.clone(), 256, now);
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, registry, webhook }
    }

    /// Drops what the registry remembers for tests, because that would grow with every input.
    fn forget(&self) {
        drop((self.registry.askers(), self.registry.efforts()));
    }
}

/// Sends the body of an admission review through the webhook's own router. The review is refused as unreadable, or gets
/// an answer that the API server can use.
///
/// # Panics
/// Panics if a condition that must hold does not.
pub fn envelope(bytes: &[u8]) {
    thread_local! {
        static WORLD: World = World::new(&[
            ("enforce", json!({ "mode": "Enforce", "pin": { "targets": ["Pods"] } })),
            ("warn", json!({ "mode": "Warn", "rules": { "tags": { "requireExplicit": true } } })),
        ]);
    }
    WORLD.with(|world| {
        world.runtime.block_on(reviewed(&world.webhook, bytes));
        world.forget();
    });
}

async fn reviewed(webhook: &Webhook, bytes: &[u8]) {
    let validated = webhook.post("/validate?timeout=10s", bytes.to_vec()).await;
    let mutated = webhook.post("/mutate?timeout=5s", bytes.to_vec()).await;
    for answered in [&validated, &mutated] {
        assert!(matches!(answered.status, StatusCode::OK | StatusCode::BAD_REQUEST), "{}", answered.status);
    }
    if validated.status == StatusCode::OK {
        let response = validated.response();
        assert!(response.get("patch").is_none());
        assert_eq!(response["allowed"] == json!(false), validated.decision() == "deny");
        for line in validated.warnings() {
            assert!(line.len() <= 256 && line.bytes().all(|b| matches!(b, b' '..=b'~')), "{line:?}");
        }
    }
    if mutated.status == StatusCode::OK {
        assert_eq!(mutated.response()["allowed"], json!(true));
        let patch = mutated.patch();
        // The webhook skips some values unread, such as `1e999`, that a general parser refuses.
        let (false, Ok(mut review)) = (patch.is_null(), serde_json::from_slice::<Value>(bytes)) else {
            return;
        };
        let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
        json_patch::patch(&mut review["request"]["object"], &patch).unwrap();
        assert_eq!(webhook.mutate(&review).await.patch(), Value::Null, "a second patch");
    }
}

/// Parses an image reference. A reference that is printed and parsed again is the same.
///
/// # Panics
/// Panics if a condition that must hold does not.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(image) = ImageRef::parse(text) else { return };
    assert_eq!(image.original(), text);
    assert!(text.starts_with(image.written_name()));
    let parts = |image: &ImageRef| {
        let tag = image.tag().map(str::to_owned);
        (image.repository().to_owned(), tag, image.digest().cloned(), image.policy_name())
    };
    let printed = image.canonical();
    let again = ImageRef::parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
    assert_eq!(parts(&again), parts(&image), "{printed}");
    let pinned = ImageRef::parse(&image.pinned(&digest())).unwrap();
    assert_eq!(pinned.digest(), Some(image.digest().unwrap_or(&digest())));
    assert_eq!((pinned.repository(), pinned.tag()), (image.repository(), image.tag()));
}

/// Reads the spec of a policy of either kind, as YAML or JSON. The policy comes into force or says why not, and a pod
/// gets an answer with the policy in force.
///
/// # Panics
/// Panics if a condition that must hold does not.
pub fn policy(bytes: &[u8]) {
    thread_local! {
        static WORLD: World = World::new(&[]);
    }
    let Ok(spec) = serde_saphyr::from_slice::<Value>(bytes) else { return };
    let policies =
        [reported::<ClusterImagePolicy>(None, &spec), reported::<ImagePolicy>(Some("shop"), &spec)];
    WORLD.with(|world| {
        for policy in policies {
            let kind = policy.id.kind();
            world.webhook.cluster.policies.replace(kind, vec![policy]);
        }
        for image in ["web:1", "web", "ghcr.io/acme/api:2", "%"] {
            let review = create(pod(image));
            world.runtime.block_on(async {
                assert_eq!(world.webhook.validate(&review).await.status, StatusCode::OK);
                assert_eq!(world.webhook.mutate(&review).await.status, StatusCode::OK);
            });
        }
        world.forget();
    });
}

fn reported<K: PolicyObject>(namespace: Option<&str>, spec: &Value) -> Reported {
    let metadata = json!({ "name": "fuzzed", "namespace": namespace, "uid": "1", "generation": 2 });
    let metadata = serde_json::from_value(metadata).unwrap();
    let status = json!({ "lastGood": { "generation": 2, "spec": spec } });
    let reported = Reported::parse::<K>(&metadata, spec.clone(), status);
    match &reported.compiled {
        Err(problem) => assert!(!problem.to_string().is_empty()),
        // The leader keeps the spec in force in the status. After a restart the same policy must follow from it.
        Ok(_) => assert!(reported.last_good.is_some() || spec.is_null(), "{spec}"),
    }
    reported
}

/// Parses the values of `WWW-Authenticate` headers, one per line.
///
/// # Panics
/// Panics if a condition that must hold does not.
pub fn challenge(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let challenges = Challenges::parse(text.lines());
    for (has_password, trusted) in [(false, true), (true, true), (true, false)] {
        match challenges.choose(has_password, |_| trusted) {
            Some(Challenge::Bearer(bearer)) => {
                let parts = [Some(&bearer.realm), bearer.service.as_ref(), bearer.scope.as_ref()];
                assert!(parts.into_iter().flatten().all(|part| (1..=2048).contains(&part.len())));
                assert!(text.to_ascii_lowercase().contains("bearer"));
            }
            Some(Challenge::Basic) => assert!(has_password),
            None => {}
        }
    }
}

/// Reads a docker configuration in both shapes: the kubelet's, and the bare map. Credentials are found for references,
/// and no password is shown.
///
/// # Panics
/// Panics if a condition that must hold does not.
pub fn dockerconfigjson(bytes: &[u8]) {
    let configs = [DockerConfig::from_config_json(bytes), DockerConfig::from_dockercfg(bytes)];
    for config in configs.into_iter().flatten() {
        let source = Source::UserConfig("config.json".to_owned());
        let mut keyring = Keyring::default();
        keyring.add(&config, &source);
        let written =
            config.entries().map(|(location, _)| location.trim_start_matches("https://").to_owned());
        let hosts = written.chain(["docker.io".to_owned(), "ghcr.io".to_owned()]);
        for image in hosts.filter_map(|host| ImageRef::parse(&format!("{host}/acme/api:1")).ok()) {
            let found = keyring.look_up(&image);
            assert!(found.len() <= config.entries().count(), "{}", image.original());
            assert!(found.iter().all(|candidate| candidate.source == source));
        }
    }
}

/// Parses the values of `Link` headers, one per line. Another page is requested from the same place or not at all.
///
/// # Panics
/// Panics if a condition that must hold does not.
pub fn link(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let first = Url::parse("https://mirror.example:5000/v2/a/tags/list?n=1000&ns=docker.io").unwrap();
    let Some(target) = text.lines().find_map(next_link) else { return };
    let Some(next) = follow_link(&first, target) else { return };
    assert_eq!((next.origin(), next.path()), (first.origin(), first.path()), "{next}");
    assert_eq!((next.username(), next.password(), next.fragment()), ("", None, None), "{next}");
    assert!(next.query_pairs().any(|(key, _)| key == "ns"), "{next}");
}

/// Reads a `registries.yaml` of k3s. The file is refused with the place of the mistake, or every registry can be asked.
///
/// # Panics
/// Panics if a condition that must hold does not.
pub fn registries(bytes: &[u8]) {
    const OURS: &str = r#"{
        "registriesFile": { "format": "k3s", "path": "nodes.yaml" },
        "registries": [
            { "match": "*.example.com", "resolveFrom": "mirrors-then-upstream", "mirrors": [{ "url": "https://m.example" }] },
            { "match": "docker.io", "allowPrivate": true }
        ]
    }"#;
    match configuration(OURS, [("nodes.yaml", bytes)]) {
        Err(error) => assert!(error.contains("nodes.yaml"), "{error}"),
        Ok(registries) => {
            for domain in ["docker.io", "ghcr.io", "a.example.com", "[::1]:5000"] {
                let profile = registries.profile(domain);
                for endpoint in profile.authorities() {
                    assert!(endpoint.host().is_some());
                    drop(endpoint.repository("library/nginx"));
                }
                let _ = registries.credential(domain);
            }
        }
    }
}

/// Reads a `hosts.toml` of containerd. The file is refused with the place of the mistake, or every host in it can be
/// asked, and only the registry itself gets the credentials of the asker.
///
/// # Panics
/// Panics if a condition that must hold does not.
pub fn hosts(bytes: &[u8]) {
    const OURS: &str = r#"{
        "registriesFile": { "format": "certs.d", "path": "certs.d" },
        "registries": [{ "match": "docker.i*", "resolveFrom": "mirrors-then-upstream" }]
    }"#;
    let files = [
        ("certs.d/docker.io/hosts.toml", bytes),
        ("certs.d/docker.io/ca.pem", b"no authority"),
        ("certs.d/_default/hosts.toml", b"[host.'https://m.example']"),
    ];
    match configuration(OURS, files) {
        Err(error) => assert!(error.contains("/certs.d/docker.io/hosts.toml"), "{error}"),
        Ok(registries) => {
            let profile = registries.profile("docker.io");
            for endpoint in profile.mirrors.iter().chain(&profile.upstream) {
                let host = endpoint.host().unwrap().to_string();
                assert!(matches!(endpoint.root().scheme(), "http" | "https"), "{}", endpoint.root());
                assert!(host == "registry-1.docker.io" || !matches!(endpoint.identity, Identity::Asker));
                drop(endpoint.repository("library/nginx"));
            }
        }
    }
}

/// Reads a configuration that names these files, and no file of this machine.
fn configuration<'a>(
    ours: &'a str,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Registries, String> {
    let folder = Path::new("/fuzzed");
    let given = files.into_iter().chain([("config.yaml", ours.as_bytes())]);
    let files = given.map(|(name, bytes)| (folder.join(name), bytes.to_vec())).collect();
    Registries::load_elsewhere(&folder.join("config.yaml"), files).map_err(|error| error.to_string())
}

/// Reads a manifest, after two lines with its media type and with the digest that its registry names. The digest of an
/// image is that of these bytes.
///
/// # Panics
/// Panics if a condition that must hold does not.
pub fn manifest(bytes: &[u8]) {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let (Some(media_type), Some(named), Some(body)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let (Ok(media_type), Ok(named)) = (std::str::from_utf8(media_type), std::str::from_utf8(named)) else {
        return;
    };
    let fact = read_manifest(Some(media_type), Some(named), body);
    if let Fact::Present(digest) | Fact::Artifact { digest, .. } = fact {
        let sha256: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        let is_its_own = digest.as_str() == format!("sha256:{sha256}");
        assert!(
            is_its_own || !digest.as_str().starts_with("sha256:") && digest.as_str() == named,
            "{digest}"
        );
    }
}

/// Reads an object of a list or a watch, after one byte that chooses its type. The object is read, or named with its
/// fault, which shows no value of the object. What the stores keep of it is bounded.
///
/// # Panics
/// Panics if a condition that must hold does not.
pub fn item(bytes: &[u8]) {
    let Some((choice, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    // The client parses lists and events, which are JSON as a whole.
    if serde_json::from_str::<&RawValue>(text).is_err() {
        return;
    }
    let kinds = Kinds::default();
    match choice % 12 {
        0 => stored(&kinds, POD, text),
        1 => stored(&kinds, DEPLOYMENT, text),
        2 => stored(&kinds, CRON_JOB, text),
        3 => {
            let revision = read::<Slim>(text).and_then(|slim| OldRevision::new(&kinds, &slim));
            assert!(revision.is_none_or(|revision| revision.slots.len() <= SLOTS));
        }
        4 => drop(read::<SlimNamespace>(text)),
        5 => drop(read::<SlimServiceAccount>(text)),
        6 => {
            let policy = read::<Unparsed<ClusterImagePolicy>>(text);
            drop(policy.map(|it| Reported::parse::<ClusterImagePolicy>(&it.metadata, it.spec, it.status)));
        }
        7 => drop(read::<ReplicaPod>(text)),
        8 => drop(read::<Whole<Secret>>(text)),
        9 => drop(read::<Whole<Deployment>>(text)),
        10 => drop(read::<Whole<Namespace>>(text)),
        _ => {
            drop(read::<Whole<MutatingWebhookConfiguration>>(text));
            drop(read::<Whole<ValidatingWebhookConfiguration>>(text));
        }
    }
}

/// Maximum number of slots of an object that is read.
const SLOTS: usize = 1000;

fn stored(kinds: &Kinds, kind: Kind, text: &str) {
    let row = kinds.row(kind).unwrap();
    let Some(slim) = read::<Slim>(text) else { return };
    match Stored::new(kinds, row, &slim) {
        Ok(Some(stored)) => {
            let labels = &stored.workload.labels.known;
            let bytes = labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            // The labels of revisions have room of their own.
            assert!(bytes <= 3 * 8 * 1024 && stored.workload.slots.len() <= SLOTS, "{bytes}");
        }
        Ok(None) => {}
        Err(unreadable) => told(&unreadable, text),
    }
}

/// Returns the object if it can be read as this type, and checks what is told of it otherwise.
fn read<T: Resource + DeserializeOwned>(text: &str) -> Option<T> {
    let item = serde_json::from_str::<Item<T>>(text).unwrap();
    // A watch goes on from the version of each object, so it must be known even of one that cannot be read.
    let object = fields_of(text);
    let outline = object.get("metadata").map(|metadata| fields_of(metadata.get())).unwrap_or_default();
    let metadata = |key: &str| serde_json::from_str::<String>(outline.get(key)?.get()).ok();
    if !has_a_key_twice(text) {
        assert_eq!(item.identity().name, metadata("name").unwrap_or_default(), "{text}");
        assert_eq!(item.meta().resource_version, metadata("resourceVersion"), "{text}");
    }
    item.and_then(Ok).map_err(|unreadable| told(&unreadable, text)).ok()
}

/// Returns the fields of an object, whatever their values are; none if the text is no object.
fn fields_of(text: &str) -> BTreeMap<String, &RawValue> {
    serde_json::from_str(text).unwrap_or_default()
}

/// Checks the fault that is told of an object: one line of names of fields, without values.
fn told(unreadable: &Unreadable, text: &str) {
    let fault = &unreadable.fault;
    assert!(!fault.is_empty() && fault.len() <= 1024 && !fault.contains(char::is_control), "{fault:?}");
    let mut values = Vec::new();
    values_of(&serde_json::from_str(text).unwrap_or_default(), &mut values);
    let mut names = Vec::new();
    names_of(&serde_json::from_str(text).unwrap_or_default(), &mut names);
    for value in values {
        let hidden = value.is_ascii() && value.len() >= 12 && !names.iter().any(|name| name.contains(&value));
        assert!(!hidden || !fault.contains(&value), "{fault:?} shows {value:?}");
    }
}

fn values_of(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(all) => all.iter().for_each(|value| values_of(value, found)),
        Value::Object(all) => all.values().for_each(|value| values_of(value, found)),
        _ => {}
    }
}

fn names_of(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(all) => all.iter().for_each(|value| names_of(value, found)),
        Value::Object(all) => all.iter().for_each(|(name, value)| {
            found.push(name.clone());
            names_of(value, found);
        }),
        _ => {}
    }
}

/// Returns true if a key of the object or of its metadata may occur twice, so that its readers may choose different ones.
fn has_a_key_twice(text: &str) -> bool {
    let once = |key: &str| text.matches(key).count() <= 1;
    !["metadata", "name", "resourceVersion"].into_iter().all(|key| once(&format!("\"{key}\"")))
        || text.contains("\\u")
}
