//! The Secret with the tokens in the webhook's paths, and the paths that follow from it.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tagpin_kube::Observed;
use tagpin_kube::door::held;
use tagpin_leader::door::{DoorKeeper, Paths};
use tagpin_leader::reconcile::Reconcile;
use tagpin_leader::webhook_config::Installed;
use tagpin_objects::door::Token;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;

use tagpin_testing::scripted_api::{Api, Call};

use super::webhook_config::{self, MUTATING, VALIDATING, armed, live, mutating};

const DEPLOYMENT: &str = "GET /apis/apps/v1/namespaces/tagpin-system/deployments/tagpin";
const CREATE: &str = "POST /api/v1/namespaces/tagpin-system/secrets";
const REPLACE: &str = "PUT /api/v1/namespaces/tagpin-system/secrets/tagpin-webhook-door";
/// A time within which nothing is due.
const QUIET: Duration = Duration::from_secs(30);

struct Keeper {
    api: Api,
    seen: watch::Sender<Observed<Secret>>,
    deployment: watch::Sender<Observed<Deployment>>,
    installed: watch::Sender<Installed>,
    paths: watch::Receiver<Paths>,
    reconcile: Reconcile,
    task: JoinHandle<std::convert::Infallible>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    fn start() -> Self {
        let (client, api) = Api::new();
        let (seen, deployment) =
            (watch::Sender::new(Observed::Unknown), watch::Sender::new(Observed::Unknown));
        let installed = watch::Sender::new(Installed::NotYet);
        let (sender, paths) = watch::channel(Paths::Unknown);
        let reconcile = Reconcile::default();
        let keeper = DoorKeeper {
            client,
            namespace: "tagpin-system".to_owned(),
            seen: seen.subscribe(),
            deployment: deployment.subscribe(),
            installed: installed.subscribe(),
            paths: sender,
            reconcile: reconcile.clone(),
        };
        let task = tokio::spawn(keeper.keep());
        Self { api, seen, deployment, installed, paths, reconcile, task }
    }

    /// Starts a keeper of this Secret, with every replica of this version.
    fn of(secret: &Value) -> Self {
        let keeper = Self::start();
        keeper.rolls_out(2, 3600);
        keeper.tell(secret);
        keeper
    }

    fn tell(&self, secret: &Value) {
        self.seen.send_replace(Observed::Present(parsed::<Secret>(secret).into()));
    }

    /// Reports a Deployment with this number of updated replicas of two, whose roll-out was complete this number of
    /// seconds ago.
    fn rolls_out(&self, updated: u32, seconds: i64) {
        let complete = Timestamp::from_second(Timestamp::now().as_second() - seconds).unwrap().to_string();
        let condition = json!({ "type": "Progressing", "status": "True", "lastUpdateTime": complete });
        let deployment = json!({
            "metadata": { "name": "tagpin", "uid": "d", "generation": 3 },
            "status": {
                "observedGeneration": 3, "replicas": 2, "updatedReplicas": updated, "conditions": [condition],
            },
        });
        self.deployment.send_replace(Observed::Present(parsed::<Deployment>(&deployment).into()));
    }

    /// Returns the write of the Secret, after the read of the Deployment, which becomes its owner.
    async fn write(&mut self, line: &str) -> Call {
        let metadata = json!({ "name": "tagpin", "uid": "d" });
        let asked = self.api.expect(DEPLOYMENT).await;
        asked.ok(
            json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata }),
        );
        self.api.expect(line).await
    }

    async fn told(&mut self, paths: Paths) {
        let told = timeout(QUIET, self.paths.wait_for(|told| *told == paths)).await;
        assert!(told.is_ok_and(|told| told.is_ok()), "{:?} and not {paths:?}", *self.paths.borrow());
    }
}

fn parsed<T: serde::de::DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).unwrap()
}

fn token(number: u8) -> Token {
    Token::new([number; 20])
}

/// Returns a Secret with the tokens 1 and 2, whose current one has been the current one for that many hours.
fn secret(hours: i64) -> Value {
    let since = Timestamp::now().as_second() - hours * 3600;
    let metadata =
        json!({ "name": "tagpin-webhook-door", "namespace": "tagpin-system", "resourceVersion": "7" });
    let data = json!({
        "current": STANDARD.encode([1; 20]), "next": STANDARD.encode([2; 20]), "since": STANDARD.encode(since.to_string()),
    });
    json!({ "metadata": metadata, "data": data })
}

/// Returns the current and the next token of a Secret.
fn tokens(secret: &Value) -> (Token, Token) {
    let tokens = held(&parsed(secret)).unwrap();
    (tokens.current, tokens.next)
}

#[tokio::test(start_paused = true)]
async fn tokens_are_made_once_no_replica_of_another_version_is_left_and_named_once_all_know_them() {
    let mut keeper = Keeper::start();
    keeper.seen.send_replace(Observed::Absent);
    assert_eq!(*keeper.paths.borrow(), Paths::Unknown);
    keeper.rolls_out(1, 0);
    keeper.told(Paths::Plain).await;
    keeper.api.quiet(QUIET).await;
    keeper.rolls_out(2, 0);
    let create = keeper.write(CREATE).await;
    let made = create.json();
    let (current, next) = tokens(&made);
    assert!(current != next && made["type"] == "Opaque");
    create.answer(201, made.clone());
    keeper.tell(&made);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(
        *keeper.paths.borrow(),
        Paths::Plain,
        "the last replica of the version before may still answer"
    );
    keeper.rolls_out(2, 3600);
    let mut settled = made.clone();
    settled["data"]["since"] = secret(1)["data"]["since"].clone();
    keeper.tell(&settled);
    keeper.told(Paths::With(current)).await;
    keeper.api.quiet(QUIET).await;
}

#[tokio::test(start_paused = true)]
async fn paths_are_plain_again_while_replicas_of_another_version_run_or_still_end() {
    let mut keeper = Keeper::of(&secret(1));
    keeper.told(Paths::With(token(1))).await;
    keeper.rolls_out(1, 3600);
    keeper.told(Paths::Plain).await;
    keeper.rolls_out(2, 0);
    keeper.rolls_out(2, 20);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(*keeper.paths.borrow(), Paths::Plain);
    keeper.rolls_out(2, 41);
    keeper.told(Paths::With(token(1))).await;
    keeper.deployment.send_replace(Observed::Absent);
    keeper.told(Paths::Plain).await;
    keeper.api.quiet(QUIET).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_token_takes_the_place_of_the_current_one_after_a_day() {
    let mut keeper = Keeper::of(&secret(23));
    keeper.told(Paths::With(token(1))).await;
    keeper.api.quiet(QUIET).await;
    keeper.tell(&secret(24));
    let put = keeper.write(REPLACE).await;
    let renewed = put.json();
    assert_eq!((tokens(&renewed).0, renewed["metadata"]["resourceVersion"].as_str()), (token(2), Some("7")));
    assert!(![token(1), token(2)].contains(&tokens(&renewed).1));
    put.ok(renewed.clone());
    keeper.tell(&renewed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*keeper.paths.borrow(), Paths::With(token(1)), "until every replica knows the new one");
    let mut settled = renewed.clone();
    settled["data"]["since"] = secret(1)["data"]["since"].clone();
    keeper.tell(&settled);
    keeper.told(Paths::With(token(2))).await;
}

#[tokio::test(start_paused = true)]
async fn tokens_are_renewed_a_minute_after_an_outage() {
    let mut keeper = Keeper::of(&secret(1));
    keeper.told(Paths::With(token(1))).await;
    for installed in [Installed::Armed, Installed::Unreachable] {
        keeper.installed.send_replace(installed);
        keeper.api.quiet(Duration::from_secs(120)).await;
    }
    keeper.installed.send_replace(Installed::Armed);
    keeper.api.quiet(Duration::from_secs(50)).await;
    let put = keeper.write(REPLACE).await;
    let renewed = put.json();
    assert_eq!(tokens(&renewed).0, token(2));
    put.ok(renewed.clone());
    keeper.tell(&renewed);
    keeper.api.quiet(Duration::from_secs(300)).await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_deleted_or_spoilt_comes_back_as_it_was() {
    let held = secret(1);
    let mut spoilt = held.clone();
    spoilt["data"]["next"] = json!("c2hvcnQ=");
    let spoilt = Observed::Present(parsed::<Secret>(&spoilt).into());
    for (seen, line) in [(Observed::Absent, CREATE), (spoilt, REPLACE)] {
        let mut keeper = Keeper::of(&held);
        keeper.told(Paths::With(token(1))).await;
        keeper.seen.send_replace(seen);
        let write = keeper.write(line).await;
        assert_eq!(write.json()["data"], held["data"]);
        write.refuse(403, "Forbidden");
        let write = keeper.write(line).await;
        assert_eq!((keeper.reconcile.failures(), *keeper.paths.borrow()), (1, Paths::With(token(1))));
        write.ok(held.clone());
    }
}

#[tokio::test(start_paused = true)]
async fn webhook_configurations_do_not_wait_for_a_secret_that_cannot_be_had() {
    let mut unseen = Keeper::start();
    unseen.rolls_out(2, 3600);
    unseen.told(Paths::Plain).await;
    unseen.api.quiet(QUIET).await;
    let mut refused = Keeper::start();
    refused.rolls_out(2, 3600);
    refused.seen.send_replace(Observed::Absent);
    refused.write(CREATE).await.refuse(403, "Forbidden");
    refused.told(Paths::Plain).await;
}

/// Returns the configuration with this token at the end of each path.
fn with(token: Token, mut configuration: Value) -> Value {
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        let path = &mut webhook["clientConfig"]["service"]["path"];
        *path = token.path(path.as_str().unwrap()).into();
    }
    configuration
}

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

/// With only one subscriber, a thread without it may cache for all threads that nobody is interested in an event.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

#[tokio::test(start_paused = true)]
async fn the_configurations_name_the_token_and_no_log_does() {
    LazyLock::force(&ANOTHER);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    let subscriber = subscriber.with_writer(move || writer.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut keeper = webhook_config::Keeper::start();
    keeper.paths.send_replace(Paths::Unknown);
    keeper.fill_stores();
    let items = (json!([live(mutating(), "5")]), json!([live(armed(), "5")]));
    let watches = keeper.watches_with(2, items.0, items.1).await;
    keeper.quiet(Duration::from_secs(5)).await;
    keeper.paths.send_replace(Paths::Plain);
    keeper.until(Installed::Armed).await;
    for (paths, version) in
        [(Paths::With(token(0xab)), "20"), (Paths::With(token(0xcd)), "30"), (Paths::Plain, "40")]
    {
        let wanted = |configuration| match paths {
            Paths::With(token) => with(token, configuration),
            Paths::Plain | Paths::Unknown => configuration,
        };
        keeper.paths.send_replace(paths);
        for (path, name, configuration, watch) in [
            (MUTATING, "zz-tagpin", wanted(mutating()), &watches.mutating),
            (VALIDATING, "tagpin", wanted(armed()), &watches.validating),
        ] {
            let call = keeper.write(path, name).await;
            assert_eq!(call.json(), configuration);
            call.ok(live(configuration.clone(), version));
            watch.event("MODIFIED", live(configuration, version));
        }
        keeper.quiet(Duration::from_secs(20)).await;
    }
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(said.contains("wrote the webhook configuration"), "{said}");
    let shown = said.lines().find(|line| line.contains("abab") || line.contains("cdcd"));
    assert_eq!(shown, None);
}
