//! The answers to callers that show a token, and to strangers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tagpin::serve::compose::{Composed, IN_FLIGHT, Inside, Parts, compose_around};
use tagpin::settings::PullSecrets;
use tagpin::telemetry;
use tagpin_domain::asker::Asker;
use tagpin_domain::digest::Digest;
use tagpin_domain::fact::Fact;
use tagpin_domain::image::ImageRef;
use tagpin_kube::Cluster;
use tagpin_kube::client::ApiReader;
use tagpin_kube::image_policy::ClusterImagePolicy;
use tagpin_kube::policies::Reported;
use tagpin_objects::door::{Token, Tokens};
use tagpin_objects::kinds::Kinds;
use tagpin_registry::{Candidate, Current, Lookup, Registries};
use tagpin_review::{Effort, Named, Suggest};
use tagpin_testing::scripted_api::Api;
use tagpin_testing::{NoObjects, owned_by};
use tagpin_webhook::door::Door;
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt as _;

use crate::support::webhook::{Answered, NoAnswer, Table, Webhook, create, pod};

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// Time for which a token counts after another took its place.
const FORMER: Duration = Duration::from_mins(10);

fn token(number: u8) -> Token {
    Token::new([number; 20])
}

fn tokens(current: u8, next: u8) -> Tokens {
    Tokens { current: token(current), next: token(next) }
}

/// Returns a door whose webhook configuration has the token 1.
fn closed() -> Door {
    let door = Door::open();
    door.accept(tokens(1, 2));
    door.report_plain(false);
    door
}

fn webhook(registry: &Table) -> Webhook {
    let policies = [("pin", json!({ "mode": "Enforce", "pin": { "targets": ["Pods"] } }))];
    let cluster = Cluster::new(Kinds::default(), NoObjects);
    Webhook::behind(closed(), cluster, &policies, registry.clone().ports(), IN_FLIGHT, Timestamp::now)
}

/// Returns true if the review counted as the API server's, for each of these paths.
async fn admitted(webhook: &Webhook, registry: &Table, paths: &[String]) -> Vec<bool> {
    let mut admitted = Vec::new();
    for path in paths {
        let before = registry.asked();
        let answered = webhook.post(&format!("{path}?timeout=5s"), create(pod("web:1")).to_string()).await;
        assert_eq!(answered.status, StatusCode::OK, "{path}");
        admitted.push(registry.asked() > before);
    }
    admitted
}

fn path(number: u8) -> String {
    token(number).path("/validate")
}

#[tokio::test(start_paused = true)]
async fn a_token_of_yesterday_counts_for_a_while() {
    let registry = Table::default();
    let webhook = webhook(&registry);
    let paths = [path(1), path(2), path(3), token(1).path("/mutate"), "/validate".to_owned()];
    assert_eq!(admitted(&webhook, &registry, &paths).await, [true, true, false, true, false]);
    webhook.door.accept(tokens(2, 3));
    assert_eq!(admitted(&webhook, &registry, &paths).await, [true, true, true, true, false]);
    sleep(FORMER).await;
    assert_eq!(admitted(&webhook, &registry, &paths).await, [false, true, true, false, false]);
    assert_eq!(webhook.count("admission_strangers_total"), 6);
}

#[tokio::test(start_paused = true)]
async fn what_a_stranger_says_of_a_user_is_not_remembered() {
    let webhook = webhook(&Table::default());
    for (path, remembered) in [("/validate".to_owned(), 0), (path(9), 0), (path(1), 1)] {
        let answered = webhook.post(&path, create(pod("web")).to_string()).await;
        assert_eq!(answered.response()["allowed"], false, "{path}");
        assert_eq!(webhook.remembered.page(Timestamp::now()).refused.len(), remembered, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_takes_no_work_from_the_policies_of_a_namespace() {
    let webhook = webhook(&Table::default());
    let images: Vec<String> =
        (0..16).map(|n| format!("docker.io/library/{}b{n}", "*a".repeat(110))).collect();
    let exception =
        json!({ "name": "e", "reason": "a test", "expires": "2999-01-01T00:00:00Z", "images": images });
    let rules = json!({ "existence": "Ignore" });
    webhook.policy(
        Some("shop"),
        "slow",
        json!({ "mode": "Enforce", "rules": rules, "exceptions": [exception] }),
    );
    // One image takes about half of the work that an object may take. The clock stands still once the wait for a late
    // token is over.
    let heavy = create(pod(&format!("{}:1", "a".repeat(200)))).to_string();
    let strangers = (0..50).map(|_| webhook.post("/validate", heavy.clone()));
    let answered = futures::future::join_all(strangers).await;
    let refused = answered.iter().filter(|answered| answered.decision() == "deny").count();
    // The strangers share the work of one namespace.
    assert!((5..45).contains(&refused), "{refused}");
    assert!(!webhook.post(&path(1), heavy).await.codes().contains(&"ReviewUnreadable".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn plain_paths_count_while_the_configuration_names_them() {
    let registry = Table::default();
    let webhook = webhook(&registry);
    let paths = ["/validate".to_owned(), "/mutate".to_owned(), path(1)];
    webhook.door.report_plain(true);
    assert_eq!(admitted(&webhook, &registry, &paths).await, [true, true, true]);
    webhook.door.report_plain(false);
    assert_eq!(admitted(&webhook, &registry, &paths).await, [true, true, true]);
    sleep(FORMER).await;
    assert_eq!(admitted(&webhook, &registry, &paths).await, [false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_path_with_something_that_is_no_token_does_not_exist() {
    let webhook = webhook(&Table::default());
    let long = format!("{}0", path(1));
    for path in ["/validate/x", "/validate/", "/mutate/break-glass", &path(1).to_uppercase(), &long, "/0101"]
    {
        assert_eq!(webhook.post(path, "{}").await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let review = create(pod("web:latest")).to_string();
    let glass = webhook.post(&token(1).path("/validate/break-glass"), review).await;
    assert_eq!((glass.decision().as_str(), &glass.response()["allowed"]), ("break-glass", &json!(true)));
}

/// A registry whose suggestions never come.
struct NoSuggestion;

#[async_trait]
impl Suggest for NoSuggestion {
    async fn version_of(&self, _: &ImageRef, _: &Asker, _: Effort) -> Named {
        std::future::pending().await
    }

    async fn similar_tags(&self, _: &ImageRef, _: &Asker, _: Effort) -> Vec<String> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_have_few_places_and_take_none_of_the_others() {
    // Strangers' reviews wait for a suggestion, and the others for the labels of a namespace that nobody knows.
    let selector = json!({ "matchLabels": { "a": "b" } });
    let policies = [("pin", json!({ "mode": "Enforce", "match": { "namespaceSelector": selector } }))];
    let cluster = Cluster::new(Kinds::default(), NoAnswer);
    let registries =
        tagpin_webhook::Registries { suggest: Arc::new(NoSuggestion), ..Table::default().ports() };
    let webhook = Webhook::behind(closed(), cluster, &policies, registries, IN_FLIGHT, Timestamp::now);
    let review = create(pod("web:latest")).to_string();
    let strangers = (0..40).map(|_| webhook.post("/validate?timeout=5s", review.clone()));
    let known =
        (0..40).map(|_| webhook.post("/validate/0101010101010101010101010101010101010101", review.clone()));
    let (strangers, known) =
        tokio::join!(futures::future::join_all(strangers), futures::future::join_all(known));
    // One namespace takes 14 of the 16.
    let judged = |answers: &[Answered]| answers.iter().filter(|it| it.status == StatusCode::OK).count();
    assert_eq!((judged(&strangers), judged(&known)), (14, 0));
    let turned_away = |why| webhook.count(&format!("admission_turned_away_total{{reason=\"{why}\"}}"));
    assert_eq!((turned_away("shed"), turned_away("late")), (40 - 14, 40));
    let large = webhook.post("/validate", vec![b' '; 5 * 1024 * 1024]).await;
    assert_eq!((large.status, large.retry_after.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("1")));
}

#[tokio::test]
async fn the_connection_of_a_canary_and_of_a_stranger_ends_with_the_answer() {
    let webhook = webhook(&Table::default());
    let template = json!({
        "apiVersion": "v1", "kind": "PodTemplate",
        "metadata": {
            "name": "tagpin-canary", "namespace": "kube-system",
            "annotations": { "tagpin.dev/canary": "0123456789abcdef" },
        },
        "template": { "spec": { "containers": [ { "name": "canary", "image": "canary" } ] } },
    });
    let mut canary = create(template);
    canary["request"]["namespace"] = json!("kube-system");
    let review = create(pod("web:1"));
    for (path, review, closes) in
        [(path(1), &canary, true), (path(1), &review, false), ("/validate".to_owned(), &review, true)]
    {
        let request = Request::post(&path).body(Body::from(review.to_string())).unwrap();
        let answer = webhook.router.clone().oneshot(request).await.unwrap();
        let close = answer.headers().get("connection").is_some_and(|value| value == "close");
        assert_eq!((answer.status(), close), (StatusCode::OK, closes), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_strangers_review_reads_nothing_at_the_api_server() {
    let (client, mut api) = Api::new();
    let cluster = Cluster::new(Kinds::default(), ApiReader::new(client, Kinds::default()));
    // The policy depends on the labels of the namespace, on the owners of the pod and on its account.
    let selector = json!({ "matchLabels": { "env": "prod" } });
    let matching =
        json!({ "namespaceSelector": selector, "kinds": [{ "group": "apps", "kind": "Deployment" }] });
    let policies = [("pin", json!({ "mode": "Enforce", "match": matching, "pin": { "targets": ["Pods"] } }))];
    let registry = Table::default();
    let webhook =
        Webhook::behind(closed(), cluster, &policies, registry.clone().ports(), IN_FLIGHT, Timestamp::now);
    let mut owned = create(pod("web:latest"));
    owned["request"]["object"]["spec"]["serviceAccountName"] = json!("new");
    owned["request"]["object"]["metadata"]["ownerReferences"] =
        owned_by("apps/v1", "ReplicaSet", "web-1", "web-1");
    let mut foreign = create(pod("web:1"));
    foreign["request"]["userInfo"]["username"] = json!("system:serviceaccount:databases:operator");
    foreign["request"]["object"]["metadata"]["ownerReferences"] =
        owned_by("db.example/v1", "Database", "db", "db");
    let mut set = create(pod("web:1"));
    set["request"]["userInfo"]["username"] =
        json!("system:serviceaccount:kube-system:statefulset-controller");
    set["request"]["object"]["metadata"]["ownerReferences"] = owned_by("apps/v1", "StatefulSet", "db", "db");
    let mut unreadable = create(pod("web:1"));
    unreadable["request"]["object"]["spec"]["containers"] = json!("none");
    for review in [&owned, &foreign, &set, &unreadable] {
        for path in ["/validate", "/mutate"] {
            let answered = webhook.post(path, review.to_string()).await;
            assert_eq!(answered.status, StatusCode::OK, "{path} {review}");
        }
    }
    assert_eq!(registry.asked(), 0);
    // What is not known rules no policy out.
    assert_eq!(webhook.post("/validate", owned.to_string()).await.decision(), "deny");
    assert_eq!(webhook.post("/validate", unreadable.to_string()).await.decision(), "deny");
    api.quiet(Duration::from_secs(10)).await;

    // The API server's own reviews read all of it.
    let (known, mut read) = (path(1), std::collections::BTreeSet::new());
    for review in [owned, foreign, set, unreadable] {
        let asking = webhook.post(&known, review.to_string());
        let answering = async {
            loop {
                let call = api.next().await;
                read.insert(call.path.clone());
                call.refuse(404, "NotFound");
            }
        };
        tokio::select! {
            answered = asking => assert_eq!(answered.status, StatusCode::OK),
            () = answering => {}
        }
    }
    let all = [
        "/api/v1/namespaces/shop",
        "/api/v1/namespaces/shop/serviceaccounts/new",
        "/apis",
        "/apis/apps/v1/namespaces/shop/replicasets/web-1",
        "/apis/apps/v1/namespaces/shop/statefulsets/db",
    ];
    assert_eq!(read.iter().map(String::as_str).collect::<Vec<_>>(), all);
}

/// A registry that has every tag and counts look-ups.
#[derive(Clone, Default)]
struct Everything(Arc<std::sync::atomic::AtomicUsize>);

impl Lookup for Everything {
    async fn look_up(&self, _: &ImageRef, _: &[Candidate], _: Instant) -> Fact {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Fact::Present(Digest::parse(&format!("sha256:{HEX}")).unwrap())
    }
}

impl Everything {
    fn asked(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// Sends this pod to /mutate, and returns the response.
async fn mutate<L>(composed: &Composed<L>, path: &str, pod: &Value) -> Value {
    let request = Request::post(path).body(Body::from(create(pod.clone()).to_string())).unwrap();
    let answer = composed.router.clone().oneshot(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice::<Value>(&body).unwrap()["response"].take()
}

#[tokio::test(start_paused = true)]
async fn a_forged_review_reads_no_pull_secret_and_asks_no_registry() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let cluster = Arc::new(Cluster::new(Kinds::default(), NoObjects));
    cluster.accounts.apply("shop".to_owned(), "default".to_owned(), Vec::new());
    let (client, mut api) = Api::new();
    let registry = Everything::default();
    let parts = Parts {
        cluster: Arc::clone(&cluster),
        api: client,
        registries: Arc::new(Current::from(Registries::default())),
        pull_secrets: PullSecrets::Cluster,
        controller_identities: std::collections::BTreeSet::new(),
        excluded_namespaces: std::collections::BTreeSet::new(),
        in_flight: IN_FLIGHT,
        door: Arc::new(closed()),
        now: Timestamp::now,
        metrics: &mut telemetry::metrics(),
    };
    let inside = registry.clone();
    let composed = compose_around(parts, |_: Inside| (inside, Arc::new(Table::default())));
    let metadata = serde_json::from_value(json!({ "name": "pin", "uid": "pin", "generation": 1 })).unwrap();
    let spec = json!({ "mode": "Enforce", "pin": { "targets": ["Pods"] } });
    cluster.policies.apply(Reported::parse::<ClusterImagePolicy>(&metadata, spec, Value::Null));

    let mut private = pod("registry.example.com/shop/web:1");
    private["spec"]["imagePullSecrets"] = json!([{ "name": "pull" }]);
    let open = pod("registry.example.com/shop/open:1");
    let unknown = token(9).path("/mutate");
    for forged in ["/mutate", &unknown, "/validate"] {
        for pod in [&private, &open] {
            let asking = mutate(&composed, forged, pod);
            let response = timeout(Duration::from_secs(60), asking).await.unwrap();
            assert_eq!((&response["patch"], registry.asked()), (&Value::Null, 0), "{forged}: {response}");
        }
    }
    api.quiet(Duration::from_secs(10)).await;

    let known = token(1).path("/mutate");
    let asking = mutate(&composed, &known, &private);
    let answering = async {
        let login =
            json!({ "auths": { "registry.example.com": { "username": "shop", "password": "secret" } } });
        let data = json!({ ".dockerconfigjson": BASE64_STANDARD.encode(login.to_string()) });
        let asked = api.expect("GET /api/v1/namespaces/shop/secrets/pull").await;
        asked.ok(json!({
            "metadata": { "name": "pull", "namespace": "shop" }, "type": "kubernetes.io/dockerconfigjson", "data": data,
        }));
    };
    let (response, ()) = tokio::join!(asking, answering);
    assert!(response["patch"].is_string() && registry.asked() == 1, "{response}");
    // What others asked about without a credential is answered from memory.
    assert!(mutate(&composed, &known, &open).await["patch"].is_string());
    assert_eq!(registry.asked(), 2);
    assert!(mutate(&composed, "/mutate", &open).await["patch"].is_string());
    // What somebody asked about with a credential is not.
    assert_eq!(mutate(&composed, "/mutate", &private).await.get("patch"), None);
    assert_eq!(registry.asked(), 2);
    api.quiet(Duration::from_secs(10)).await;
}
