//! Finds the identity of the process towards Amazon, in the order of its own libraries: keys in the environment, a
//! web identity (IRSA), the endpoint of a container (EKS Pod Identity, ECS), the role of the machine (IMDSv2). It can
//! then assume a role.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use url::form_urlencoded::Serializer;
use url::{Host, Url};

use super::keys::Keys;
use super::signature;
use crate::credentials::cloud::error::CloudError;
use crate::credentials::cloud::exchange::{self, Ask, Exchange};
use crate::observe::Method;
use crate::profile::cloud_host::EcrHost;
use crate::wire::guard::Reach;
use crate::wire::message::{Body, HttpResponse};

const STS: &str = "STS";
const POD: &str = "the container's credentials endpoint";
const MACHINE: &str = "the metadata service of EC2";
/// Name of tagpin's sessions in the logs of Amazon.
const SESSION: &str = "tagpin";

/// Finds the keys of the process.
pub(super) async fn find(exchange: &Exchange, ecr: &EcrHost, deadline: Instant) -> Result<Keys, CloudError> {
    let variable = |name| exchange.variable(name);
    if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        return Ok(Keys {
            id,
            secret: secret.into(),
            session: variable("AWS_SESSION_TOKEN").map(Into::into),
        });
    }
    if let (Some(role), Some(file)) = (variable("AWS_ROLE_ARN"), variable("AWS_WEB_IDENTITY_TOKEN_FILE")) {
        return by_web_identity(exchange, ecr, &role, &file, deadline).await;
    }
    if let Some(url) = variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        return of_container(exchange, &url, deadline).await;
    }
    if let Some(path) = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return of_container(exchange, &format!("http://169.254.170.2{path}"), deadline).await;
    }
    if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true")) {
        return Err(CloudError::Nobody("give its service account a role (IRSA or EKS Pod Identity)"));
    }
    of_machine(exchange, deadline).await.map_err(|error| match error {
        CloudError::Service { service: MACHINE, problem } => CloudError::Service {
            service: MACHINE,
            problem: format!("{problem}; in a pod, use IRSA or EKS Pod Identity"),
        },
        other => other,
    })
}

/// Assumes a role, for instance in another account.
pub(super) async fn take_on(
    exchange: &Exchange,
    ecr: &EcrHost,
    keys: &Keys,
    role: &str,
    deadline: Instant,
) -> Result<Keys, CloudError> {
    let body = form("AssumeRole", &[("RoleArn", role), ("RoleSessionName", SESSION)]);
    let ask = Ask::post(STS, sts(exchange, ecr)?, Body::form(body.clone()));
    let body = body.expose_secret().as_bytes();
    let ask = signature::sign(ask, body, keys, ecr.region(), "sts", exchange.now());
    of_sts(&exchange.send(ask, deadline).await?)
}

async fn by_web_identity(
    exchange: &Exchange,
    ecr: &EcrHost,
    role: &str,
    file: &str,
    deadline: Instant,
) -> Result<Keys, CloudError> {
    let token = exchange.file(file);
    let token =
        token.ok_or(CloudError::Nobody("AWS_WEB_IDENTITY_TOKEN_FILE names a file that cannot be read"))?;
    let session = exchange.variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| SESSION.to_owned());
    let fields = [("RoleArn", role), ("RoleSessionName", &session), ("WebIdentityToken", &token)];
    let body = form("AssumeRoleWithWebIdentity", &fields);
    let ask = Ask::post(STS, sts(exchange, ecr)?, Body::form(body));
    of_sts(&exchange.send(ask, deadline).await?)
}

fn sts(exchange: &Exchange, ecr: &EcrHost) -> Result<Url, CloudError> {
    exchange::url(STS, &exchange.variable("AWS_ENDPOINT_URL_STS").unwrap_or_else(|| ecr.sts()))
}

fn form(action: &str, fields: &[(&str, &str)]) -> SecretString {
    let mut form = Serializer::new(String::new());
    form.append_pair("Action", action)
        .append_pair("Version", "2011-06-15")
        .extend_pairs(fields)
        .finish()
        .into()
}

/// Reads the XML response of STS. Its values are base64 and names, in which nothing is escaped.
fn of_sts(answer: &HttpResponse) -> Result<Keys, CloudError> {
    let text = String::from_utf8_lossy(&answer.body);
    let value = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (value, _) = rest.split_once(&format!("</{name}>"))?;
        (!value.is_empty()).then(|| value.trim().to_owned())
    };
    let keys = || {
        let (id, secret) = (value("AccessKeyId")?, value("SecretAccessKey")?);
        Some(Keys { id, secret: secret.into(), session: Some(value("SessionToken")?.into()) })
    };
    keys().ok_or_else(|| exchange::unreadable(STS))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Held {
    access_key_id: String,
    secret_access_key: SecretString,
    token: Option<SecretString>,
}

impl From<Held> for Keys {
    fn from(held: Held) -> Self {
        Self { id: held.access_key_id, secret: held.secret_access_key, session: held.token }
    }
}

/// Reads keys from the endpoint of a container. Over http, only the addresses of such endpoints are asked, as
/// Amazon's own libraries do.
async fn of_container(exchange: &Exchange, url: &str, deadline: Instant) -> Result<Keys, CloudError> {
    let url = exchange::url(POD, url)?;
    let reach = match url.scheme() {
        "https" => Reach::Private,
        _ if matches!(url.host(), Some(Host::Ipv4(_) | Host::Ipv6(_))) => Reach::Metadata,
        _ => {
            return Err(CloudError::Nobody(
                "the endpoint in AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or http with an IP address",
            ));
        }
    };
    let mut ask = Ask::get(POD, url, reach);
    let token = match exchange.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => exchange.file(&file),
        None => exchange.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    if let Some(token) = token {
        ask = ask.with("authorization", token);
    }
    Ok(exchange.json::<Held>(ask, deadline).await?.into())
}

/// Reads keys from IMDSv2, which needs a session first.
async fn of_machine(exchange: &Exchange, deadline: Instant) -> Result<Keys, CloudError> {
    let root = exchange.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    let root = root.unwrap_or_else(|| "http://169.254.169.254".to_owned());
    let place = |path: &str| exchange::url(MACHINE, &format!("{}/latest/{path}", root.trim_end_matches('/')));
    let session = Ask { method: Method::Put, ..Ask::get(MACHINE, place("api/token")?, Reach::Metadata) }
        .with("x-aws-ec2-metadata-token-ttl-seconds", "60");
    let session = text(&exchange.send(session, deadline).await?)?;
    let ask = |path: &str| {
        Ok::<_, CloudError>(
            Ask::get(MACHINE, place(path)?, Reach::Metadata).with("x-aws-ec2-metadata-token", &*session),
        )
    };
    let roles = "meta-data/iam/security-credentials/";
    let role = text(&exchange.send(ask(roles)?, deadline).await?)?;
    Ok(exchange.json::<Held>(ask(&format!("{roles}{role}"))?, deadline).await?.into())
}

/// Returns the first line of a response, as one word.
fn text(answer: &HttpResponse) -> Result<String, CloudError> {
    let text =
        std::str::from_utf8(&answer.body).ok().and_then(|text| text.lines().next()).unwrap_or_default();
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if plain { Ok(text.to_owned()) } else { Err(exchange::unreadable(MACHINE)) }
}
