//! The Secret with the tokens in the webhook's paths, which every replica watches. The leader creates the tokens.

use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use tokio::sync::watch;

use crate::Observed;
use crate::secret;
use crate::unreadable::{Unreadables, Watched};
use tagpin_objects::door::{Token, Tokens};
use tagpin_objects::release::DOOR;

/// Key of the Secret's entry with the token in the paths.
pub const CURRENT: &str = "current";
/// Key of the Secret's entry with the token that follows.
pub const NEXT: &str = "next";
/// Time that a replica waits for the Secret before it goes on without tokens.
pub const WAIT: Duration = Duration::from_secs(10);

/// Returns the tokens in the Secret; none if one is missing or is no token.
#[must_use]
pub fn held(secret: &Secret) -> Option<Tokens> {
    let token = |key| Some(Token::new(secret.data.as_ref()?.get(key)?.0.as_slice().try_into().ok()?));
    Some(Tokens { current: token(CURRENT)?, next: token(NEXT)? })
}

/// Returns the time since when the current token is the current one; 1970 if the entry is no time.
#[must_use]
pub fn since(secret: &Secret) -> Timestamp {
    secret::since(secret).unwrap_or_default()
}

/// Follows the Secret for ever; `seen` holds the version that was last reported.
pub async fn watch(
    client: Client,
    namespace: &str,
    seen: watch::Sender<Observed<Secret>>,
    unreadable: &Unreadables,
) -> Infallible {
    secret::follow(client, namespace, DOOR, seen, unreadable, Watched::Door).await
}
