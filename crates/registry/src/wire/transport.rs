//! HTTP exchanges with time and size limits. Nothing else in this crate knows the HTTP library.
//!
//! The transport follows no redirect, adds no credential, decompresses nothing, and connects only to addresses that
//! the caller allows. It does not interpret responses.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout_at};
use tracing::field::Empty;
use tracing::{Instrument as _, debug_span};
use url::Url;

use crate::observe::{Failure, Method};
use crate::profile::endpoint::Header;
use crate::profile::tls::{CaBundle, Tls};
use crate::wire::guard::{Forbidden, Names, Reach};

/// Maximum time to open a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Maximum time of one exchange, whatever the deadline.
const EXCHANGE: Duration = Duration::from_secs(5);
/// Maximum time to read the body of an error.
const ERROR_BODY_TIME: Duration = Duration::from_millis(500);
/// Maximum size of the body of an error, in bytes.
const ERROR_BODY: usize = 64 * 1024;
/// Maximum size of all headers of a response, in bytes.
const HEADER_BYTES: usize = 32 * 1024;
/// Maximum number of headers of a response.
const HEADER_COUNT: usize = 100;
/// Time after which an idle connection is closed, before the load balancer of a registry closes it.
const IDLE: Duration = Duration::from_secs(30);

/// Maximum number of connection pools.
const POOLS: usize = 64;

/// Opens connections. It keeps one pool for each set of TLS settings and reach, not for each host.
pub struct Transport {
    names: Arc<dyn Names>,
    clients: Mutex<HashMap<Profile, reqwest::Client>>,
}

/// The properties that connections of one pool share.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Profile {
    /// The TLS settings; none for plain http, so that the authorities of the system are read only where they count.
    tls: Option<Tls>,
    reach: Reach,
}

/// One request.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) accept: Option<&'static str>,
    /// Headers of the operator for this host.
    pub(crate) headers: &'a [Header],
    pub(crate) body: Option<&'a Body>,
    /// The value of the `Authorization` header.
    pub(crate) authorization: Option<&'a SecretString>,
    pub(crate) tls: &'a Tls,
    pub(crate) reach: Reach,
    /// Maximum size of the body of a 200, in bytes; a larger one is an error.
    pub(crate) limit: usize,
}

impl Call<'_> {
    /// Builds the headers of the request.
    fn fields(&self) -> Result<HeaderMap, Failure> {
        let mut fields = HeaderMap::new();
        for Header { name, value } in self.headers {
            fields.append(name.clone(), value.clone());
        }
        fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(accept) = self.accept {
            fields.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        if let Some(body) = self.body {
            fields.insert(CONTENT_TYPE, HeaderValue::from_static(body.content_type));
        }
        if let Some(authorization) = self.authorization {
            let mut value =
                HeaderValue::from_str(authorization.expose_secret()).map_err(|_| Failure::Unreadable)?;
            value.set_sensitive(true);
            fields.insert(AUTHORIZATION, value);
        }
        Ok(fields)
    }

    /// Returns the headers for display, without secrets.
    pub(super) fn shown(&self) -> Vec<(String, String)> {
        self.fields().as_ref().map(shown).unwrap_or_default()
    }
}

/// Returns headers for display, without what is or may be a secret. Values are single lines already; long ones are
/// cut.
fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    const LONGEST: usize = 300;
    let show = |(name, value): (&HeaderName, &HeaderValue)| {
        let name = name.as_str();
        let secret = ["auth", "cookie", "token", "secret", "key", "signature"];
        let hidden = name != "www-authenticate" && secret.iter().any(|part| name.contains(part));
        let text = value.to_str().unwrap_or("(not text)");
        let text = match (name, text.split_once('?')) {
            // Object stores put signatures into the query.
            ("location" | "link", Some((place, _))) => format!("{place}?***"),
            _ if hidden || value.is_sensitive() => match text.split_once(' ') {
                Some((scheme @ ("Basic" | "Bearer"), _)) => format!("{scheme} ***"),
                _ => "***".to_owned(),
            },
            _ => text.chars().take(LONGEST).collect(),
        };
        (name.to_owned(), text)
    };
    headers.iter().take(HEADER_COUNT).map(show).collect()
}

/// The body of a request; it may hold a secret.
pub(crate) struct Body {
    content_type: &'static str,
    content: SecretString,
}

impl Body {
    /// Creates a JSON body of this media type.
    #[cfg(feature = "aws")]
    pub(crate) fn json(content_type: &'static str, content: &str) -> Self {
        Self { content_type, content: content.into() }
    }

    /// Returns the media type.
    #[cfg(feature = "aws")]
    pub(crate) const fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// Creates a body of encoded form fields.
    pub(crate) const fn form(content: SecretString) -> Self {
        Self { content_type: "application/x-www-form-urlencoded", content }
    }
}

/// A response. The body of anything but a 200 is as much as arrived in time, and may be empty.
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl HttpResponse {
    /// Returns the headers for display, without secrets.
    pub(super) fn shown(&self) -> Vec<(String, String)> {
        shown(&self.headers)
    }

    /// Returns the first value of a header, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// Returns every value of a header that is text.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }
}

#[cfg(test)]
impl HttpResponse {
    /// Creates a response for a test.
    pub(crate) fn of(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let headers = headers
            .iter()
            .filter_map(|(name, value)| {
                let name: reqwest::header::HeaderName = name.parse().ok()?;
                Some((name, HeaderValue::from_str(value).ok()?))
            })
            .collect();
        Self { status, headers, body: body.to_vec() }
    }
}

impl Transport {
    /// Creates a transport that resolves names with this resolver.
    #[must_use]
    pub fn new(names: Arc<dyn Names>) -> Self {
        Self { names, clients: Mutex::default() }
    }

    /// Sends one request and reads the response, before the deadline and within the limits.
    ///
    /// # Errors
    /// Returns an error if there is no readable response.
    pub(crate) async fn exchange(&self, call: &Call<'_>, deadline: Instant) -> Result<HttpResponse, Failure> {
        call.reach.check_literal(call.url).map_err(|Forbidden| Failure::AddressForbidden)?;
        let request = self.request(call)?;
        let deadline = deadline.min(Instant::now() + EXCHANGE);
        let span = debug_span!(
            "registry request",
            otel.kind = "client",
            http.request.method = call.method.word(),
            server.address = call.url.host_str(),
            url.path = call.url.path(),
            http.response.status_code = Empty,
            error.type = Empty,
        );
        let received = timeout_at(deadline, receive(request, call)).instrument(span.clone()).await;
        let answer = received.unwrap_or(Err(Failure::Timeout));
        match &answer {
            Ok(answer) => span.record("http.response.status_code", i64::from(answer.status)),
            Err(failure) => span.record("error.type", failure.word()),
        };
        answer
    }

    fn request(&self, call: &Call<'_>) -> Result<reqwest::RequestBuilder, Failure> {
        let client = self.client(call)?;
        let request = match call.method {
            Method::Head => client.head(call.url.clone()),
            Method::Get => client.get(call.url.clone()),
            Method::Post => client.post(call.url.clone()),
            Method::Put => client.put(call.url.clone()),
        };
        let request = match call.body {
            Some(body) => request.body(body.content.expose_secret().to_owned()),
            None => request,
        };
        Ok(request.headers(call.fields()?))
    }

    fn client(&self, call: &Call<'_>) -> Result<reqwest::Client, Failure> {
        let tls = (call.url.scheme() != "http").then(|| call.tls.clone());
        let profile = Profile { tls, reach: call.reach };
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(&profile) {
            return Ok(client.clone());
        }
        let client = build(&profile, Arc::clone(&self.names)).map_err(|error| {
            tracing::error!(error = %Chain(&error), "cannot set up TLS for registries: are CA certificates installed?");
            Failure::Tls
        })?;
        // Replaced certificates leave a pool behind; the other pools are opened again when they are needed.
        if clients.len() == POOLS {
            clients.clear();
        }
        clients.insert(profile, client.clone());
        Ok(client)
    }
}

fn build(profile: &Profile, names: Arc<dyn Names>) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder();
    let builder = match &profile.tls {
        Some(tls) => secured(builder, tls)?,
        None => builder.tls_certs_only([]),
    };
    builder
        .user_agent(concat!("tagpin/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // A proxy would resolve names where the guard cannot check them.
        .no_proxy()
        .dns_resolver(GuardedNames { names, reach: profile.reach })
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .http1_max_headers(HEADER_COUNT)
        .http2_max_header_list_size(u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX))
        .build()
}

fn secured(builder: reqwest::ClientBuilder, tls: &Tls) -> reqwest::Result<reqwest::ClientBuilder> {
    let mut roots = Vec::new();
    for certificate in tls.ca.iter().flat_map(CaBundle::certificates) {
        roots.push(reqwest::Certificate::from_der(certificate)?);
    }
    let builder = match tls.ca_only {
        true => builder.tls_certs_only(roots),
        false => builder.tls_certs_merge(roots),
    };
    let builder = match &tls.client {
        Some(own) => builder.identity(reqwest::Identity::from_pem(own.pem().expose_secret().as_bytes())?),
        None => builder,
    };
    Ok(builder.tls_danger_accept_invalid_certs(tls.unverified))
}

async fn receive(request: reqwest::RequestBuilder, call: &Call<'_>) -> Result<HttpResponse, Failure> {
    let mut response = request.send().await.map_err(|error| failure(&error))?;
    let status = response.status().as_u16();
    let headers = std::mem::take(response.headers_mut());
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size > HEADER_BYTES || headers.len() > HEADER_COUNT {
        return Err(Failure::Unreadable);
    }
    let body = match (call.method, status) {
        (Method::Head, _) => Vec::new(),
        (_, 200) => whole_body(&mut response, call.limit).await?,
        (_, _) => start_of_body(&mut response).await,
    };
    Ok(HttpResponse { status, headers, body })
}

/// Reads the body and counts it as it arrives, because an announced length may be wrong.
async fn whole_body(response: &mut reqwest::Response, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
        if body.len() + chunk.len() > limit {
            return Err(Failure::Unreadable);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads as much of an error's body as arrives quickly. The status has already decided.
async fn start_of_body(response: &mut reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    let until = Instant::now() + ERROR_BODY_TIME;
    while let Ok(Ok(Some(chunk))) = timeout_at(until, response.chunk()).await {
        let room = ERROR_BODY.saturating_sub(body.len());
        body.extend(chunk.iter().take(room));
        if chunk.len() >= room {
            break;
        }
    }
    body
}

/// Classifies an error of the HTTP library, by the types in its chain and never by its text.
fn failure(error: &reqwest::Error) -> Failure {
    let connecting = error.is_connect();
    let mut found = None;
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        found = found.or_else(|| failure_of_cause(error, connecting));
        next = match error.downcast_ref::<io::Error>() {
            // `source()` of an io::Error skips the error that it wraps.
            Some(io) => io.get_ref().map(|inner| inner as _),
            None => error.source(),
        };
    }
    match found {
        Some(failure) => failure,
        None if error.is_dns() => Failure::Dns,
        None if connecting => Failure::Connect,
        None if error.is_timeout() => Failure::Timeout,
        None => Failure::Unreadable,
    }
}

fn failure_of_cause(cause: &(dyn StdError + 'static), connecting: bool) -> Option<Failure> {
    if cause.is::<Forbidden>() {
        return Some(Failure::AddressForbidden);
    }
    if cause.is::<NoSuchName>() {
        return Some(Failure::Dns);
    }
    if cause.is::<rustls::Error>() {
        return Some(Failure::Tls);
    }
    if let Some(error) = cause.downcast_ref::<hyper::Error>()
        && (error.is_incomplete_message() || error.is_closed() || error.is_canceled())
    {
        return Some(Failure::Connect);
    }
    match cause.downcast_ref::<io::Error>()?.kind() {
        // The peer closed the connection during the handshake.
        io::ErrorKind::UnexpectedEof if connecting => Some(Failure::Tls),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(Failure::Connect),
        _ => None,
    }
}

/// A resolver that returns only addresses within reach; the connection goes to one of them.
struct GuardedNames {
    names: Arc<dyn Names>,
    reach: Reach,
}

#[derive(Debug, thiserror::Error)]
#[error("the name does not resolve")]
struct NoSuchName;

impl reqwest::dns::Resolve for GuardedNames {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let (names, reach) = (Arc::clone(&self.names), self.reach);
        Box::pin(async move {
            let addresses = names.addresses(name.as_str()).await.map_err(|_| NoSuchName)?;
            if addresses.is_empty() {
                return Err(NoSuchName.into());
            }
            // Port 0: the connector puts the port of the URL there.
            let addresses = reach.filter(addresses)?.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as reqwest::dns::Addrs)
        })
    }
}

/// Displays an error and its causes on one line.
struct Chain<'a>(&'a dyn StdError);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}
