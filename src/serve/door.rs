//! Passes the tokens in the Secret, and the paths in the live webhook configuration, on to the door of the webhook.

use std::convert::Infallible;
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use tagpin_kube::Observed;
use tagpin_kube::door::{WAIT, held};
use tagpin_kube::pinning::names_plain_path;
use tagpin_objects::release;
use tagpin_webhook::door::Door;

/// Passes every report on, for ever. `heard` becomes true once both objects were reported, or after ten seconds: while
/// no token is known, every caller counts as the API server.
pub(crate) async fn follow(
    door: Arc<Door>,
    mut secret: watch::Receiver<Observed<Secret>>,
    mut mutating: watch::Receiver<Observed<MutatingWebhookConfiguration>>,
    heard: watch::Sender<bool>,
) -> Infallible {
    let until = Instant::now() + WAIT;
    let mut waits = true;
    loop {
        let seen = secret.borrow_and_update().clone();
        let configuration = mutating.borrow_and_update().clone();
        // A Secret that somebody deletes or empties takes no token away: the webhook configurations still name it.
        if let Some(tokens) = seen.object().and_then(held) {
            door.accept(tokens);
        }
        if configuration != Observed::Unknown {
            door.report_plain(configuration.object().is_some_and(names_plain_path));
        }
        let known = seen != Observed::Unknown && configuration != Observed::Unknown;
        if waits && (known || Instant::now() >= until) {
            if !known {
                info!(secret = release::DOOR, "the tokens of the webhook's paths are not known yet");
            }
            waits = false;
            heard.send_replace(true);
        }
        // The watches run as long as the process. The pattern ignores a closed channel, which would spin the loop.
        tokio::select! {
            Ok(()) = secret.changed() => {}
            Ok(()) = mutating.changed() => {}
            () = sleep_until(until), if waits => {}
        }
    }
}
