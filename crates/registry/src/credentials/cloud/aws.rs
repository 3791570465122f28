//! Amazon ECR: finds keys in the order of Amazon's own libraries, and requests a token that is valid for twelve hours
//! in a region.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::time::Instant;

use super::error::CloudError;
use super::exchange::{self, Ask, Exchange};
use super::given::Given;
use super::host::EcrHost;
use crate::credential::Credential;
use crate::profile::endpoint::Endpoint;
use crate::wire::message::Body;

mod identity;
mod keys;
mod signature;

use keys::Keys;

const ECR: &str = "ECR";
/// Lifetime of a token that had expired when it arrived. One of the two clocks is wrong, and asking again does not
/// help.
const SKEWED: Duration = Duration::from_secs(5 * 60);

/// Returns a credential for the registry at this host, under this role if one is given.
pub(super) async fn credential(
    exchange: &Exchange,
    registry: &Endpoint,
    role: Option<&str>,
    deadline: Instant,
) -> Result<Given, CloudError> {
    let ecr = registry.root().host_str().and_then(EcrHost::parse).filter(|_| !registry.plain_http());
    let ecr = ecr.ok_or(CloudError::NotOurs("the registry is not an https host of ECR"))?;
    let keys = identity::find(exchange, &ecr, deadline).await?;
    let keys = match role {
        None => keys,
        Some(role) => identity::take_on(exchange, &ecr, &keys, role, deadline).await?,
    };
    let answer = token(exchange, &ecr, &keys, deadline).await?;
    let password = decode(&answer.authorization_token).ok_or_else(|| exchange::unreadable(ECR))?;
    let now = Instant::now();
    let since = exchange.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = Duration::try_from_secs_f64(answer.expires_at).unwrap_or_default().saturating_sub(since);
    let left = if left.is_zero() { SKEWED } else { left };
    Ok(Given {
        credential: Credential::basic("AWS".to_owned(), password),
        renew: now + left / 2,
        ends: now + left,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenResponse {
    authorization_data: Data,
}

/// One token, or a list with one; the API of the public registry has no list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Data {
    List(Vec<Token>),
    One(Token),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    /// base64 of `AWS:password`.
    authorization_token: String,
    /// Seconds since 1970.
    expires_at: f64,
}

/// Calls `GetAuthorizationToken`.
async fn token(
    exchange: &Exchange,
    ecr: &EcrHost,
    keys: &Keys,
    deadline: Instant,
) -> Result<Token, CloudError> {
    let (service, target, override_by) = match ecr {
        EcrHost::Public => ("ecr-public", "SpencerFrontendService.GetAuthorizationToken", "ECR_PUBLIC"),
        EcrHost::Private { .. } => {
            ("ecr", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", "ECR")
        }
    };
    let api = exchange.variable(&format!("AWS_ENDPOINT_URL_{override_by}")).unwrap_or_else(|| ecr.api());
    let body = "{}";
    let ask = Ask::post(ECR, exchange::url(ECR, &api)?, Body::json("application/x-amz-json-1.1", body))
        .with("x-amz-target", target);
    let ask = signature::sign(ask, body.as_bytes(), keys, ecr.region(), service, exchange.now());
    let answer: TokenResponse = exchange.json(ask, deadline).await?;
    match answer.authorization_data {
        Data::One(token) => Ok(token),
        Data::List(tokens) => tokens.into_iter().next().ok_or_else(|| exchange::unreadable(ECR)),
    }
}

fn decode(token: &str) -> Option<SecretString> {
    let text = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
    Some(text.strip_prefix("AWS:")?.into())
}
