//! Requests to the services of a cloud: its APIs, and its metadata service, where no registry is ever contacted.

#![cfg_attr(
    not(all(feature = "aws", feature = "gcp", feature = "azure")),
    allow(dead_code, reason = "what one cloud needs is there without the others")
)]

use std::sync::Arc;
use std::time::SystemTime;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded::Serializer;

use super::error::CloudError;
use crate::observe::Method;
use crate::profile::endpoint::{Header, Profiles};
use crate::profile::tls::Tls;
use crate::wire::guard::Reach;
use crate::wire::message::{Body, Call, HttpResponse};
use crate::wire::transport::Transport;

/// Maximum size of a response, in bytes.
const LIMIT: usize = 256 * 1024;

/// The surroundings of the process: its environment, files and clock.
pub trait Surroundings: Send + Sync {
    /// Returns an environment variable, unless it is empty.
    fn variable(&self, name: &str) -> Option<String>;
    /// Returns the text of a file, which may change while the process runs.
    fn file(&self, path: &str) -> Option<String>;
    /// Returns the time.
    fn now(&self) -> SystemTime;
}

/// Sends requests, and knows the surroundings of the process.
pub(super) struct Exchange {
    transport: Arc<Transport>,
    surroundings: Arc<dyn Surroundings>,
    profiles: Arc<dyn Profiles>,
}

/// One request.
pub(super) struct Ask {
    /// The name of the service, for messages.
    pub(super) service: &'static str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<Body>,
    pub(crate) reach: Reach,
    pub(crate) tls: Tls,
}

impl Ask {
    /// Creates a GET without headers.
    pub(super) fn get(service: &'static str, url: Url, reach: Reach) -> Self {
        let tls = Tls::default();
        Self { service, method: Method::Get, url, headers: Vec::new(), body: None, reach, tls }
    }

    /// Creates a POST without headers.
    pub(super) fn post(service: &'static str, url: Url, body: Body) -> Self {
        // The APIs of a cloud may have private addresses in its networks.
        Self { method: Method::Post, body: Some(body), ..Self::get(service, url, Reach::Private) }
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Exchange {
    pub(super) const fn new(
        transport: Arc<Transport>,
        surroundings: Arc<dyn Surroundings>,
        profiles: Arc<dyn Profiles>,
    ) -> Self {
        Self { transport, surroundings, profiles }
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.surroundings.variable(name)
    }

    /// Returns the text of a file, without white space at its ends.
    pub(super) fn file(&self, path: &str) -> Option<String> {
        self.surroundings.file(path).map(|text| text.trim().to_owned())
    }

    pub(super) fn now(&self) -> SystemTime {
        self.surroundings.now()
    }

    /// Sends a request, and returns its response if the status is 200.
    pub(super) async fn send(&self, ask: Ask, deadline: Instant) -> Result<HttpResponse, CloudError> {
        let Ask { service, method, url, headers, body, reach, mut tls } = ask;
        let network = self.profiles.network();
        tls.common.clone_from(&network.ca);
        // A metadata service answers nobody but this machine.
        let proxy = network.proxy_for(&url).filter(|_| reach != Reach::Metadata);
        let wrong = |problem: String| CloudError::Service { service, problem };
        let header = |(name, value): &(&'static str, String)| Header::new(name, value);
        let headers: Option<Vec<Header>> = headers.iter().map(header).collect();
        let headers =
            headers.ok_or_else(|| wrong("cannot be asked: the request has an invalid header".to_owned()))?;
        let call = Call {
            method,
            url: &url,
            accept: None,
            headers: &headers,
            body: body.as_ref(),
            authorization: None,
            tls: &tls,
            reach,
            proxy,
            limit: LIMIT,
        };
        let answer = self.transport.exchange(&call, deadline).await;
        let answer = answer.map_err(|failure| wrong(format!("gave no answer ({})", failure.word())))?;
        match answer.status {
            200 => Ok(answer),
            status => Err(match refusal(&answer.body) {
                Some(Refusal::Denied) => CloudError::Denied { service, status },
                Some(Refusal::Other(refusal)) => wrong(format!("{refusal} (status {status})")),
                None => wrong(format!("answered with status {status}")),
            }),
        }
    }

    /// Sends a request, and reads its response as JSON.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        ask: Ask,
        deadline: Instant,
    ) -> Result<T, CloudError> {
        let service = ask.service;
        let answer = self.send(ask, deadline).await?;
        read(service, &answer)
    }
}

/// The meaning of an error code.
enum Refusal {
    /// The identity may not do this.
    Denied,
    /// Another problem, as the predicate of a sentence about the service.
    Other(&'static str),
}

/// Explains the error code in a response; none for an unknown code. Amazon's services send it as JSON
/// (`"__type":"com.amazon#Code"`), and those that take forms as XML (`<Code>Code</Code>`).
fn refusal(body: &[u8]) -> Option<Refusal> {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "__type")]
        kind: String,
    }
    let typed = serde_json::from_slice::<Typed>(body).ok().map(|typed| typed.kind);
    let text = String::from_utf8_lossy(body);
    let tagged = || Some(text.split_once("<Code>")?.1.split_once("</Code>")?.0.to_owned());
    let code = typed.or_else(tagged)?;
    let code = code.rsplit('#').next().unwrap_or_default();
    Some(Refusal::Other(match code.strip_suffix("Exception").unwrap_or(code) {
        "AccessDenied" => return Some(Refusal::Denied),
        "SignatureDoesNotMatch" | "InvalidSignature" => {
            "rejects the signature: check the secret key, and the clock of this machine"
        }
        "InvalidClientTokenId" | "UnrecognizedClient" => "does not know the access key or the session",
        "ExpiredToken" | "RequestExpired" => "reports that the keys or the token have expired",
        "InvalidIdentityToken" | "IDPRejectedClaim" => "rejects the token of the service account",
        "Throttling" | "TooManyRequests" => "reports too many requests",
        _ => return None,
    }))
}

/// Reads a response as JSON.
pub(super) fn read<T: DeserializeOwned>(
    service: &'static str,
    answer: &HttpResponse,
) -> Result<T, CloudError> {
    serde_json::from_slice(&answer.body).map_err(|_| unreadable(service))
}

/// Returns the error for a response that contradicts the documentation of the service.
pub(super) fn unreadable(service: &'static str) -> CloudError {
    CloudError::Service { service, problem: "gave an invalid response".to_owned() }
}

/// Creates a body of these form fields.
pub(super) fn form(fields: &[(&str, &str)]) -> Body {
    Body::form(Serializer::new(String::new()).extend_pairs(fields).finish().into())
}

/// Parses a URL that is made of checked parts.
pub(crate) fn url(service: &'static str, text: &str) -> Result<Url, CloudError> {
    Url::parse(text).map_err(|_| CloudError::Service {
        service,
        problem: "cannot be asked: its address is not a URL".to_owned(),
    })
}
