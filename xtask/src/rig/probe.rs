//! The conditions that start-up waits for: a process serves, or pods can run.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::node::{ADDRESS, API_PORT, Node};
use super::state::State;

/// A condition that shows that something serves.
#[derive(Clone, Debug)]
pub(crate) enum Probe {
    /// A process listens at this address.
    Tcp(SocketAddr),
    /// A process listens on this socket.
    Unix(PathBuf),
    /// The API server is ready.
    Api,
}

impl Probe {
    pub(crate) fn holds(&self, state: &State) -> bool {
        match self {
            Self::Tcp(address) => TcpStream::connect_timeout(address, Duration::from_millis(500)).is_ok(),
            Self::Unix(socket) => UnixStream::connect(socket).is_ok(),
            Self::Api => get(state, "/readyz").is_ok(),
        }
    }
}

/// Waits until `condition` holds. Returns `false` if it does not hold within `limit`.
pub(crate) fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !condition() {
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    true
}

/// Returns what is still missing for pods to run on every node, or none if all is there. A status that a node wrote
/// before `boot` does not count.
pub(crate) fn missing(state: &State, nodes: u8, boot: Timestamp) -> Option<String> {
    if let Err(error) = get(state, "/readyz") {
        return Some(format!("the API server: {error:#}"));
    }
    for node in Node::all(nodes) {
        let name = node.name();
        match get(state, &format!("/api/v1/nodes/{name}")) {
            Ok(seen) if schedulable(&seen, boot) => {}
            Ok(_) => return Some(format!("node {name}: not Ready")),
            Err(error) => return Some(format!("node {name}: {error:#}")),
        }
    }
    // Without this account no pod can be created in the namespace.
    let account = get(state, "/api/v1/namespaces/default/serviceaccounts/default");
    account.err().map(|error| format!("service account default: {error:#}"))
}

fn schedulable(node: &Value, boot: Timestamp) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().any(|condition| {
        let field = |name: &str| condition.get(name).and_then(Value::as_str);
        let said = field("lastHeartbeatTime").and_then(|time| time.parse::<Timestamp>().ok());
        // The times in conditions are in whole seconds.
        field("type") == Some("Ready")
            && field("status") == Some("True")
            && said.is_some_and(|said| said.as_second() >= boot.as_second())
    });
    ready && node.pointer("/spec/taints").is_none()
}

/// Sends one GET to the API server, as its administrator.
fn get(state: &State, path: &str) -> Result<Value> {
    let address = SocketAddr::from((ADDRESS, API_PORT));
    let tcp = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    tcp.set_read_timeout(Some(Duration::from_secs(2)))?;
    tcp.set_write_timeout(Some(Duration::from_secs(2)))?;
    let server = ServerName::IpAddress(std::net::IpAddr::from(ADDRESS).into());
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::new(client(state)?), server)?, tcp);
    // HTTP/1.0 is used because its answer ends with the connection and is never chunked.
    write!(tls, "GET {path} HTTP/1.0\r\nHost: {ADDRESS}\r\nAccept: application/json\r\n\r\n")?;
    let mut answer = Vec::new();
    if let Err(error) = tls.read_to_end(&mut answer)
        && error.kind() != std::io::ErrorKind::UnexpectedEof
    {
        return Err(error.into());
    }
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").context("the answer has no end of head")?;
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200 ") {
        bail!("{path}: {status}");
    }
    Ok(serde_json::from_str(body).unwrap_or(Value::Null))
}

fn client(state: &State) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&fs::read(state.pki("ca.crt"))?)?)?;
    let chain = vec![CertificateDer::from_pem_slice(&fs::read(state.pki("admin.crt"))?)?];
    let key = PrivateKeyDer::from_pem_slice(&fs::read(state.pki("admin.key"))?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_client_auth_cert(chain, key)?)
}
