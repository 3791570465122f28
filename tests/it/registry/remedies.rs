//! Remedies that change the operator's configuration: the text that tagpin prints is read, pasted into a file of
//! registries as a person would paste it, and the registry is asked again.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tagpin_domain::asker::Asker;
use tagpin_domain::denial::Violation;
use tagpin_domain::fact::LastKnown;
use tagpin_domain::image::ImageRef;
use tagpin_domain::wording::{About, Wording};
use tagpin_registry::{
    Around, Cache, Candidate, Credentials, Held, OperatorCredential, OperatorCredentials as _, Registries,
    RegistryProfile,
};
use tagpin_review::{Resolve as _, Seeds};
use tempfile::TempDir;
use tokio::time::Instant;

use super::distribution::{Access, OCI_MANIFEST, Pusher, Registry, Release};
use super::resolve::{config, json as json_of};
use super::scripted::{Scripted, Step};
use super::support::{AUTHORITY, PATIENCE, TestNames, client, secret};

mod scripts;

use scripts::{
    FOUND, FOUND_AT_MIRROR, FOUND_WITH_THE_CREDENTIAL, LIMITED, REDIRECTED, REDIRECTED_TO_METADATA,
    TOKEN_FOR_ANYBODY, TOKEN_FOR_THE_CREDENTIAL, TOKEN_WITHOUT_THE_CREDENTIAL,
};

/// The place of a new entry in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paste {
    Before,
    After,
}

/// A file of registries, as a person edits it.
struct Registered {
    folder: TempDir,
    entries: Vec<Value>,
}

impl Registered {
    fn new(entries: Value) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &AUTHORITY.ca).unwrap();
        let Value::Array(entries) = entries else { panic!("{entries}") };
        Self { folder, entries }
    }

    /// Writes the file. Everything that JSON can say is YAML.
    fn file(&self) -> PathBuf {
        let file = self.folder.path().join("registries.yaml");
        std::fs::write(&file, json!({ "registries": self.entries }).to_string()).unwrap();
        file
    }

    fn load(&self) -> Registries {
        Registries::load(&self.file()).unwrap_or_else(|error| panic!("{error}: {:?}", self.entries))
    }

    /// Does what the remedy says, and returns the number of entries that it names.
    fn paste(&mut self, remedy: &str, at: Paste) -> usize {
        let remedy = remedy.replace("caFile: PATH", "caFile: ca.pem");
        let remedy = remedy.replace("{ namespace: NAMESPACE, name: NAME }", "{ namespace: ops, name: pull }");
        let mut pasted = 0;
        for said in remedy.split("remove offline: true from the entry match: ").skip(1) {
            self.entry(said).remove("offline").expect("the entry is offline");
            pasted += 1;
        }
        for said in remedy.split("add ").skip(1) {
            if let Some((region, rest)) = said.split_once(" to credentials.aws.regions of the entry match: ")
            {
                let regions = &mut self.entry(rest)["credentials"]["aws"]["regions"];
                regions.as_array_mut().unwrap().push(json!(region));
                pasted += 1;
            } else if let Some((keys, rest)) = said.split_once(" to the entry match: ")
                && !keys.starts_with("registries:")
            {
                let keys: Map<String, Value> = serde_saphyr::from_str(&format!("{{ {keys} }}")).unwrap();
                merge(self.entry(rest), keys);
                pasted += 1;
            } else if let Some(list) = said.strip_prefix("registries: ") {
                let (list, _) = list.split_once("] to ").expect("the list ends");
                let new: Vec<Value> = serde_saphyr::from_str(&format!("{list}]")).unwrap();
                pasted += new.len();
                let place = if at == Paste::Before { 0 } else { self.entries.len() };
                self.entries.splice(place..place, new);
            }
        }
        pasted
    }

    /// Returns the entry whose `match` is the text in quotes at the start.
    fn entry(&mut self, quoted: &str) -> &mut Map<String, Value> {
        let name =
            quoted.strip_prefix('"').and_then(|rest| rest.split_once('"')).expect("the match has quotes").0;
        let entry = self.entries.iter_mut().find(|entry| entry["match"] == *name);
        entry.unwrap_or_else(|| panic!("there is no entry {name}")).as_object_mut().unwrap()
    }
}

/// Adds keys to an entry. Lists grow; a key that is there already would be a mistake in the file.
fn merge(entry: &mut Map<String, Value>, keys: Map<String, Value>) {
    for (key, value) in keys {
        match (entry.get_mut(&key), value) {
            (Some(Value::Array(known)), Value::Array(new)) => known.extend(new),
            (Some(known), _) => panic!("{key} is {known} already"),
            (None, value) => drop(entry.insert(key, value)),
        }
    }
}

/// A registry that cannot be asked as it is configured.
struct Case {
    /// The image; `{registry}` stands for the scripted registry.
    image: &'static str,
    names: TestNames,
    /// The entries before the first question.
    entries: Value,
    candidate: Candidate,
    /// The steps of each question; the last are for every later one.
    scripts: Vec<&'static str>,
    /// The code of each question. Before the next one, the remedy is pasted.
    codes: Vec<&'static str>,
}

impl Case {
    fn new(image: &'static str, entries: Value, codes: &[&'static str]) -> Self {
        Self {
            image,
            names: TestNames::default(),
            entries,
            candidate: Candidate::anonymous(),
            scripts: vec![FOUND],
            codes: codes.to_vec(),
        }
    }
}

/// The credential of the pod.
struct Holding([Candidate; 1]);

#[async_trait]
impl Credentials for Holding {
    async fn candidates(&self, _: &Asker, _: &ImageRef, _: Instant) -> Held {
        self.0.to_vec().into()
    }

    fn at_hand(&self, _: &Asker, _: &ImageRef, _: &RegistryProfile) -> Option<Held> {
        Some(self.0.to_vec().into())
    }
}

struct NoPins;

impl Seeds for NoPins {
    fn last_known(&self, _: &ImageRef, _: &Asker, _: Timestamp) -> Option<LastKnown> {
        None
    }
}

const FORBIDDEN: &str = "RegistryForbidden";
const UNAVAILABLE: &str = "RegistryUnavailable";
const PRESENT: &str = "Present";

/// Asks, pastes the remedy and asks again, until the last code. Returns the last remedy.
async fn hold(scripted: &Scripted, case: Case, at: Paste) -> String {
    let Case { image, names, entries, candidate, scripts, codes } = case;
    let image = ImageRef::parse(&scripted.fill(image)).unwrap();
    let mut registered = Registered::new(entries);
    let names = Arc::new(names.0);
    let mut remedy = String::new();
    for (round, code) in codes.iter().enumerate() {
        if round > 0 {
            assert_ne!(registered.paste(&remedy, at), 0, "{image}: {remedy}");
        }
        let registries = Arc::new(registered.load());
        let candidates = [match registries.credential(image.domain()) {
            Some(OperatorCredential::Secret { secret: named, .. }) => {
                assert_eq!((&*named.namespace, &*named.name), ("ops", "pull"));
                secret("ops/pull", "u", "hunter2-secret")
            }
            _ => candidate.clone(),
        }];
        let steps: Vec<Step> =
            serde_saphyr::from_str(scripts.get(round).or(scripts.last()).unwrap()).unwrap();
        scripted.expect(&steps);
        let names = TestNames((*names).clone());
        let around = Around {
            credentials: Arc::new(Holding(candidates)),
            profiles: Arc::clone(&registries) as _,
            seeds: Arc::new(NoPins),
            now: Timestamp::now,
            observer: Arc::new(()),
        };
        let cache = Cache::new(client(Arc::clone(&registries) as _, names, Arc::new(())), around);
        let fact = cache.resolve(&image, &Asker::anonymous(), None, Instant::now() + PATIENCE).await;
        let complaints = scripted.complaints();
        let entries = &registered.entries;
        let Some(violation) = Violation::of(&fact) else {
            assert_eq!(PRESENT, *code, "{image}, question {round}: {entries:?}");
            assert_eq!(complaints, [""; 0], "{image}: {entries:?}");
            continue;
        };
        let entry = cache.entry(&image);
        let (reference, entry, shown) = (image.original(), entry.as_deref(), fact.shows_repository());
        let wording = Wording::new(
            &violation,
            &About { reference, image: Some(&image), entry, shown, container: None },
        );
        remedy = wording.remedy();
        let said = format!("{image}, question {round}: {fact:?}: {remedy} {complaints:?} {entries:?}");
        assert_eq!(wording.code().as_str(), *code, "{said}");
    }
    remedy
}

async fn scripted() -> Scripted {
    Scripted::start(&["registry", "auth", "other"].map(str::to_owned)).await
}

/// Returns a pattern with a wildcard that covers this host.
fn covering(scripted: &Scripted, host: &str) -> String {
    scripted.authority(host).replacen(host, "*", 1)
}

/// Returns the entry of the registry that allows and trusts it.
fn reached(pattern: &str) -> Value {
    json!({ "match": pattern, "allowPrivate": true, "tls": { "caFile": "ca.pem" } })
}

#[tokio::test]
async fn a_registry_at_a_private_address_is_reached_and_its_authority_trusted() {
    for at in [Paste::Before, Paste::After] {
        let scripted = scripted().await;
        let address = format!("127.0.0.1:{}", scripted.authority("registry").split_once(':').unwrap().1);
        let image: &str = format!("{address}/team/app:1").leak();
        let names = covering(&scripted, "registry");
        let addresses = address.replacen(".1:", ".*:", 1);
        for (image, entries) in [
            ("{registry}/team/app:1", json!([])),
            (
                "{registry}/team/app:1",
                json!([{ "match": "other.example" }, { "match": names, "confirmDigest": "never" }]),
            ),
            (image, json!([])),
            (image, json!([{ "match": addresses }, { "match": "other.example" }])),
        ] {
            hold(&scripted, Case::new(image, entries, &[FORBIDDEN, UNAVAILABLE, PRESENT]), at).await;
        }
        // Nothing listens there: the address is asked, which is all that the entry is for.
        for entries in [json!([]), json!([{ "match": "[::1]:1", "confirmDigest": "never" }])] {
            hold(&scripted, Case::new("[::1]:1/team/app:1", entries, &[FORBIDDEN, UNAVAILABLE]), at).await;
        }
        for entries in [json!([]), json!([{ "match": "docker.io" }]), json!([{ "match": "*.io" }])] {
            let hub = Case::new("team/app:1", entries, &[FORBIDDEN, UNAVAILABLE]);
            let names = [("registry-1.docker.io".to_owned(), vec![[127, 0, 0, 1].into()])];
            hold(&scripted, Case { names: TestNames(names.into()), ..hub }, at).await;
        }
    }
}

#[tokio::test]
async fn a_mirror_at_a_private_address_is_reached_by_the_entry_of_its_registry() {
    let scripted = scripted().await;
    let url = format!("https://{}", scripted.authority("other"));
    for pattern in ["docker.io", "*.io"] {
        let entry = json!({ "match": pattern, "resolveFrom": "mirrors-only", "mirrors": [{ "url": url }] });
        let case = Case::new("team/app:1", json!([entry]), &[FORBIDDEN, UNAVAILABLE, PRESENT]);
        hold(&scripted, Case { scripts: vec![FOUND_AT_MIRROR], ..case }, Paste::After).await;
    }
}

#[tokio::test]
async fn a_token_service_at_a_private_address_is_reached() {
    for at in [Paste::Before, Paste::After] {
        let scripted = scripted().await;
        let registry = reached(&scripted.authority("registry"));
        let earlier = json!({ "match": covering(&scripted, "auth") });
        for entries in [json!([registry]), json!([registry, earlier]), json!([earlier, registry])] {
            let case = Case::new("{registry}/team/app:1", entries, &[FORBIDDEN, PRESENT]);
            hold(&scripted, Case { scripts: vec![TOKEN_FOR_ANYBODY], ..case }, at).await;
        }
    }
}

#[tokio::test]
async fn a_token_service_on_another_host_gets_the_credential_and_is_reached() {
    let user = || secret("regcred", "u", "hunter2-secret");
    for at in [Paste::Before, Paste::After] {
        let scripted = scripted().await;
        let [registry, covered] = [scripted.authority("registry"), covering(&scripted, "registry")]
            .map(|pattern| reached(&pattern));
        let trusting = json!({
            "match": scripted.authority("registry"), "allowPrivate": true, "tls": { "caFile": "ca.pem" },
            "trustedRealms": ["elsewhere.test"],
        });
        let [private, private_too] = ["auth", "other"]
            .map(|host| json!({ "match": covering(&scripted, host), "confirmDigest": "never" }));
        // Both settings are told at once, so that the credential is there at the first request to the token service.
        for entries in [
            json!([registry]),
            json!([covered]),
            json!([private_too, trusting]),
            json!([registry, private]),
            json!([private, covered]),
        ] {
            let case = Case::new("{registry}/team/app:1", entries, &[FORBIDDEN, PRESENT]);
            let scripts = vec![TOKEN_WITHOUT_THE_CREDENTIAL, TOKEN_FOR_THE_CREDENTIAL];
            hold(&scripted, Case { scripts, candidate: user(), ..case }, at).await;
        }
        let public = reached(&scripted.authority("auth"));
        for entries in [json!([registry, public]), json!([public, covered])] {
            let case = Case::new("{registry}/team/app:1", entries, &[FORBIDDEN, PRESENT]);
            let scripts = vec![TOKEN_WITHOUT_THE_CREDENTIAL, TOKEN_FOR_THE_CREDENTIAL];
            hold(&scripted, Case { scripts, candidate: user(), ..case }, at).await;
        }
    }
}

#[tokio::test]
async fn the_target_of_a_redirect_at_a_private_address_is_reached() {
    for at in [Paste::Before, Paste::After] {
        let scripted = scripted().await;
        let registry = reached(&scripted.authority("registry"));
        let earlier = json!({ "match": covering(&scripted, "other") });
        for entries in [json!([registry]), json!([registry, earlier]), json!([earlier, registry])] {
            let case = Case::new("{registry}/team/app:1", entries, &[FORBIDDEN, PRESENT]);
            hold(&scripted, Case { scripts: vec![REDIRECTED], ..case }, at).await;
        }
    }
}

#[tokio::test]
async fn an_address_that_no_entry_allows_is_told_without_one() {
    let scripted = scripted().await;
    let registry = json!([reached(&scripted.authority("registry"))]);
    let redirected = Case::new("{registry}/team/app:1", registry, &[FORBIDDEN]);
    for case in [
        Case { scripts: vec![REDIRECTED_TO_METADATA], ..redirected },
        Case::new("169.254.169.254/team/app:1", json!([]), &[FORBIDDEN]),
    ] {
        let remedy = hold(&scripted, case, Paste::After).await;
        assert_eq!(Registered::new(json!([])).paste(&remedy, Paste::After), 0, "{remedy}");
    }
}

#[tokio::test]
async fn a_limit_is_that_of_the_user_in_the_secret_of_the_entry() {
    let scripted = scripted().await;
    let earlier = json!({ "match": "*.example" });
    for entry in
        [scripted.authority("registry"), covering(&scripted, "registry")].map(|pattern| reached(&pattern))
    {
        let case = Case::new("{registry}/team/app:1", json!([earlier, entry]), &["RateLimited", PRESENT]);
        let scripts = vec![LIMITED, FOUND_WITH_THE_CREDENTIAL];
        hold(&scripted, Case { scripts, ..case }, Paste::After).await;
    }
    // Without an entry, the new one is for the registry of the reference.
    let image = ImageRef::parse("team/app:1").unwrap();
    let about =
        About { reference: image.original(), image: Some(&image), entry: None, shown: None, container: None };
    let remedy = Wording::new(&Violation::RateLimited, &about).remedy();
    let mut registered = Registered::new(json!([earlier]));
    assert_eq!(registered.paste(&remedy, Paste::After), 1, "{remedy}");
    let credential = registered.load().credential("docker.io");
    assert!(matches!(credential, Some(OperatorCredential::Secret { .. })), "{credential:?}");
}

#[cfg(feature = "aws")]
#[test]
fn a_registry_of_a_cloud_gets_a_credential_of_that_cloud() {
    use tagpin_domain::fact::{AskedWith, Cloud, Fact, Hidden, Unavailable};
    use tagpin_registry::{Access, Profiles as _};

    const ECR: &str = "123456789012.dkr.ecr.eu-north-1.amazonaws.com";
    let image = ImageRef::parse(&format!("{ECR}/app:1")).unwrap();
    let hidden = Fact::MissingOrPrivate(Hidden { with: AskedWith::NoneNamed, cloud: Some(Cloud::Aws) });
    let unlisted = Fact::unavailable(Unavailable::NoCredential);
    let all = "*.dkr.ecr.*.amazonaws.com";
    let gives = |registered: &Registered| match registered.load().credential(ECR) {
        Some(OperatorCredential::Cloud { access: Access::Aws { regions, .. }, entry }) => {
            entry.contains("eu-north-1") || regions.iter().any(|region| region == "eu-north-1")
        }
        _ => false,
    };
    let other = json!({ "match": "*.dkr.ecr.eu-west-1.amazonaws.com", "credentials": { "aws": {} } });
    for (fact, entries, entry) in [
        (&hidden, json!([]), None),
        (&hidden, json!([other]), None),
        (&hidden, json!([other, { "match": all, "confirmDigest": "never" }]), Some(all)),
        (
            &unlisted,
            json!([{ "match": all, "credentials": { "aws": { "regions": ["eu-west-1"] } } }]),
            Some(all),
        ),
    ] {
        let mut registered = Registered::new(entries);
        assert_eq!(registered.load().profile(ECR).entry.as_deref(), entry);
        assert!(!gives(&registered));
        let violation = Violation::of(fact).unwrap();
        let about =
            About { reference: image.original(), image: Some(&image), entry, shown: None, container: None };
        let remedy = Wording::new(&violation, &about).remedy();
        assert_eq!(registered.paste(&remedy, Paste::After), 1, "{remedy}");
        assert!(gives(&registered), "{remedy}");
    }
}

/// The text of the binary: a registry that is offline by its name or by an entry, and speaks plain http.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_offline_and_speaks_plain_http_is_asked() {
    let registry = Registry::start(Release::Debian, &Access::Open);
    registry.push_image("team/app", "1", OCI_MANIFEST, &Pusher::Anyone).await;
    let host = registry.authority().replacen("127.0.0.1", "localhost", 1);
    let image = format!("{host}/team/app:1");
    let patterns = [host.clone(), host.replacen("local", "*", 1)];
    let mut earlier = vec![(json!([{ "match": "other.example" }]), &["Offline", UNAVAILABLE, PRESENT][..])];
    for pattern in &patterns {
        let entries = json!([{ "match": pattern, "offline": true }]);
        earlier.push((entries, &["Offline", FORBIDDEN, UNAVAILABLE, PRESENT]));
    }
    for (entries, outcomes) in earlier {
        let mut registered = Registered::new(entries);
        for (round, outcome) in outcomes.iter().enumerate() {
            registered.file();
            // In a pod the cluster's rules count, also for a host that a person types.
            let mut tagpin = Command::new(env!("CARGO_BIN_EXE_tagpin"));
            tagpin.args(["resolve", &image, &config(&registered.folder), "--output=json"]).env_clear();
            tagpin.env("HOME", registered.folder.path()).env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
            let output = tagpin.output().unwrap();
            let answer = json_of(&output);
            assert_eq!(answer["outcome"], *outcome, "question {round}: {answer} {:?}", registered.entries);
            let Some(remedy) = answer["remedy"].as_str() else { continue };
            assert_eq!(registered.paste(remedy, Paste::After), 1, "{remedy}");
            if let Some((_, keys)) = remedy.split_once("speaks plain http, the keys are ") {
                let keys = keys.strip_suffix(" instead").unwrap();
                let keys = serde_saphyr::from_str(&format!("{{ {keys} }}")).unwrap();
                let quoted = remedy.split_once("the entry match: ").unwrap().1.to_owned();
                let entry = registered.entry(&quoted);
                entry.remove("tls").unwrap();
                merge(entry, keys);
            }
        }
    }
}
