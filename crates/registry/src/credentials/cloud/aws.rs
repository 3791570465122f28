//! Amazon ECR: finds keys in the order of Amazon's own libraries, and requests a token that is valid for twelve hours
//! in a region.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;

use super::error::CloudError;
use super::exchange::{self, Ask, Exchange};
use super::given::Given;
use crate::credential::{Archive, Credential};
use crate::profile::cloud_host::EcrHost;
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
    let (ecr, keys) = identified(exchange, registry, role, deadline).await?;
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

/// Returns the state of an image in the archive of its registry, under this role if one is given. None if the image
/// is not in the archive, or does not exist.
pub(super) async fn archived(
    exchange: &Exchange,
    registry: &Endpoint,
    role: Option<&str>,
    repository: &str,
    tag: &str,
    deadline: Instant,
) -> Result<Option<Archive>, CloudError> {
    let (ecr, keys) = identified(exchange, registry, role, deadline).await?;
    let EcrHost::Private { account, .. } = &ecr else { return Ok(None) };
    let body = json!({
        "registryId": account,
        "repositoryName": repository,
        "imageIds": [{ "imageTag": tag }],
    });
    let answer: ImagesResponse =
        call(exchange, &ecr, &keys, "DescribeImages", &body.to_string(), deadline).await?;
    let status = answer.image_details.into_iter().next().and_then(|image| image.image_status);
    Ok(match status.as_deref() {
        Some("ARCHIVED") => Some(Archive::Archived),
        Some("ACTIVATING") => Some(Archive::Restoring),
        _ => None,
    })
}

/// Returns the host, and the keys of the process for it.
async fn identified(
    exchange: &Exchange,
    registry: &Endpoint,
    role: Option<&str>,
    deadline: Instant,
) -> Result<(EcrHost, Keys), CloudError> {
    let ecr = registry.root().host_str().and_then(EcrHost::parse).filter(|_| !registry.plain_http());
    let ecr = ecr.ok_or(CloudError::NotOurs("the registry is not an https host of ECR"))?;
    let keys = identity::find(exchange, &ecr, deadline).await?;
    let keys = match role {
        None => keys,
        Some(role) => identity::take_on(exchange, &ecr, &keys, role, deadline).await?,
    };
    Ok((ecr, keys))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImagesResponse {
    image_details: Vec<ImageDetail>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageDetail {
    image_status: Option<String>,
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
    let answer: TokenResponse = call(exchange, ecr, keys, "GetAuthorizationToken", "{}", deadline).await?;
    match answer.authorization_data {
        Data::One(token) => Ok(token),
        Data::List(tokens) => tokens.into_iter().next().ok_or_else(|| exchange::unreadable(ECR)),
    }
}

fn decode(token: &str) -> Option<SecretString> {
    let text = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
    Some(text.strip_prefix("AWS:")?.into())
}

/// Calls an operation of the API of ECR.
async fn call<T: DeserializeOwned>(
    exchange: &Exchange,
    ecr: &EcrHost,
    keys: &Keys,
    operation: &str,
    body: &str,
    deadline: Instant,
) -> Result<T, CloudError> {
    let (service, api, override_by) = match ecr {
        EcrHost::Public => ("ecr-public", "SpencerFrontendService", "ECR_PUBLIC"),
        EcrHost::Private { .. } => ("ecr", "AmazonEC2ContainerRegistry_V20150921", "ECR"),
    };
    let url = exchange.variable(&format!("AWS_ENDPOINT_URL_{override_by}")).unwrap_or_else(|| ecr.api());
    let ask = Ask::post(ECR, exchange::url(ECR, &url)?, Body::json("application/x-amz-json-1.1", body))
        .with("x-amz-target", format!("{api}.{operation}"));
    let ask = signature::sign(ask, body.as_bytes(), keys, ecr.region(), service, exchange.now());
    exchange.json(ask, deadline).await
}
