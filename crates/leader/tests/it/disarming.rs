//! A leader that is not ready opens closed entries, and unwanted entries are removed whoever owns them.

use std::time::Duration;

use serde_json::{Value, json};
use tagpin_kube::Observed;
use tagpin_leader::webhook_config::Installed;
use tokio::time::Instant;

use crate::arming::{keeper, lost};
use crate::webhook_config::{
    DEPLOYMENTS, Keeper, MUTATING, NAMESPACES, VALIDATING, armed, chart, deployment, emptied, live, mutating,
    namespace, opened, secret, through, validating, withdrawn,
};
use tagpin_testing::scripted_api::Call;

const STRICT: &str = "validate-strict.tagpin.dev";
const CANARY: &str = "POST /api/v1/namespaces/tagpin-system/podtemplates";

/// Returns the configuration with an entry of this name and failure policy before the others.
fn with_entry(mut configuration: Value, name: &str, failure_policy: &str) -> Value {
    let entries = configuration["webhooks"].as_array_mut().unwrap();
    let mut entry = entries[0].clone();
    entry["name"] = json!(name);
    entry["failurePolicy"] = json!(failure_policy);
    entries.insert(0, entry);
    configuration
}

/// Returns the configuration with a time in its managed fields that the API server keeps and few parsers can
/// read.
fn undated(mut configuration: Value) -> Value {
    configuration["metadata"]["managedFields"] = json!([{ "manager": "m", "time": "9999-12-31T23:59:59Z" }]);
    configuration
}

fn names(configuration: &Value) -> Vec<&str> {
    let entries = configuration["webhooks"].as_array().unwrap().iter();
    entries.map(|entry| entry["name"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_not_ready_for_15_s_opens_what_is_closed() {
    for lacks in ["stores", "listens", "certificate", "authority"] {
        let mut keeper = Keeper::start();
        match lacks {
            "listens" => drop(keeper.listens.send_replace(false)),
            "certificate" => drop(keeper.certificate.send_replace(Observed::Absent)),
            "authority" => drop(keeper.certificate.send_replace(secret(""))),
            _ => {}
        }
        if lacks != "stores" {
            keeper.fill_stores();
        }
        let start = Instant::now();
        let mut pin = live(mutating(), "5");
        pin["webhooks"][0]["failurePolicy"] = json!("Fail");
        let watches = keeper.watches_with(2, json!([pin]), json!([live(armed(), "5")])).await;
        keeper.quiet(Duration::from_secs(14)).await;
        assert!((keeper.state(), keeper.is_closed()) == (Installed::NotYet, true), "{lacks}");

        keeper.opens(VALIDATING, &live(armed(), "5"), &[STRICT]).await.ok(live(opened(armed()), "6"));
        keeper.opens(MUTATING, &pin, &["pin.tagpin.dev"]).await.ok(live(mutating(), "6"));
        assert_eq!(start.elapsed().as_secs(), 15, "{lacks}");
        watches.validating.event("MODIFIED", live(opened(armed()), "6"));
        watches.mutating.event("MODIFIED", live(mutating(), "6"));
        keeper.quiet(Duration::from_secs(30)).await;
        assert!((keeper.state(), keeper.is_closed()) == (Installed::Opened, false), "{lacks}");

        match lacks {
            "stores" => keeper.fill_stores(),
            "listens" => drop(keeper.listens.send_replace(true)),
            _ => drop(keeper.certificate.send_replace(secret("CA"))),
        }
        keeper.writes(&watches, &armed()).await;
        keeper.until(Installed::Armed).await;
        keeper.quiet(Duration::from_secs(10)).await;
        assert!(keeper.is_closed(), "{lacks}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_watch_tells_keeps_nothing_closed() {
    for silent in [NAMESPACES, DEPLOYMENTS, MUTATING] {
        let mut keeper = Keeper::start();
        keeper.fill_stores();
        let (start, mut watches) = (Instant::now(), Vec::new());
        let opening = loop {
            assert!(start.elapsed() < Duration::from_mins(1), "{silent}");
            let call = keeper.call().await;
            let item = match call.path.as_str() {
                path if path == silent => {
                    call.refuse(403, "Forbidden");
                    continue;
                }
                _ if call.line() == CANARY => {
                    through(call);
                    continue;
                }
                NAMESPACES => namespace(false),
                DEPLOYMENTS => deployment(2),
                MUTATING => live(mutating(), "5"),
                VALIDATING => live(armed(), "5"),
                _ => break call,
            };
            match call.query.get("watch") {
                None => call.list(json!([item]), "10"),
                Some(_) => watches.push(call.watch()),
            }
        };
        assert_eq!(opening.line(), format!("PATCH {VALIDATING}/tagpin"), "{silent}");
        let strict = json!({ "name": STRICT, "failurePolicy": "Ignore" });
        assert!(opening.json()["webhooks"].as_array().unwrap().contains(&strict), "{silent}");
        assert_eq!(start.elapsed().as_secs(), 15, "{silent}");
    }
}

#[tokio::test(start_paused = true)]
async fn canaries_that_get_lost_open_at_once_what_a_leader_that_is_not_ready_found_closed() {
    let mut keeper = Keeper::start();
    let start = Instant::now();
    let watches = keeper.watches_with(2, json!([live(mutating(), "5")]), json!([live(armed(), "5")])).await;
    for _ in 0..3 {
        let call = keeper.canary().await;
        assert!(keeper.is_closed());
        lost(call);
    }
    keeper.opens(VALIDATING, &live(armed(), "5"), &[STRICT]).await.ok(live(opened(armed()), "6"));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    watches.validating.event("MODIFIED", live(opened(armed()), "6"));
    keeper.until(Installed::Opened).await;
    // Once the leader is ready, entries that are not wanted are removed.
    keeper.fill_stores();
    let (call, left) = keeper.removes(VALIDATING, &live(opened(armed()), "6")).await;
    assert_eq!(left, live(validating(), "6"));
    call.ok(live(left.clone(), "7"));
    watches.validating.event("MODIFIED", live(left, "7"));
    keeper.until(Installed::Unreachable).await;
}

#[tokio::test(start_paused = true)]
async fn canaries_go_on_while_the_other_configuration_is_refused_or_missing() {
    for other in [json!([chart(mutating())]), json!([])] {
        let missing = other == json!([]);
        let mut keeper = Keeper::start();
        keeper.fill_stores();
        let _watches = keeper.watches_with(2, other, json!([live(armed(), "5")])).await;
        let mut canaries = 0;
        let start = Instant::now();
        let opening = loop {
            assert!(start.elapsed() < Duration::from_mins(5));
            let call = keeper.call().await;
            match call.line() {
                line if line == CANARY => {
                    canaries += 1;
                    lost(call);
                }
                line if line.ends_with("/zz-tagpin") => call.refuse(403, "Forbidden"),
                _ => break call,
            }
        };
        assert_eq!(canaries, 3);
        assert_eq!(opening.line(), format!("PATCH {VALIDATING}/tagpin"));
        opening.ok(live(opened(armed()), "6"));
        let (call, left) = keeper.removes(VALIDATING, &live(opened(armed()), "6")).await;
        assert_eq!(left, live(validating(), "6"));
        call.ok(left);
        let state = if missing { Installed::Missing } else { Installed::Unwritable };
        assert_eq!(keeper.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn opening_that_is_refused_is_tried_again_and_does_not_pass_for_open() {
    let mut keeper = Keeper::start();
    let _watches = keeper.watches_with(2, json!([live(mutating(), "5")]), json!([live(armed(), "5")])).await;
    for _ in 0..2 {
        keeper.opens(VALIDATING, &live(armed(), "5"), &[STRICT]).await.refuse(403, "Forbidden");
        keeper.until(Installed::Unwritable).await;
        assert!(keeper.is_closed());
    }
    keeper.opens(VALIDATING, &live(armed(), "5"), &[STRICT]).await.ok(live(opened(armed()), "6"));
    keeper.until(Installed::Opened).await;
    assert_eq!(keeper.reconcile.failures(), 2);
}

/// Answers that the version is not the newest.
fn outdated(call: Call, code: u16) {
    call.refuse(code, if code == 409 { "Conflict" } else { "Invalid" });
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_comes_late_is_made_anew_from_what_is_there_and_never_by_omission() {
    for code in [409, 422] {
        let (mut keeper, watches) = keeper(2, armed()).await;
        keeper.until(Installed::Armed).await;
        watches.deployment.event("MODIFIED", deployment(1));
        let call = keeper.opens(VALIDATING, &live(armed(), "5"), &[STRICT]).await;
        call.ok(undated(live(opened(armed()), "6")));
        let (call, _) = keeper.removes(VALIDATING, &live(opened(armed()), "6")).await;
        outdated(call, code);
        // Somebody put an entry before tagpin's entries, and restored tagpin's closed ones.
        let restored = live(with_entry(armed(), "policy.example.com", "Fail"), "9");
        keeper.reads(VALIDATING, "tagpin").await.list(json!([undated(restored.clone())]), "10");
        let call = keeper.opens(VALIDATING, &restored, &[STRICT]).await;
        let mut held = live(with_entry(opened(armed()), "policy.example.com", "Fail"), "10");
        call.ok(held.clone());
        let (call, left) = keeper.removes(VALIDATING, &held).await;
        held = live(with_entry(validating(), "policy.example.com", "Fail"), "10");
        // The other entry was copied from the armed configuration, so it has the namespace selector of that
        // configuration.
        held["webhooks"][0]["namespaceSelector"] = armed()["webhooks"][0]["namespaceSelector"].clone();
        assert_eq!(left, held, "{code}");
        call.ok(undated(live(left.clone(), "11")));
        watches.validating.event("MODIFIED", live(left, "11"));
        keeper.until(Installed::Yes).await;
        keeper.quiet(Duration::from_secs(30)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_always_late_is_told_and_goes_on_later() {
    let (mut keeper, watches) = keeper(2, armed()).await;
    keeper.until(Installed::Armed).await;
    watches.deployment.event("MODIFIED", deployment(1));
    keeper.opens(VALIDATING, &live(armed(), "5"), &[STRICT]).await.ok(live(opened(armed()), "6"));
    let (call, _) = keeper.removes(VALIDATING, &live(opened(armed()), "6")).await;
    outdated(call, 422);
    for version in ["7", "8"] {
        let newer = live(opened(armed()), version);
        keeper.reads(VALIDATING, "tagpin").await.list(json!([newer]), "10");
        let (call, _) = keeper.removes(VALIDATING, &newer).await;
        outdated(call, 422);
    }
    keeper.until(Installed::Unwritable).await;
    // A configuration that was deleted needs no removal.
    watches.validating.event("MODIFIED", live(opened(armed()), "8"));
    let (call, _) = keeper.removes(VALIDATING, &live(opened(armed()), "8")).await;
    outdated(call, 409);
    keeper.reads(VALIDATING, "tagpin").await.list(json!([]), "10");
    watches.validating.event("DELETED", live(opened(armed()), "9"));
    keeper.until(Installed::Missing).await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_an_older_version_is_opened_and_goes_and_the_others_stay() {
    let old = live(with_entry(armed(), "validate-older.tagpin.dev", "Fail"), "5");
    let (mut keeper, watches) = keeper(2, old.clone()).await;
    let call = keeper.opens(VALIDATING, &old, &["validate-older.tagpin.dev"]).await;
    let held = live(with_entry(armed(), "validate-older.tagpin.dev", "Ignore"), "6");
    call.ok(held.clone());
    let (call, left) = keeper.removes(VALIDATING, &held).await;
    assert_eq!(left, live(armed(), "6"));
    assert!(!names(&left).contains(&"validate-older.tagpin.dev"));
    call.ok(live(left.clone(), "7"));
    watches.validating.event("MODIFIED", live(left, "7"));
    keeper.until(Installed::Armed).await;
}

#[tokio::test(start_paused = true)]
async fn when_the_lists_are_emptied_entries_of_others_stay() {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let held = live(with_entry(armed(), "policy.example.com", "Fail"), "5");
    let _watches = keeper.watches_with(2, json!([live(mutating(), "5")]), json!([held])).await;
    keeper.until(Installed::Armed).await;
    keeper.cluster.synced.unknown(tagpin_kube::store::Store::ImagePolicies);
    keeper.cluster.synced.unknown(tagpin_kube::store::Store::ClusterImagePolicies);
    let call = keeper.opens(VALIDATING, &held, &[STRICT]).await;
    let held = live(with_entry(opened(armed()), "policy.example.com", "Fail"), "6");
    call.ok(held.clone());
    let (_call, left) = keeper.removes(VALIDATING, &held).await;
    assert_eq!(names(&left), ["policy.example.com"]);
}

/// Loses canaries until another call comes, and returns that call and the number of lost canaries.
async fn lose_canaries(keeper: &mut Keeper) -> (Call, u32) {
    let mut canaries = 0;
    loop {
        let call = keeper.call().await;
        if call.line() != CANARY {
            return (call, canaries);
        }
        canaries += 1;
        assert!(canaries < 100, "nothing is written");
        lost(call);
    }
}

/// Lets canaries come through until another call comes, and returns that call and the number of canaries.
async fn answer_canaries(keeper: &mut Keeper) -> (Call, u32) {
    let mut canaries = 0;
    loop {
        let call = keeper.call().await;
        if call.line() != CANARY {
            return (call, canaries);
        }
        canaries += 1;
        assert!(canaries < 100, "nothing is written");
        through(call);
    }
}

/// Returns what is left after this JSON patch.
fn patched(call: &Call, held: &Value) -> Value {
    let mut left = held.clone();
    let patch: json_patch::Patch = serde_json::from_slice(&call.body).unwrap();
    json_patch::patch(&mut left, &patch).unwrap();
    left
}

#[tokio::test(start_paused = true)]
async fn lists_hold_the_canary_alone_after_a_minute_and_come_back_after_three() {
    let (mut keeper, watches) = keeper(2, validating()).await;
    let start = Instant::now();
    let (call, canaries) = lose_canaries(&mut keeper).await;
    assert_eq!((canaries, start.elapsed().as_secs()), (13, 60));
    assert_eq!(keeper.state(), Installed::Unreachable);
    assert_eq!(keeper.connections(), canaries, "each canary has a connection of its own");
    // The validating list first: nobody is refused for a pin that was not asked for.
    assert_eq!(call.line(), format!("PATCH {VALIDATING}/tagpin"));
    let left = patched(&call, &live(validating(), "5"));
    assert_eq!(left, live(withdrawn(), "5"));
    call.ok(live(left.clone(), "6"));
    watches.validating.event("MODIFIED", live(left, "6"));
    let (call, _) = lose_canaries(&mut keeper).await;
    assert_eq!(call.line(), format!("PATCH {MUTATING}/zz-tagpin"));
    let left = patched(&call, &live(mutating(), "5"));
    assert_eq!(left["webhooks"], json!([]));
    call.ok(live(left.clone(), "6"));
    watches.mutating.event("MODIFIED", live(left, "6"));
    keeper.until(Installed::Withdrawn).await;

    // Fifteen seconds have passed long ago; three in a row bring the webhooks back, 5 s apart.
    for _ in 0..2 {
        through(keeper.canary().await);
        assert_eq!(keeper.state(), Installed::Withdrawn);
    }
    lost(keeper.canary().await);
    let start = Instant::now();
    let (call, canaries) = answer_canaries(&mut keeper).await;
    assert_eq!((canaries, start.elapsed().as_secs()), (3, 15));
    assert_eq!((call.line(), call.json()), (format!("PATCH {MUTATING}/zz-tagpin"), mutating()));
    call.ok(live(mutating(), "30"));
    watches.mutating.event("MODIFIED", live(mutating(), "30"));
    keeper.writes(&watches, &armed()).await;
    keeper.until(Installed::Armed).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_asks_before_it_fills_what_another_one_withdrew() {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let held = live(emptied(mutating()), "5");
    let _watches = keeper.watches_with(2, json!([held]), json!([live(withdrawn(), "5")])).await;
    let start = Instant::now();
    let (call, canaries) = answer_canaries(&mut keeper).await;
    assert_eq!(call.line(), format!("PATCH {MUTATING}/zz-tagpin"));
    assert_eq!((canaries, start.elapsed().as_secs()), (4, 15));
}
