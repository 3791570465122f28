//! The ready replicas of the Deployment, and the pages of their admin ports that the leader reads.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

use crate::call::within;
use tagpin_kube::follow::{Sink, config, follow};
use tagpin_kube::item::{Identity, Unreadable, Whole};
use tagpin_kube::policies::InForce;
use tagpin_kube::slim::ReplicaPod;
use tagpin_kube::unreadable::{Unreadables, Watched};
use tagpin_objects::door::Token;
use tagpin_objects::findings::{FINDINGS, Page};
use tagpin_objects::release;

/// Time limit for connecting and reading a page.
const LIMIT: Duration = Duration::from_secs(1);
/// Maximum length of a page in bytes.
const MAX_PAGE: usize = 4 << 20;

/// One ready replica.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replica {
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// The pod's address.
    pub address: IpAddr,
}

/// Asks a replica for its policies and findings.
#[async_trait]
pub trait Ask: Send + Sync {
    /// Returns the rows of `GET /policies` of this replica; none if it does not answer in time.
    async fn ask(&self, replica: &Replica) -> Option<Vec<InForce>>;

    /// Returns `GET /findings/TOKEN` of this replica; none if it does not answer in time, or does not know the token.
    async fn findings(&self, replica: &Replica, token: Token) -> Option<Page>;
}

/// Asks each replica at its own address.
pub struct AskByAddress {
    /// The port of health and metrics.
    pub port: u16,
}

/// Follows the replicas in this namespace for ever; `ready` holds the ready ones, sorted by name.
pub async fn watch(
    client: Client,
    namespace: &str,
    ready: watch::Sender<Vec<Replica>>,
    unreadable: &Unreadables,
) -> Infallible {
    let sink = Replicas { held: Mutex::default(), ready };
    let pods = Api::namespaced(client, namespace);
    follow(pods, config().labels(release::POD_SELECTOR), &sink, unreadable, Watched::Replicas, |_| ()).await
}

/// Returns true unless the Deployment is gone, is being deleted, or asks for no replica. Without an answer it
/// returns true.
pub(crate) async fn are_wanted(client: &Client, namespace: &str) -> bool {
    let deployments: Api<Whole<Deployment>> = Api::namespaced(client.clone(), namespace);
    match within(LIMIT, deployments.get_opt(release::NAME)).await {
        Ok(Some(Whole(found))) => {
            let replicas = found.spec.and_then(|spec| spec.replicas);
            found.metadata.deletion_timestamp.is_none() && replicas != Some(0)
        }
        Ok(None) => false,
        Err(_) => true,
    }
}

struct Replicas {
    /// The replicas by the pod's UID; none while a pod is not ready.
    held: Mutex<BTreeMap<String, Option<Replica>>>,
    ready: watch::Sender<Vec<Replica>>,
}

impl Replicas {
    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Option<Replica>>)) {
        let mut held = self.held.lock();
        change(&mut held);
        let mut ready: Vec<_> = held.values().flatten().cloned().collect();
        drop(held);
        ready.sort();
        self.ready.send_if_modified(|told| {
            let changed = *told != ready;
            *told = ready;
            changed
        });
    }
}

impl Sink<ReplicaPod> for Replicas {
    type Item = (String, Option<Replica>);

    fn parse(&self, pod: ReplicaPod) -> Result<Option<Self::Item>, Box<Unreadable>> {
        let (Some(name), Some(uid)) = (pod.metadata.name.clone(), pod.metadata.uid.clone()) else {
            return Ok(None);
        };
        let ready = pod.is_ready() && pod.metadata.deletion_timestamp.is_none();
        let address = pod.address().filter(|_| ready);
        Ok(Some((uid.clone(), address.map(|address| Replica { name, uid, address }))))
    }

    fn apply(&self, (uid, replica): Self::Item) {
        self.change(|held| {
            held.insert(uid, replica);
        });
    }

    fn delete(&self, gone: &Identity) {
        self.change(|held| {
            held.remove(&gone.uid);
        });
    }

    fn replace(&self, items: Vec<Self::Item>, _: &[Unreadable]) {
        self.change(|held| *held = items.into_iter().collect());
    }

    fn lose(&self, object: &Identity) {
        self.delete(object);
    }
}

#[async_trait]
impl Ask for AskByAddress {
    async fn ask(&self, replica: &Replica) -> Option<Vec<InForce>> {
        self.read(replica, "/policies").await
    }

    async fn findings(&self, replica: &Replica, token: Token) -> Option<Page> {
        self.read(replica, &token.path(FINDINGS)).await
    }
}

impl AskByAddress {
    /// Returns the content of a page. The path is never logged, because it may hold a token.
    async fn read<T: DeserializeOwned>(&self, replica: &Replica, path: &str) -> Option<T> {
        match timeout(LIMIT, fetch(replica.address, self.port, path)).await {
            Ok(Ok(content)) => Some(content),
            Ok(Err(error)) => {
                debug!(replica = replica.name, %error, "no answer");
                None
            }
            Err(_) => {
                debug!(replica = replica.name, "no answer in time");
                None
            }
        }
    }
}

/// The reason why a replica did not answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error(transparent)]
    Connect(#[from] io::Error),
    #[error(transparent)]
    Page(#[from] PageError),
    #[error("status {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

async fn fetch<T: DeserializeOwned>(address: IpAddr, port: u16, path: &str) -> Result<T, NoAnswer> {
    let stream = TcpStream::connect((address, port)).await?;
    let (status, body) = page(stream, path).await?;
    if status != StatusCode::OK {
        return Err(NoAnswer::Status(status));
    }
    Ok(serde_json::from_slice(&body)?)
}

/// The reason why a page could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The path cannot be part of a request.
    #[error(transparent)]
    Path(#[from] hyper::http::Error),
    /// The connection ended early, or the answer is not HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The page is too large, or it broke off.
    #[error(transparent)]
    Body(#[from] Box<dyn Error + Send + Sync>),
}

/// Reads one page of a replica's admin port over this connection. It has no time limit of its own.
///
/// # Errors
/// Fails if there is no answer, or if it is too large.
pub async fn page<S>(stream: S, path: &str) -> Result<(StatusCode, Bytes), PageError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header(HOST, release::NAME).body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_PAGE).collect().await?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(answer, connection);
    // The connection makes progress only while the answer is awaited.
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended?;
            answer.await
        }
    }
}
