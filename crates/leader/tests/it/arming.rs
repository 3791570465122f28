//! The closed entries, which refuse unanswered requests: when they are written and when they are removed.

use std::time::Duration;

use serde_json::{Value, json};
use tagpin_leader::webhook_config::Installed;

use crate::webhook_config::{Keeper, Watches, armed, deployment, live, mutating, nonce, through, validating};
use tagpin_testing::scripted_api::Call;

/// Returns a keeper that may write, with this number of replicas in the Deployment and this configuration in
/// place.
pub(super) async fn keeper(replicas: i32, configuration: Value) -> (Keeper, Watches) {
    let mut keeper = Keeper::start();
    keeper.fill_stores();
    let watches = keeper
        .watches_with(replicas, json!([live(mutating(), "5")]), json!([live(configuration, "5")]))
        .await;
    (keeper, watches)
}

/// Answers a canary as an API server that has asked no webhook.
pub(super) fn lost(call: Call) {
    let object = call.json();
    call.answer(201, object);
}

#[tokio::test(start_paused = true)]
async fn they_come_only_after_a_canary_came_through() {
    let (mut keeper, watches) = keeper(2, validating()).await;
    keeper.until(Installed::Yes).await;
    for _ in 0..2 {
        let call = keeper.canary().await;
        lost(call);
    }
    assert_eq!(keeper.state(), Installed::Yes);
    let call = keeper.canary().await;
    through(call);
    keeper.writes(&watches, &armed()).await;
    keeper.until(Installed::Armed).await;
    keeper.quiet(Duration::from_secs(40)).await;
    assert_eq!((keeper.state(), keeper.lost()), (Installed::Armed, 2));
}

#[tokio::test(start_paused = true)]
async fn three_lost_canaries_disarm_and_the_first_that_comes_through_arms_again() {
    let (mut keeper, watches) = keeper(2, armed()).await;
    // The entries that an earlier leader armed stay armed.
    keeper.until(Installed::Armed).await;
    for number in 0..3 {
        let call = keeper.canary().await;
        assert_eq!(keeper.state(), Installed::Armed, "{number}");
        lost(call);
    }
    keeper.disarms(&watches, "5").await;
    keeper.until(Installed::Unreachable).await;
    assert_eq!(keeper.lost(), 3);
    let call = keeper.canary().await;
    lost(call);
    let call = keeper.canary().await;
    through(call);
    keeper.writes(&watches, &armed()).await;
    keeper.until(Installed::Armed).await;
}

#[tokio::test(start_paused = true)]
async fn no_answer_of_the_api_server_changes_nothing() {
    let (mut keeper, _watches) = keeper(2, armed()).await;
    keeper.until(Installed::Armed).await;
    for (code, reason) in [(503, "ServiceUnavailable"), (429, "TooManyRequests"), (403, "Forbidden")] {
        let call = keeper.canary().await;
        call.refuse(code, reason);
    }
    drop(keeper.canary().await);
    keeper.canary().await.given_up().await;
    keeper.quiet(Duration::from_secs(20)).await;
    assert_eq!((keeper.state(), keeper.lost()), (Installed::Armed, 0));
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_another_canary_proves_nothing() {
    let (mut keeper, _watches) = keeper(2, validating()).await;
    let mut used = Vec::new();
    for _ in 0..3 {
        let call = keeper.canary().await;
        assert!(!used.contains(&nonce(&call)), "a nonce is used once");
        used.push(nonce(&call));
        let object = call.json();
        call.warn(201, object, "tagpin answered canary 0123456789abcdef");
    }
    keeper.until(Installed::Unreachable).await;
}

#[tokio::test(start_paused = true)]
async fn they_are_there_while_two_replicas_are_asked_for_and_none_to_run_changes_nothing() {
    let (mut keeper, watches) = keeper(1, validating()).await;
    keeper.until(Installed::Yes).await;
    keeper.quiet(Duration::from_secs(10)).await;
    watches.deployment.event("MODIFIED", deployment(2));
    keeper.writes(&watches, &armed()).await;
    keeper.until(Installed::Armed).await;
    watches.deployment.event("MODIFIED", deployment(0));
    keeper.quiet(Duration::from_secs(10)).await;
    watches.deployment.event("MODIFIED", deployment(1));
    keeper.disarms(&watches, "30").await;
    keeper.until(Installed::Yes).await;
    watches.deployment.event("MODIFIED", deployment(0));
    keeper.quiet(Duration::from_secs(10)).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_emptied_by_hand_is_proven_again_before_it_is_armed() {
    let (mut keeper, watches) = keeper(2, armed()).await;
    keeper.until(Installed::Armed).await;
    keeper.quiet(Duration::from_secs(10)).await;
    let mut emptied = live(armed(), "20");
    emptied.as_object_mut().unwrap().remove("webhooks");
    watches.validating.event("MODIFIED", emptied);
    keeper.writes(&watches, &validating()).await;
    keeper.until(Installed::Yes).await;
    let call = keeper.canary().await;
    through(call);
    keeper.writes(&watches, &armed()).await;
    keeper.until(Installed::Armed).await;
}
