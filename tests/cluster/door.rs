//! Callers at the webhook's port that are not the API server, and the token that tells them apart.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::support::load::Load;
use crate::support::manifests::pod_with;
use crate::support::release::armed;
use crate::support::replicas::{self, Replica, ours};
use crate::support::webhook::{Door, Published, creation};
use crate::support::{LIMIT, Namespace, alone, kubectl, rig, wait_for};

/// Number of connections that the pod opens to each replica.
const CONNECTIONS: usize = 1100;
/// Number of connections of the test itself, each with a review that never ends.
const SLOW: usize = 256;
/// Size that a body announces of which only the head arrives.
const STALLED: usize = 8 * 1024 * 1024;
const IMAGE: &str = "private.registry.test/team/api:1.0.0";

/// Returns the value of a metric of this replica.
fn metric(replica: &Replica, line: &str) -> u64 {
    let path = format!("/api/v1/namespaces/tagpin-system/pods/{}:8080/proxy/metrics", replica.name);
    let text = kubectl(&["get", "--raw", &path]).succeeded();
    let found = text.lines().find_map(|seen| seen.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("{line} is not in {text}"))
}

fn lost_canaries(replicas: &[Replica]) -> u64 {
    replicas.iter().map(|replica| metric(replica, "tagpin_webhook_canary_failures_total")).sum()
}

/// Connections from the network of a pod; they are closed when this is dropped.
struct Crowd(Child);

impl Crowd {
    /// Opens connections from the pod with this variable in its environment, to these replicas in turn.
    fn from(variable: &str, replicas: &[Replica]) -> Self {
        let processes = fs::read_dir("/proc").unwrap();
        let mut processes = processes.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        let process = processes.find(|id| {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
        });
        let hosts: Vec<_> = replicas.iter().map(|replica| replica.address.as_str()).collect();
        let script = format!(
            "ulimit -n 8192; for i in $(seq {CONNECTIONS}); do for host in {}; do exec {{fd}}<>/dev/tcp/$host/10250; \
             done; done; echo open; read -r",
            hosts.join(" ")
        );
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &process.expect("no process of the pod"), "--net", "bash", "-c", &script]);
        Self(enter.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // It reads a line of its standard input, and ends with it.
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

#[test]
fn what_a_pod_does_at_the_door_loses_no_admission() {
    if rig::here("enters the network of a pod").is_none() {
        return;
    }
    let _cluster = alone();
    armed();
    let published = Published::with_token();
    let namespace = Namespace::new("door");
    let crowd = Namespace::without_policy("crowd");
    let variable = format!("CROWD={}", crowd.name);
    let container = format!(
        "{{ name: app, image: \"web:1.4.1\", env: [ {{ name: CROWD, value: {} }} ], \
         command: [ /bin/sh, -c, \"trap exit TERM; while :; do sleep 1; done\" ] }}",
        crowd.name
    );
    crowd.apply(&pod_with("crowd", &format!("{{ containers: [ {container} ] }}"))).succeeded();
    crowd.wait("pod/crowd", "condition=Ready");

    let replicas = replicas::when_ready(2);
    let full = "tagpin_webhook_strangers_closed_total{reason=\"full\"}";
    let (before, canaries) = (metric(&replicas[0], full), lost_canaries(&replicas));
    let load = Load::start(&namespace);
    load.goes_on(100);
    let open = Crowd::from(&variable, &replicas);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let strangers = runtime.block_on(async {
        let mut strangers = Vec::new();
        for replica in &replicas {
            let door = Door::of(replica, &published.without_token());
            for number in 0..SLOW {
                // The server may close any of them at any time.
                if let Ok(mut caller) = door.open().await {
                    let length = if number < 10 { STALLED } else { 1000 };
                    caller.begin("/validate?timeout=10s", length).await;
                    strangers.push(caller);
                }
            }
        }
        strangers
    });
    load.goes_on(150);
    for replica in &replicas {
        assert!(metric(replica, "tagpin_webhook_connections{who=\"known\"}") > 0, "{replica:?}");
        assert!(metric(replica, "tagpin_webhook_connections{who=\"stranger\"}") <= 64, "{replica:?}");
    }
    wait_for("strangers to lose their places", LIMIT, || {
        (metric(&replicas[0], full) - before > CONNECTIONS as u64 / 2).then_some(())
    });
    drop((strangers, open));
    load.goes_on(50);
    load.end().nothing_lost();
    assert_eq!(lost_canaries(&replicas), canaries);
    armed();
    assert_eq!(replicas::when_ready(2), replicas, "nobody was restarted");
}

#[test]
fn a_review_that_a_pod_forges_uses_no_secret() {
    let Some(rig) = rig::here("has a private registry, and kills replicas") else { return };
    let _cluster = alone();
    let published = Published::with_token();
    // A replica that saw plain paths lets them count for ten minutes more; one that starts now does not.
    for replica in replicas::when_ready(2) {
        replica.kill();
        replica.comes_back();
    }
    let namespace = Namespace::new("forged-review");
    let (user, password) = (rig.private_registry("username"), rig.private_registry("password"));
    let secret = [
        "create".to_owned(),
        "secret".to_owned(),
        "docker-registry".to_owned(),
        "pull".to_owned(),
        "--docker-server=private.registry.test".to_owned(),
        format!("--docker-username={user}"),
        format!("--docker-password={password}"),
    ];
    namespace.kubectl(&secret.each_ref().map(String::as_str)).succeeded();
    let mut review = creation(&namespace.name, IMAGE, 0);
    review["request"]["object"]["spec"]["imagePullSecrets"] = json!([{ "name": "pull" }]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |published: &Published| {
        let door = Door::of(&replicas::ready()[0], published);
        runtime.block_on(async { door.open().await?.review("/mutate?timeout=5s", &review).await }).unwrap()
    };
    let strangers = [published.without_token(), published.with_another_token()];
    for stranger in &strangers {
        let forged = ask(stranger);
        assert_eq!((&forged["allowed"], forged.get("patch")), (&json!(true), None), "{forged}");
    }
    assert!(ask(&published)["patch"].is_string(), "the API server gets the digest");
    for stranger in &strangers {
        assert_eq!(ask(stranger).get("patch"), None, "what a credential has shown is no stranger's");
    }
}

#[test]
fn a_renewed_token_and_a_rollout_lose_no_admission() {
    if rig::here("replaces the replicas").is_none() {
        return;
    }
    let _cluster = alone();
    let namespace = Namespace::new("renewed");
    let first = Published::with_token();
    let load = Load::start(&namespace);
    load.goes_on(100);
    let mut tokens = vec![first.token().to_owned()];
    for _ in 0..2 {
        // The command of docs/runbook.md for a token that somebody learned.
        let since = r#"{"data":{"since":"MA=="}}"#;
        ours(&["patch", "secret", "tagpin-webhook-door", "--type=merge", "-p", since]);
        let renewed = wait_for("another token", LIMIT, || {
            let published = Published::with_token();
            (!tokens.contains(&published.token().to_owned())).then_some(published)
        });
        tokens.push(renewed.token().to_owned());
        load.goes_on(50);
    }
    // While replicas of another version may run, the paths are plain.
    ours(&["rollout", "restart", "deployment", "tagpin"]);
    wait_for("plain paths", LIMIT, || Published::now().token().is_empty().then_some(()));
    ours(&["rollout", "status", "deployment", "tagpin", "--timeout=90s"]);
    load.goes_on(50);
    assert_eq!(Published::with_token().token(), tokens[2], "the token is still the same");
    load.goes_on(50);
    load.end().nothing_lost();
}
