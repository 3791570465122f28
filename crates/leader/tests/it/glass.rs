//! Break glass: what was deleted stays away, and what comes back stays empty until a release or a person says otherwise.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tagpin_leader::webhook_config::Installed;

use crate::webhook_config::{
    Keeper, MUTATING, VALIDATING, Watches, armed, chart, deployment, emptied, live, mutating, opened,
    validating, withdrawn,
};

const FILLED: &str = r#"{"mutating":"its-uid","validating":"its-uid","deployment":"d","release":"r"}"#;
const REARM: &str = "kubectl -n tagpin-system annotate lease tagpin --overwrite tagpin.dev/rearm=v2";

/// Returns the configuration under another UID.
fn again(mut configuration: Value, uid: &str) -> Value {
    configuration["metadata"]["uid"] = json!(uid);
    configuration
}

/// Returns a keeper after break glass, and with what was deleted back again, empty.
async fn brought_back() -> (Keeper, Watches) {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let watches =
        keeper.watches_with(1, json!([live(mutating(), "5")]), json!([live(validating(), "5")])).await;
    keeper.until(Installed::Yes).await;
    assert_eq!(keeper.notes.borrow()["tagpin.dev/filled"], FILLED);
    watches.validating.event("DELETED", live(validating(), "6"));
    watches.mutating.event("DELETED", live(mutating(), "7"));
    keeper.until(Installed::Missing).await;
    keeper.quiet(Duration::from_secs(20)).await;
    watches.mutating.event("ADDED", again(chart(mutating()), "m2"));
    watches.validating.event("ADDED", again(chart(validating()), "v2"));
    keeper.until(Installed::BrokenGlass { rearm: REARM.into() }).await;
    keeper.quiet(Duration::from_secs(20)).await;
    assert_eq!(keeper.notes.borrow()["tagpin.dev/filled"], FILLED, "the memory is of what was deleted");
    (keeper, watches)
}

/// Answers the writes that fill both configurations.
async fn filled(keeper: &mut Keeper, watches: &Watches) {
    let write = keeper.write(MUTATING, "zz-tagpin").await;
    assert_eq!(write.json(), again(mutating(), "m2"));
    let made = again(live(mutating(), "30"), "m2");
    write.ok(made.clone());
    watches.mutating.event("MODIFIED", made);
    let write = keeper.write(VALIDATING, "tagpin").await;
    let made = again(live(validating(), "30"), "v2");
    write.ok(made.clone());
    watches.validating.event("MODIFIED", made);
    keeper.until(Installed::Yes).await;
    assert!(keeper.notes.borrow()["tagpin.dev/filled"].contains("\"v2\""));
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_with_the_same_release_stays_empty_until_it_is_rearmed() {
    let (mut keeper, watches) = brought_back().await;
    keeper.annotations.send_modify(|held| drop(held.insert("tagpin.dev/rearm".into(), "its-uid".into())));
    keeper.quiet(Duration::from_secs(10)).await;
    keeper.annotations.send_modify(|held| drop(held.insert("tagpin.dev/rearm".into(), "v2".into())));
    filled(&mut keeper, &watches).await;
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_and_another_deployment_fill_it() {
    for (pointer, value) in [("/metadata/annotations/tagpin.dev~1release", "r2"), ("/metadata/uid", "d2")] {
        let (mut keeper, watches) = brought_back().await;
        let mut other = deployment(1);
        *other.pointer_mut(pointer).unwrap() = json!(value);
        watches.deployment.event("MODIFIED", other);
        filled(&mut keeper, &watches).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_while_nothing_is_there_fills_what_comes_back_after_it() {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let watches =
        keeper.watches_with(1, json!([live(mutating(), "5")]), json!([live(validating(), "5")])).await;
    keeper.until(Installed::Yes).await;
    watches.validating.event("DELETED", live(validating(), "6"));
    watches.mutating.event("DELETED", live(mutating(), "7"));
    keeper.until(Installed::Missing).await;
    // Helm changes the Deployment before it makes the configurations.
    let mut upgraded = deployment(1);
    upgraded["metadata"]["annotations"]["tagpin.dev/release"] = json!("r2");
    watches.deployment.event("MODIFIED", upgraded);
    keeper.quiet(Duration::from_secs(5)).await;
    watches.mutating.event("ADDED", again(chart(mutating()), "m2"));
    let write = keeper.write(MUTATING, "zz-tagpin").await;
    write.ok(again(live(mutating(), "30"), "m2"));
    watches.mutating.event("MODIFIED", again(live(mutating(), "30"), "m2"));
    watches.validating.event("ADDED", again(chart(validating()), "v2"));
    let write = keeper.write(VALIDATING, "tagpin").await;
    write.ok(again(live(validating(), "30"), "v2"));
    watches.validating.event("MODIFIED", again(live(validating(), "30"), "v2"));
    keeper.until(Installed::Yes).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_remembers_and_takes_out_what_came_back_full() {
    let notes = BTreeMap::from([("tagpin.dev/filled".to_owned(), FILLED.to_owned())]);
    let mut keeper = Keeper::remembering(notes);
    keeper.fill_stores();
    let restored = again(live(armed(), "5"), "v2");
    let watches = keeper.watches_with(2, json!([live(mutating(), "5")]), json!([restored])).await;
    let call =
        keeper.opens(VALIDATING, &again(live(armed(), "5"), "v2"), &["validate-strict.tagpin.dev"]).await;
    call.ok(again(live(opened(armed()), "6"), "v2"));
    let (call, left) = keeper.removes(VALIDATING, &again(live(opened(armed()), "6"), "v2")).await;
    assert_eq!(left["webhooks"], json!([]));
    call.ok(left.clone());
    watches.validating.event("MODIFIED", left);
    keeper.until(Installed::BrokenGlass { rearm: REARM.into() }).await;
    keeper.quiet(Duration::from_secs(5)).await;
    assert!(!keeper.is_closed());
}

#[tokio::test(start_paused = true)]
async fn webhooks_that_are_withdrawn_are_remembered_too() {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let held = live(emptied(mutating()), "5");
    let _watches = keeper.watches_with(1, json!([held]), json!([live(withdrawn(), "5")])).await;
    keeper.until(Installed::Withdrawn).await;
    assert_eq!(keeper.notes.borrow()["tagpin.dev/filled"], FILLED);
}
