//! Azure: gets a token of Entra ID (from the federated identity of a workload, or the managed identity of a machine),
//! which the registry itself exchanges for a refresh token. The Entra token is sent to no other host.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::error::CloudError;
use super::exchange::{self, Ask, Exchange};
use super::given::Given;
use crate::credential::Credential;
use crate::profile::cloud_host::AcrHost;
use crate::profile::endpoint::Endpoint;
use crate::wire::guard::Reach;

const ENTRA: &str = "Entra ID";
const METADATA: &str = "the metadata service of Azure";
const ACR: &str = "the registry's token exchange";
const SCOPE: &str = "https://containerregistry.azure.net/.default";
const RESOURCE: &str = "https://containerregistry.azure.net/";
/// Time after which a new refresh token is requested. It lives about three hours; Azure's own provider uses the same
/// time.
const KEPT: Duration = Duration::from_secs(60 * 60);
const ENDS: Duration = Duration::from_secs(2 * 60 * 60);

#[derive(Deserialize)]
struct Entra {
    access_token: SecretString,
}

#[derive(Deserialize)]
struct Exchanged {
    refresh_token: SecretString,
}

/// Returns an identity token for the registry at this host.
pub(super) async fn credential(
    exchange: &Exchange,
    registry: &Endpoint,
    deadline: Instant,
) -> Result<Given, CloudError> {
    let host = registry.root().host_str().unwrap_or_default();
    let acr = AcrHost::parse(host).filter(|_| !registry.plain_http());
    let acr = acr.ok_or(CloudError::NotOurs("the registry is not an https host of Azure"))?;
    let variable = |name| exchange.variable(name);
    let federated = variable("AZURE_FEDERATED_TOKEN_FILE").zip(variable("AZURE_CLIENT_ID"));
    let entra = match federated.zip(variable("AZURE_TENANT_ID")) {
        Some(((file, client), tenant)) => of_workload(exchange, &file, &client, &tenant, deadline).await?,
        None => of_machine(exchange, deadline).await?,
    };
    let mut url = registry.root().clone();
    url.set_path("/oauth2/exchange");
    let tenant = variable("AZURE_TENANT_ID");
    let mut fields = vec![("grant_type", "access_token"), ("service", acr.login())];
    fields.extend(tenant.as_deref().map(|tenant| ("tenant", tenant)));
    fields.push(("access_token", entra.access_token.expose_secret()));
    let ask = Ask { tls: registry.tls.clone(), ..Ask::post(ACR, url, exchange::form(&fields)) };
    let answer: Exchanged = exchange.json(ask, deadline).await?;
    let now = Instant::now();
    Ok(Given { credential: Credential::Identity(answer.refresh_token), renew: now + KEPT, ends: now + ENDS })
}

/// Authenticates with workload identity: a token of Kubernetes.
async fn of_workload(
    exchange: &Exchange,
    file: &str,
    client: &str,
    tenant: &str,
    deadline: Instant,
) -> Result<Entra, CloudError> {
    let token = exchange.file(file);
    let token =
        token.ok_or(CloudError::Nobody("AZURE_FEDERATED_TOKEN_FILE names a file that cannot be read"))?;
    let root = exchange.variable("AZURE_AUTHORITY_HOST");
    let root = root.unwrap_or_else(|| "https://login.microsoftonline.com/".to_owned());
    let url = exchange::url(ENTRA, &format!("{}/{tenant}/oauth2/v2.0/token", root.trim_end_matches('/')))?;
    let fields = [
        ("client_id", client),
        ("grant_type", "client_credentials"),
        ("scope", SCOPE),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", &token),
    ];
    exchange.json(Ask::post(ENTRA, url, exchange::form(&fields)), deadline).await
}

/// Authenticates with managed identity: that of the machine, or the one that `AZURE_CLIENT_ID` selects.
async fn of_machine(exchange: &Exchange, deadline: Instant) -> Result<Entra, CloudError> {
    let root = exchange.variable("AZURE_POD_IDENTITY_AUTHORITY_HOST");
    let root = root.unwrap_or_else(|| "http://169.254.169.254".to_owned());
    let mut url: Url =
        exchange::url(METADATA, &format!("{}/metadata/identity/oauth2/token", root.trim_end_matches('/')))?;
    url.query_pairs_mut().append_pair("api-version", "2018-02-01").append_pair("resource", RESOURCE);
    if let Some(client) = exchange.variable("AZURE_CLIENT_ID") {
        url.query_pairs_mut().append_pair("client_id", &client);
    }
    let ask = Ask::get(METADATA, url, Reach::Metadata).with("metadata", "true");
    exchange.json(ask, deadline).await
}
