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
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};
use tracing::field::Empty;
use tracing::{Instrument as _, debug_span};
use url::{Host, Url};

use crate::credential::Credential;
use crate::observe::{Failure, Method};
use crate::profile::endpoint::Endpoint;
use crate::profile::network::Network;
use crate::profile::proxy::ProxyWay;
use crate::profile::tls::Tls;
use crate::sharing::expiring::Expiring;
use crate::wire::guard::{Forbidden, Names, Reach};
use crate::wire::message::{Call, HEADER_COUNT, HttpResponse};

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
/// Time after which an idle connection is closed, before the load balancer of a registry closes it.
const IDLE: Duration = Duration::from_secs(30);

/// Maximum number of connection pools.
const POOLS: usize = 64;

/// Maximum number of names in the operator's own ranges that are remembered.
const OWN_NAMES: usize = 4096;
/// Time for which such a name is remembered, longer than a connection to it stays open.
const OWN_MEMORY: Duration = Duration::from_secs(60 * 60);

/// Opens connections. It keeps one pool for each set of TLS settings and reach, not for each host.
pub struct Transport {
    names: Arc<dyn Names>,
    clients: Mutex<HashMap<Profile, reqwest::Client>>,
    own: Arc<OwnNames>,
}

/// The names that resolved to addresses in the operator's own ranges.
type OwnNames = Expiring<Box<str>, ()>;

/// The properties that connections of one pool share.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Profile {
    /// The TLS settings; none for plain http, so that the authorities of the system are read only where they count.
    tls: Option<Tls>,
    reach: Reach,
    proxy: Option<Arc<ProxyWay>>,
}

impl Transport {
    /// Creates a transport that resolves names with this resolver.
    #[must_use]
    pub fn new(names: Arc<dyn Names>) -> Self {
        Self { names, clients: Mutex::default(), own: Arc::new(Expiring::new(OWN_NAMES)) }
    }

    /// Sends one request and reads the response, before the deadline and within the limits.
    ///
    /// # Errors
    /// Returns an error if there is no readable response.
    pub(crate) async fn exchange(&self, call: &Call<'_>, deadline: Instant) -> Result<HttpResponse, Failure> {
        match call.proxy {
            Some(_) => call.reach.check_through_proxy(call.url).map_err(Failure::from)?,
            None => call.reach.check_literal(call.url).map_err(Failure::from)?,
        }
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
        let answer = match (received.unwrap_or(Err(Failure::Timeout)), call.proxy) {
            // The proxy wants another credential, or refuses the host: a registry never sends 407.
            (Ok(HttpResponse { status: 407, .. }), Some(_)) => Err(Failure::Proxy),
            (answer, _) => answer,
        };
        match &answer {
            Ok(answer) => span.record("http.response.status_code", i64::from(answer.status)),
            Err(failure) => span.record("error.type", failure.word()),
        };
        answer
    }

    /// Returns true if requests to the endpoint are refused in this network, because of its address or its name.
    pub async fn refuses(&self, endpoint: &Endpoint, network: &Network) -> bool {
        let root = endpoint.root();
        let reach = Reach::of_endpoint(endpoint, root, network);
        if network.proxy_for(root).is_some() {
            return reach.check_through_proxy(root).is_err();
        }
        match endpoint.host() {
            Some(Host::Domain(name)) => match self.names.addresses(name).await {
                Ok(addresses) => !addresses.is_empty() && reach.filter(addresses).is_err(),
                Err(_) => false,
            },
            _ => reach.check_literal(root).is_err(),
        }
    }

    /// Returns true if the host of the URL is or was one in the operator's own ranges.
    pub(crate) fn is_own(&self, reach: &Reach, url: &Url) -> bool {
        let resolved = || self.own.get(url.host_str().unwrap_or_default(), Instant::now()).is_some();
        matches!(reach, Reach::Own(_)) && (reach.is_own_literal(url) || resolved())
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
        // The pool connects to the proxy, and its resolver sees no other name.
        let reach = call.proxy.map_or_else(|| call.reach.clone(), |_| Reach::Proxy);
        let profile = Profile { tls, reach, proxy: call.proxy.cloned() };
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(&profile) {
            return Ok(client.clone());
        }
        let client = build(&profile, Arc::clone(&self.names), Arc::clone(&self.own)).map_err(|error| {
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

fn build(profile: &Profile, names: Arc<dyn Names>, own: Arc<OwnNames>) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder();
    let builder = match &profile.tls {
        Some(tls) => secured(builder, tls)?,
        None => builder.tls_certs_only([]),
    };
    // Proxies of the environment are not used: they would resolve names where the guard cannot check them.
    let builder = match &profile.proxy {
        None => builder.no_proxy(),
        Some(way) => builder.no_proxy().proxy(through(way)?),
    };
    builder
        .user_agent(concat!("tagpin/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .dns_resolver(GuardedNames { names, reach: profile.reach.clone(), own })
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .http1_max_headers(HEADER_COUNT)
        .http2_max_header_list_size(u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX))
        .build()
}

fn through(way: &ProxyWay) -> reqwest::Result<reqwest::Proxy> {
    let proxy = reqwest::Proxy::all(way.url().clone())?;
    Ok(match way.credential() {
        Some(Credential::Basic { username, password }) => {
            proxy.basic_auth(username, password.expose_secret())
        }
        _ => proxy,
    })
}

fn secured(builder: reqwest::ClientBuilder, tls: &Tls) -> reqwest::Result<reqwest::ClientBuilder> {
    let mut roots = Vec::new();
    for certificate in tls.authorities() {
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
    let mut response = request.send().await.map_err(|error| match failure(&error) {
        // The proxy cannot be reached, or refuses to connect to the host.
        Failure::Connect | Failure::Dns if call.proxy.is_some() && error.is_connect() => Failure::Proxy,
        failure => failure,
    })?;
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

impl From<Forbidden> for Failure {
    fn from(Forbidden { never }: Forbidden) -> Self {
        if never { Self::AddressBlocked } else { Self::AddressForbidden }
    }
}

fn failure_of_cause(cause: &(dyn StdError + 'static), connecting: bool) -> Option<Failure> {
    if let Some(forbidden) = cause.downcast_ref::<Forbidden>() {
        return Some((*forbidden).into());
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
    own: Arc<OwnNames>,
}

#[derive(Debug, thiserror::Error)]
#[error("the name does not resolve")]
struct NoSuchName;

impl reqwest::dns::Resolve for GuardedNames {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let (names, reach, own) = (Arc::clone(&self.names), self.reach.clone(), Arc::clone(&self.own));
        Box::pin(async move {
            let addresses = names.addresses(name.as_str()).await.map_err(|_| NoSuchName)?;
            if addresses.is_empty() {
                return Err(NoSuchName.into());
            }
            if addresses.iter().any(|address| reach.is_own(*address)) {
                own.put(name.as_str().into(), (), Instant::now() + OWN_MEMORY);
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use async_trait::async_trait;
    use reqwest::dns::Resolve;

    use super::*;
    use crate::profile::network::IpNet;

    struct Inside;

    #[async_trait]
    impl Names for Inside {
        async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
            Ok(vec![if host == "inside.test" { [10, 20, 0, 1].into() } else { [8, 8, 8, 8].into() }])
        }
    }

    #[tokio::test]
    async fn a_name_that_resolved_into_own_ranges_is_known_from_then_on() {
        let transport = Transport::new(Arc::new(Inside));
        let nets = [IpNet::parse("10.20.0.0/16").unwrap()];
        let reach = Reach::Own(nets.into());
        let is_own =
            |host: &str| transport.is_own(&reach, &Url::parse(&format!("https://{host}:8443/v2/")).unwrap());
        assert!(!is_own("inside.test"));
        let (names, own) = (Arc::clone(&transport.names), Arc::clone(&transport.own));
        let resolver = GuardedNames { names, reach: reach.clone(), own };
        for host in ["inside.test", "outside.test"] {
            assert!(resolver.resolve(host.parse().unwrap()).await.is_ok(), "{host}");
        }
        assert_eq!((is_own("inside.test"), is_own("outside.test")), (true, false));
        assert!(!transport.is_own(&Reach::Private, &Url::parse("https://inside.test").unwrap()));
    }
}
