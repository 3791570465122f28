//! The credentials of an asker: pull secrets, read by name from a scripted API server, then the operator's, then
//! none.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
#[cfg(feature = "aws")]
use std::time::SystemTime;

use async_trait::async_trait;
use futures::future::join_all;
use hyper::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tagpin_domain::asker::{Asker, Secrets};
use tagpin_domain::fact::{AskedWith, Cloud, Fact, Hidden, SecretProblem};
use tagpin_domain::image::ImageRef;
#[cfg(feature = "aws")]
use tagpin_registry::{Clouds, Surroundings, SystemNames, Transport};
use tagpin_registry::{
    Credential, CredentialHelpers, Credentials, Current, Event, Held, HelperAnswer, HelperError, HelperName,
    Observer, Profiles as _, PullSecrets, Readable, Registries, RegistryProfile, Search, UserConfig,
};
use tempfile::TempDir;
use tokio::time::{Instant, advance};

/// The objects of an API server by path: a status and an object, or none for one that never answers.
type Objects = BTreeMap<String, Option<(u16, Value)>>;

/// An API server that records requests, and an observer that records skipped secrets.
#[derive(Clone, Default)]
struct Cluster {
    objects: Arc<Mutex<Objects>>,
    asked: Arc<Mutex<Vec<String>>>,
    skipped: Arc<Mutex<Vec<&'static str>>>,
    /// Registries whose credential is not used, each with the reason.
    unused: Arc<Mutex<Vec<String>>>,
}

impl Observer for Cluster {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::SecretSkipped(why) => self.skipped.lock().unwrap().push(why.word()),
            Event::CredentialUnused { host, reason, about, .. } => {
                self.unused.lock().unwrap().push(format!("{host} {} {about}", reason.word()));
            }
            _ => {}
        }
    }

    fn wants_headers(&self) -> bool {
        false
    }
}

fn path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets/{name}")
}

impl Cluster {
    fn holds(self, namespace: &str, name: &str, answer: Option<(u16, Value)>) -> Self {
        self.objects.lock().unwrap().insert(path(namespace, name), answer);
        self
    }

    /// Adds a secret of the usual type: location to password.
    fn with_secret(self, namespace: &str, name: &str, auths: &[(&str, &str)]) -> Self {
        let entry = |(location, password): &(&str, &str)| {
            ((*location).to_owned(), json!({ "username": "robot", "password": password }))
        };
        let auths: serde_json::Map<_, _> = auths.iter().map(entry).collect();
        let config = json!({ "auths": auths }).to_string();
        let secret =
            secret(name, "kubernetes.io/dockerconfigjson", &[(".dockerconfigjson", config.as_str())]);
        self.holds(namespace, name, Some((200, secret)))
    }

    fn refuses(self, namespace: &str, name: &str, code: u16) -> Self {
        let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code });
        self.holds(namespace, name, Some((code, status)))
    }

    fn client(&self) -> kube::Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let asked = format!("{} {}", request.method(), request.uri());
            cluster.asked.lock().unwrap().push(asked);
            let answer = cluster.objects.lock().unwrap().get(request.uri().path()).cloned();
            async move {
                let missing =
                    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404 });
                let (code, body) = match answer {
                    Some(None) => std::future::pending().await,
                    Some(Some(answer)) => answer,
                    None => (404, missing),
                };
                let body = Body::from(body.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        kube::Client::new(service, "default")
    }

    fn credentials(&self, readable: Readable, registries: Registries) -> Checked {
        let registries = Arc::new(Current::from(registries));
        let observer = Arc::new(self.clone());
        let secrets = PullSecrets::new(self.client(), registries.clone(), readable, observer);
        Checked { secrets, registries }
    }

    fn everybodys(&self) -> Checked {
        self.credentials(Readable::Everybodys, Registries::default())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn skipped(&self) -> Vec<&'static str> {
        self.skipped.lock().unwrap().clone()
    }
}

/// Pull secrets whose fast path is checked each time: it must return the same list as reading the secrets.
struct Checked {
    secrets: PullSecrets,
    registries: Arc<Current>,
}

impl Checked {
    fn known(&self, asker: &Asker, image: &ImageRef) -> Option<Held> {
        let profile = self.registries.profile(image.domain());
        self.secrets.at_hand(asker, image, &profile)
    }
}

#[async_trait]
impl Credentials for Checked {
    async fn candidates(&self, asker: &Asker, image: &ImageRef, deadline: Instant) -> Held {
        let before = self.known(asker, image);
        let found = self.secrets.candidates(asker, image, deadline).await;
        for at_hand in [before, self.known(asker, image)].into_iter().flatten() {
            let ids = |held: &Held| held.candidates.iter().map(|one| one.id).collect::<Vec<_>>();
            assert_eq!((ids(&at_hand), at_hand.search), (ids(&found), found.search), "{image}");
        }
        found
    }

    fn at_hand(&self, asker: &Asker, image: &ImageRef, profile: &RegistryProfile) -> Option<Held> {
        self.secrets.at_hand(asker, image, profile)
    }
}

fn secret(name: &str, kind: &str, data: &[(&str, &str)]) -> Value {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let data: serde_json::Map<_, _> =
        data.iter().map(|(key, text)| ((*key).to_owned(), encode(text).into())).collect();
    json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": name }, "type": kind, "data": data })
}

fn registries(config: &str) -> Registries {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, config).unwrap();
    Registries::load(&file).unwrap()
}

fn asker(namespace: &str, pull_secrets: &[&str]) -> Asker {
    let pull_secrets = pull_secrets.iter().map(|name| (*name).to_owned()).collect();
    Asker::new(namespace.to_owned(), pull_secrets)
}

/// Returns `password from source` of each candidate, in order.
async fn candidates(credentials: &impl Credentials, asker: &Asker, image: &str) -> Vec<String> {
    use secrecy::ExposeSecret as _;
    let image = ImageRef::parse(image).unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    let candidates = credentials.candidates(asker, &image, deadline).await.candidates;
    let describe = |credential: &Credential| match credential {
        Credential::Anonymous => "nothing".to_owned(),
        Credential::NotGiven => "none given".to_owned(),
        Credential::NotRead => "not read".to_owned(),
        Credential::NotNamed => "not named".to_owned(),
        Credential::Identity(_) | Credential::Registry(_) => panic!("nodes use no tokens"),
        Credential::Basic { password, .. } => password.expose_secret().to_owned(),
    };
    candidates.iter().map(|found| format!("{} from {}", describe(&found.credential), found.source)).collect()
}

const ANONYMOUS: &str = "nothing from anonymous";

#[tokio::test(start_paused = true)]
async fn pull_secrets_are_one_keyring_in_the_pods_order() {
    let cluster = Cluster::default()
        .with_secret("shop", "one", &[("a.io", "one"), ("b.io", "other")])
        .with_secret("shop", "two", &[("a.io/team", "two"), ("a.io", "again")]);
    let credentials = cluster.everybodys();
    let asker = asker("shop", &["one", "two"]);
    assert_eq!(
        candidates(&credentials, &asker, "a.io/team/x:1").await,
        ["two from pull secret two", "one from pull secret one", "again from pull secret two"]
    );
    assert_eq!(candidates(&credentials, &asker, "b.io/x:1").await, ["other from pull secret one"]);
    assert_eq!(candidates(&credentials, &asker, "c.io/x:1").await, [ANONYMOUS]);
}

#[tokio::test(start_paused = true)]
async fn secrets_are_read_by_name_in_the_askers_namespace_alone() {
    let cluster = Cluster::default().with_secret("mall", "regcred", &[("a.io", "malls")]);
    let credentials = cluster.everybodys();
    assert_eq!(candidates(&credentials, &asker("shop", &["regcred"]), "a.io/x").await, [ANONYMOUS]);
    assert_eq!(
        candidates(&credentials, &asker("mall", &["regcred"]), "a.io/x").await,
        ["malls from pull secret regcred"]
    );
    let asked = ["shop", "mall"].map(|namespace| format!("GET {}", path(namespace, "regcred")));
    assert_eq!(cluster.asked(), asked);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_used_is_skipped_and_counted() {
    let opaque = [(".dockerconfigjson", r#"{"auths":{"a.io":{"auth":"YTpi"}}}"#)];
    let cluster = Cluster::default()
        .refuses("shop", "private", 403)
        .refuses("shop", "failing", 500)
        .holds("shop", "opaque", Some((200, secret("opaque", "Opaque", &opaque))))
        .holds("shop", "bare", Some((200, secret("bare", "kubernetes.io/dockercfg", &opaque))))
        .holds(
            "shop",
            "broken",
            Some((200, secret("broken", "kubernetes.io/dockercfg", &[(".dockercfg", "{")]))),
        )
        .with_secret("shop", "good", &[("a.io", "good")]);
    let asker = asker("shop", &["", "missing", "private", "failing", "opaque", "bare", "broken", "good"]);
    let found = candidates(&cluster.everybodys(), &asker, "a.io/x").await;
    // One of them may hold a better credential.
    assert_eq!(found, ["good from pull secret good", "not read from pull secret failing"]);
    assert_eq!(
        cluster.skipped(),
        ["not-found", "forbidden", "unavailable", "wrong-type", "wrong-type", "malformed"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_in_a_secret_is_passed_over_as_by_nodes_and_counted() {
    let config =
        [(".dockerconfigjson", r#"{"auths":{"a.io":{"identitytoken":"t"},"b.io":{"auth":"YTpi"}}}"#)];
    let cluster = Cluster::default();
    let kind = "kubernetes.io/dockerconfigjson";
    let cluster = cluster.holds("shop", "tokens", Some((200, secret("tokens", kind, &config))));
    let (credentials, asker) = (cluster.everybodys(), asker("shop", &["tokens"]));
    assert_eq!(candidates(&credentials, &asker, "b.io/x").await, ["b from pull secret tokens"]);
    assert_eq!(candidates(&credentials, &asker, "a.io/x").await, ["nothing from pull secret tokens"]);
    assert_eq!(cluster.skipped(), ["identity-token"]);
}

/// The log, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_location_that_covers_other_names_too_is_used_as_by_nodes_and_warned_of_once_an_hour() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let cluster = Cluster::default().with_secret("shop", "team", &[("a.io/team", "theirs")]).with_secret(
        "shop",
        "slash",
        &[("b.io/team/", "theirs")],
    );
    let (credentials, asker) = (cluster.everybodys(), asker("shop", &["team", "slash"]));
    let warned = || String::from_utf8(log.0.lock().unwrap().clone()).unwrap().matches("WARN").count();
    for (image, warnings) in
        [("a.io/team/x", 0), ("b.io/team/x", 0), ("a.io/team-b/x", 1), ("a.io/team-c/x", 1)]
    {
        let found = candidates(&credentials, &asker, image).await;
        assert!(found[0].starts_with("theirs from pull secret"), "{found:?}");
        assert_eq!(warned(), warnings, "{image}");
    }
    advance(Duration::from_secs(3601)).await;
    candidates(&credentials, &asker, "a.io/team-b/x").await;
    assert_eq!(warned(), 2);
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        said.contains("secret=\"team\"") && said.contains("a.io/team-b/x") && !said.contains("theirs"),
        "{said}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_old_type_of_secret_works_too() {
    let config = [(".dockercfg", r#"{"a.io":{"auth":"YTpi"}}"#)];
    let cluster = Cluster::default();
    let cluster =
        cluster.holds("shop", "old", Some((200, secret("old", "kubernetes.io/dockercfg", &config))));
    let found = candidates(&cluster.everybodys(), &asker("shop", &["old"]), "a.io/x").await;
    assert_eq!(found, ["b from pull secret old"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_no_secret_can_have_is_never_asked_for() {
    let names = ["../../kube-system/secrets/x", "a/b", "x?watch=true", "UPPER", "..", "a%2fb", "ä"];
    let cluster = Cluster::default();
    let found = candidates(&cluster.everybodys(), &asker("shop", &names), "a.io/x").await;
    assert_eq!(found, [ANONYMOUS]);
    assert_eq!(cluster.asked(), Vec::<String>::new());
    assert_eq!(cluster.skipped(), ["invalid-name"; 7]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_with_very_many_secrets_costs_sixteen_readings() {
    let names: Vec<String> = (0..1000).map(|number| format!("secret-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cluster = Cluster::default();
    candidates(&cluster.everybodys(), &asker("shop", &names), "a.io/x").await;
    assert_eq!(cluster.asked().len(), 16);
    assert!(cluster.skipped().contains(&"too-many"));
}

#[tokio::test(start_paused = true)]
async fn without_the_right_no_secret_is_ever_asked_for() {
    let cluster = Cluster::default().with_secret("shop", "regcred", &[("a.io", "shops")]).with_secret(
        "mall",
        "regcred",
        &[("a.io", "malls")],
    );
    let nobodys = cluster.credentials(Readable::Nobodys, Registries::default());
    assert_eq!(candidates(&nobodys, &asker("shop", &["regcred"]), "a.io/x").await, [ANONYMOUS]);
    let malls = Readable::Of(BTreeSet::from(["mall".to_owned()]));
    let some = cluster.credentials(malls, Registries::default());
    assert_eq!(candidates(&some, &asker("shop", &["regcred"]), "a.io/x").await, [ANONYMOUS]);
    assert_eq!(cluster.asked(), Vec::<String>::new());
    let found = candidates(&some, &asker("mall", &["regcred"]), "a.io/x").await;
    assert_eq!(found, ["malls from pull secret regcred"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_read_once_in_its_lifetime_by_however_many() {
    for (cluster, lifetime) in [
        (Cluster::default().with_secret("shop", "regcred", &[("a.io", "p")]), 30),
        (Cluster::default().refuses("shop", "regcred", 403), 30),
        (Cluster::default(), 10),
        (Cluster::default().refuses("shop", "regcred", 500), 5),
    ] {
        let credentials = cluster.everybodys();
        let asker = asker("shop", &["regcred"]);
        join_all((0..100).map(|_| candidates(&credentials, &asker, "a.io/x"))).await;
        advance(Duration::from_secs(lifetime) - Duration::from_millis(1)).await;
        candidates(&credentials, &asker, "a.io/x").await;
        assert_eq!(cluster.asked().len(), 1);
        advance(Duration::from_millis(2)).await;
        candidates(&credentials, &asker, "a.io/x").await;
        assert_eq!(cluster.asked().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_changes_is_another_credential() {
    let cluster = Cluster::default().with_secret("shop", "regcred", &[("a.io", "old")]);
    let credentials = cluster.everybodys();
    let image = ImageRef::parse("a.io/x").unwrap();
    let asker = asker("shop", &["regcred"]);
    let in_time = || Instant::now() + Duration::from_secs(2);
    let old = credentials.candidates(&asker, &image, in_time()).await;
    cluster.with_secret("shop", "regcred", &[("a.io", "new")]);
    advance(Duration::from_secs(31)).await;
    let new = credentials.candidates(&asker, &image, in_time()).await;
    assert_ne!(old.candidates[0].id, new.candidates[0].id);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_hangs_costs_the_deadline_and_no_more() {
    let cluster = Cluster::default().holds("shop", "regcred", None);
    let credentials = cluster.everybodys();
    let start = Instant::now();
    let shop = asker("shop", &["regcred"]);
    assert_eq!(candidates(&credentials, &shop, "a.io/x").await, ["not read from pull secret regcred"]);
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(cluster.skipped(), ["unavailable"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_could_not_be_read_is_no_proof_that_there_is_no_credential() {
    let config = registries(
        "registries: [{ match: a.io, credentials: { secretRef: { namespace: ops, name: pull } } }]",
    );
    let cluster = Cluster::default()
        .refuses("shop", "failing", 500)
        .holds("shop", "hanging", None)
        .with_secret("shop", "good", &[("a.io", "good")])
        .holds("ops", "pull", None);
    let credentials = cluster.credentials(Readable::Everybodys, config);
    for (named, found) in [
        (&[][..], &["not read from configuration of a.io"][..]),
        (&["good"], &["good from pull secret good", "not read from configuration of a.io"]),
        // One stands for all.
        (&["failing", "hanging"], &["not read from pull secret failing"]),
        (&["hanging", "good"], &["good from pull secret good", "not read from pull secret hanging"]),
        // These were read: the kubelet skips them too.
        (&["missing", "good"], &["good from pull secret good", "not read from configuration of a.io"]),
    ] {
        assert_eq!(candidates(&credentials, &asker("shop", named), "a.io/x").await, found, "{named:?}");
    }
    assert_eq!(
        candidates(&credentials, &asker("shop", &["failing"]), "b.io/x").await,
        ["not read from pull secret failing"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_not_known_may_have_a_credential() {
    let cluster = Cluster::default().with_secret("ops", "pull", &[("ops.io", "operators")]);
    let config = || {
        registries(
            "registries: [{ match: '*.io', credentials: { secretRef: { namespace: ops, name: pull } } }]",
        )
    };
    let unknown = Asker { namespace: "shop".to_owned(), secrets: Secrets::Unknown };
    let not_named = "not named from service account";
    let credentials = cluster.everybodys();
    assert_eq!(candidates(&credentials, &unknown, "a.io/x:1").await, [not_named]);
    let at_hand = credentials.known(&unknown, &ImageRef::parse("a.io/x:1").unwrap());
    assert!(at_hand.is_some_and(|held| held.search == Search::Unknown));
    let credentials = cluster.credentials(Readable::Everybodys, config());
    assert_eq!(
        candidates(&credentials, &unknown, "ops.io/x:1").await,
        ["operators from configuration of *.io", not_named]
    );
    assert_eq!(candidates(&credentials, &unknown, "a.io/x:1").await, [not_named]);
    // Where no pull secret may be read, it does not matter which ones the account names.
    let credentials = cluster.credentials(Readable::Nobodys, Registries::default());
    assert_eq!(candidates(&credentials, &unknown, "a.io/x:1").await, [ANONYMOUS]);
    assert_eq!(cluster.asked(), [format!("GET {}", path("ops", "pull"))]);
}

#[tokio::test(start_paused = true)]
async fn the_search_for_credentials_is_told_in_the_names_of_the_asker() {
    let opaque = secret("opaque", "Opaque", &[("x", "y")]);
    let broken = secret("broken", "kubernetes.io/dockercfg", &[(".dockercfg", "{")]);
    let tokens =
        secret("tokens", "kubernetes.io/dockercfg", &[(".dockercfg", r#"{"a.io":{"identitytoken":"t"}}"#)]);
    let cluster = Cluster::default()
        .refuses("shop", "forbidden", 403)
        .holds("shop", "opaque", Some((200, opaque)))
        .holds("shop", "broken", Some((200, broken)))
        .holds("shop", "tokens", Some((200, tokens)))
        .with_secret("shop", "other", &[("b.io", "other")])
        .with_secret("shop", "good", &[("a.io", "good")])
        .with_secret("ops", "pull", &[("ops.io", "operators")]);
    let config = || {
        registries(
            "registries: [{ match: '*.io', credentials: { secretRef: { namespace: ops, name: pull } } }]",
        )
    };
    let unusable = |secret: &str, problem| AskedWith::Unusable { secret: secret.into(), problem };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Box<[_]>>();
    let unread = |named: &[&str]| AskedWith::NotReadable { namespace: "shop".into(), named: names(named) };
    for (readable, named, image, with) in [
        (Readable::Everybodys, &[][..], "a.io/x", AskedWith::NoneNamed),
        (Readable::Everybodys, &[""], "a.io/x", AskedWith::NoneNamed),
        (Readable::Nobodys, &[], "a.io/x", unread(&[])),
        (Readable::Nobodys, &["", "good"], "a.io/x", unread(&["good"])),
        (Readable::Of(BTreeSet::new()), &["good"], "a.io/x", unread(&["good"])),
        (
            Readable::Everybodys,
            &["other", "tokens"],
            "a.io/x",
            AskedWith::NoneMatches(names(&["other", "tokens"])),
        ),
        (Readable::Everybodys, &["other", "gone"], "a.io/x", unusable("gone", SecretProblem::NotFound)),
        (Readable::Everybodys, &["", "forbidden"], "a.io/x", unusable("forbidden", SecretProblem::Forbidden)),
        (Readable::Everybodys, &["opaque", "gone"], "a.io/x", unusable("opaque", SecretProblem::WrongType)),
        (Readable::Everybodys, &["broken"], "a.io/x", unusable("broken", SecretProblem::Malformed)),
        (Readable::Everybodys, &["gone", "good"], "a.io/x", AskedWith::Secret("good".into())),
        (Readable::Everybodys, &["other"], "ops.io/x", AskedWith::Entry("*.io".into())),
        (Readable::Nobodys, &["good"], "ops.io/x", AskedWith::Entry("*.io".into())),
        (Readable::Everybodys, &[], "localhost/x", AskedWith::Unknown),
    ] {
        let (asker, image) = (asker("shop", named), ImageRef::parse(image).unwrap());
        let credentials = cluster.credentials(readable, config());
        let deadline = Instant::now() + Duration::from_secs(2);
        let found = credentials.candidates(&asker, &image, deadline).await;
        let hidden = Hidden { cloud: Some(Cloud::Aws), ..Hidden::default() };
        for fact in [Fact::MissingOrPrivate(hidden.clone()), Fact::AccessDenied(hidden)] {
            let told = match found.tell(fact, &asker) {
                Fact::MissingOrPrivate(hidden) | Fact::AccessDenied(hidden) => hidden,
                other => panic!("{other:?}"),
            };
            assert_eq!(told, Hidden { with: with.clone(), cloud: Some(Cloud::Aws) }, "{named:?} {image}");
        }
        assert_eq!(found.tell(Fact::TagMissing, &asker), Fact::TagMissing);
    }
}

#[tokio::test(start_paused = true)]
async fn the_operators_secret_comes_after_the_askers_own() {
    let cluster = Cluster::default().with_secret("shop", "regcred", &[("a.io/team", "shops")]).with_secret(
        "ops",
        "pull",
        &[("a.io", "operators"), ("b.io", "elsewhere")],
    );
    let config = registries(
        "registries: [{ match: a.io, credentials: { secretRef: { namespace: ops, name: pull } } }]",
    );
    let credentials = cluster.credentials(Readable::Everybodys, config);
    let shop = asker("shop", &["regcred"]);
    assert_eq!(
        candidates(&credentials, &shop, "a.io/team/x").await,
        ["shops from pull secret regcred", "operators from configuration of a.io"]
    );
    assert_eq!(candidates(&credentials, &shop, "a.io/x").await, ["operators from configuration of a.io"]);
    assert_eq!(candidates(&credentials, &shop, "b.io/x").await, [ANONYMOUS]);
}

#[tokio::test(start_paused = true)]
async fn the_operators_secret_is_read_also_where_nobodys_pull_secrets_are() {
    let cluster = Cluster::default().with_secret("ops", "pull", &[("a.io", "operators")]);
    let config = registries(
        "registries: [{ match: a.io, credentials: { secretRef: { namespace: ops, name: pull } } }]",
    );
    let credentials = cluster.credentials(Readable::Nobodys, config);
    let found = candidates(&credentials, &asker("shop", &["regcred"]), "a.io/x").await;
    assert_eq!(found, ["operators from configuration of a.io"]);
    assert_eq!(cluster.asked(), [format!("GET {}", path("ops", "pull"))]);
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_reading_is_at_hand() {
    let folder = TempDir::new().unwrap();
    let [config, nodes] = ["config.yaml", "registries.yaml"].map(|name| folder.path().join(name));
    let entries = "[{ match: b.io, credentials: { secretRef: { namespace: ops, name: pull } } }]";
    fs::write(
        &config,
        format!("registries: {entries}\nregistriesFile: {{ format: k3s, path: registries.yaml }}\n"),
    )
    .unwrap();
    fs::write(&nodes, "configs: { a.io: { auth: { username: robot, password: nodes } } }\n").unwrap();
    let cluster = Cluster::default().with_secret("ops", "pull", &[("b.io", "operators")]).with_secret(
        "shop",
        "regcred",
        &[("a.io", "shops")],
    );
    let credentials = cluster.credentials(Readable::Everybodys, Registries::load(&config).unwrap());
    let at_hand = |asker: &Asker, image: &str| {
        let found = credentials.known(asker, &ImageRef::parse(image).unwrap());
        found.map(|found| found.candidates.iter().map(|one| one.source.to_string()).collect::<Vec<_>>())
    };
    let (nobody, shop) = (asker("shop", &[]), asker("shop", &["regcred"]));
    let nodes = "configuration of a.io".to_owned();
    assert_eq!(at_hand(&nobody, "c.io/x"), Some(vec!["anonymous".to_owned()]));
    assert_eq!(at_hand(&nobody, "a.io/x"), Some(vec![nodes.clone()]));
    assert_eq!(at_hand(&nobody, "b.io/x"), None, "the operator's secret is to be read");
    assert_eq!(at_hand(&shop, "a.io/x"), None, "the asker's secret is to be read");
    candidates(&credentials, &shop, "a.io/x").await;
    assert_eq!(at_hand(&shop, "a.io/x"), Some(vec!["pull secret regcred".to_owned(), nodes]));
}

/// Surroundings of a process without an identity at any cloud.
#[cfg(feature = "aws")]
struct Nowhere;

#[cfg(feature = "aws")]
impl Surroundings for Nowhere {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "AWS_EC2_METADATA_DISABLED").then(|| "true".to_owned())
    }

    fn file(&self, _path: &str) -> Option<String> {
        None
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

#[cfg(feature = "aws")]
#[tokio::test(start_paused = true)]
async fn what_a_cloud_does_not_give_is_missed_by_who_has_nothing_else() {
    let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let cluster = Cluster::default().with_secret("shop", "regcred", &[(&format!("{ecr}/team"), "shops")]);
    let config = registries(&format!("registries: [{{ match: {ecr}, credentials: {{ aws: {{}} }} }}]"));
    let transport = Arc::new(Transport::new(Arc::new(SystemNames)));
    let clouds = Clouds::new(transport, Arc::new(Nowhere), Arc::new(Registries::default()), Arc::new(()));
    let mut credentials = cluster.credentials(Readable::Everybodys, config);
    credentials.secrets = credentials.secrets.with_clouds(clouds);
    let shop = asker("shop", &["regcred"]);
    let image = |name: &str| format!("{ecr}/{name}");
    assert_eq!(
        candidates(&credentials, &shop, &image("app:1")).await,
        [format!("none given from configuration of {ecr}")]
    );
    assert_eq!(
        candidates(&credentials, &shop, &image("team/app:1")).await,
        ["shops from pull secret regcred"]
    );
}

#[tokio::test(start_paused = true)]
async fn for_a_registry_that_shows_nobody_its_credentials_none_are_read() {
    let config = registries(
        "registries:
        - { match: docker.io, resolveFrom: mirrors-only, mirrors: [{ url: https://m.example }] }
        - { match: airgap.io, offline: true }",
    );
    let cluster = Cluster::default().with_secret("shop", "regcred", &[("docker.io", "shops")]);
    let credentials = cluster.credentials(Readable::Everybodys, config);
    for image in ["nginx", "airgap.io/x"] {
        assert_eq!(candidates(&credentials, &asker("shop", &["regcred"]), image).await, [ANONYMOUS]);
    }
    assert_eq!(cluster.asked(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_names_a_helper_is_reported_where_it_has_no_password() {
    let kind = "kubernetes.io/dockerconfigjson";
    let stored = r#"{"auths":{"https://index.docker.io/v1/":{},"a.io":{}},"credsStore":"desktop"}"#;
    let helped = r#"{"auths":{"c.io":{"auth":"YTpi"}},"credHelpers":{"b.io":"ecr-login","c.io":"x"}}"#;
    let cluster = Cluster::default()
        .holds("shop", "stored", Some((200, secret("stored", kind, &[(".dockerconfigjson", stored)]))))
        .holds("shop", "helped", Some((200, secret("helped", kind, &[(".dockerconfigjson", helped)]))));
    let credentials = cluster.everybodys();
    let shop = asker("shop", &["stored", "helped"]);
    for (image, unused) in [
        ("a.io/x", &["a.io helper shop/stored"][..]),
        ("nginx", &["docker.io helper shop/stored"]),
        ("b.io/x", &["b.io helper shop/helped"]),
        ("quay.io/x", &[]),
        ("c.io/x", &[]),
        ("a.io/x", &["a.io helper shop/stored"]),
    ] {
        candidates(&credentials, &shop, image).await;
        let told = std::mem::take(&mut *cluster.unused.lock().unwrap());
        assert_eq!(told, unused, "{image}");
    }
}

/// Credential helpers that give fixed answers, and record the questions.
#[derive(Clone, Default)]
struct Helpers {
    answers: BTreeMap<String, Option<(bool, &'static str)>>,
    asked: Arc<Mutex<Vec<(String, Duration)>>>,
}

#[async_trait]
impl CredentialHelpers for Helpers {
    async fn get(
        &self,
        helper: &HelperName,
        registry: &str,
        limit: Duration,
    ) -> Result<HelperAnswer, HelperError> {
        let question = format!("{helper} {registry}");
        self.asked.lock().unwrap().push((question.clone(), limit));
        match self.answers.get(&question) {
            Some(Some((success, output))) => {
                Ok(HelperAnswer { success: *success, output: output.as_bytes().to_vec() })
            }
            Some(None) => Err(HelperError::Late(limit)),
            None => Ok(HelperAnswer { success: false, output: b"credentials not found in x".to_vec() }),
        }
    }
}

impl Helpers {
    fn answer(mut self, question: &str, answer: Option<(bool, &'static str)>) -> Self {
        self.answers.insert(question.to_owned(), answer);
        self
    }
}

const GIVEN: &str = r#"{"ServerURL":"x","Username":"robot","Secret":"given"}"#;

#[tokio::test]
async fn the_command_line_uses_the_users_own_configuration() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.json");
    let load = || UserConfig::load(std::slice::from_ref(&file), Arc::new(Helpers::default()));
    let nothing = load().unwrap();
    assert_eq!(candidates(&nothing, &Asker::anonymous(), "nginx").await, [ANONYMOUS]);

    fs::write(&file, r#"{"credsStore":"pass","auths":{"https://index.docker.io/v1/":{"auth":"YTpi"}}}"#)
        .unwrap();
    let found = candidates(&load().unwrap(), &Asker::anonymous(), "nginx").await;
    assert_eq!(found, [format!("b from {}", file.display())]);

    fs::write(&file, "{").unwrap();
    let Err(refused) = load() else { panic!("a file that is not JSON is refused") };
    let refused = refused.to_string();
    assert!(refused.starts_with(&format!("{}: not a docker configuration", file.display())), "{refused}");
}

#[test]
fn the_files_of_docker_and_podman_are_found_as_those_programs_find_them() {
    for (variables, files) in [
        (
            &[("HOME", "/home/u")][..],
            &["/home/u/.docker/config.json", "/home/u/.config/containers/auth.json"][..],
        ),
        (
            &[("HOME", "/home/u"), ("DOCKER_CONFIG", "/d"), ("XDG_RUNTIME_DIR", "/run/user/1")],
            &["/d/config.json", "/run/user/1/containers/auth.json", "/home/u/.config/containers/auth.json"],
        ),
        (
            &[("HOME", "/home/u"), ("REGISTRY_AUTH_FILE", "/a.json"), ("XDG_RUNTIME_DIR", "/run/user/1")],
            &["/home/u/.docker/config.json", "/a.json"],
        ),
        (
            &[("DOCKER_CONFIG", ""), ("HOME", "/home/u"), ("XDG_CONFIG_HOME", "/c")],
            &["/home/u/.docker/config.json", "/c/containers/auth.json"],
        ),
        (&[], &[]),
    ] {
        let found = UserConfig::paths(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        });
        let files: Vec<_> = files.iter().map(std::path::PathBuf::from).collect();
        assert_eq!(found, files, "{variables:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_helper_counts_before_the_entries_of_its_file_and_is_asked_once() {
    let folder = TempDir::new().unwrap();
    let files = ["config.json", "auth.json"].map(|name| folder.path().join(name));
    let docker = r#"{"credsStore":"desktop","credHelpers":{"b.io":"../evil","c.io":"slow"},
        "auths":{"a.io":{"auth":"YTpi"}}}"#;
    fs::write(&files[0], docker).unwrap();
    fs::write(&files[1], r#"{"auths":{"a.io":{"auth":"YTpj"},"a.io/team":{"auth":"YTpk"}}}"#).unwrap();
    let helpers = Helpers::default()
        .answer("docker-credential-desktop a.io", Some((true, GIVEN)))
        .answer("docker-credential-desktop d.io", Some((false, "locked")))
        .answer("docker-credential-slow c.io", None);
    let config = UserConfig::load(&files, Arc::new(helpers.clone())).unwrap();
    let nobody = Asker::anonymous();
    let [docker, podman] = files.each_ref().map(|file| file.display().to_string());
    let given = "given from docker-credential-desktop".to_owned();
    assert_eq!(
        candidates(&config, &nobody, "a.io/x").await,
        [given.clone(), format!("b from {docker}"), format!("c from {podman}")]
    );
    assert_eq!(
        candidates(&config, &nobody, "a.io/team/x").await,
        [given, format!("b from {docker}"), format!("d from {podman}"), format!("c from {podman}")]
    );
    // Two seconds are left for all: the helper gets half of them.
    let asked = |question: &str, limit| (question.to_owned(), Duration::from_secs(limit));
    assert_eq!(*helpers.asked.lock().unwrap(), [asked("docker-credential-desktop a.io", 1)]);
    // No registry is left alone because of a helper.
    let failed = async |image: &str, seconds| {
        let (image, deadline) =
            (ImageRef::parse(image).unwrap(), Instant::now() + Duration::from_secs(seconds));
        let own = config.of(&image, deadline).await;
        assert_eq!(own.candidates.len(), 1);
        assert!(matches!(own.candidates[0].credential, Credential::Anonymous));
        own.failed.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        failed("c.io/x", 60).await,
        [format!(
            "docker-credential-slow gave no credential for c.io: it did not answer within 10 s (named by {docker})"
        )]
    );
    assert_eq!(
        failed("d.io/x", 60).await,
        [format!("docker-credential-desktop gave no credential for d.io: it failed (named by {docker})")]
    );
    assert_eq!(
        failed("b.io/x", 60).await,
        [format!(
            "a credential helper gave no credential for b.io: \"../evil\" is not the name of a credential helper (named \
             by {docker})"
        )]
    );
    assert_eq!(failed("e.io/x", 60).await, [""; 0], "the helper has none");
    assert_eq!(helpers.asked.lock().unwrap().len(), 4);
}
