//! The client of the API server, with limits on everything, and the one read that a review may wait for.

use std::time::Duration;

use async_trait::async_trait;
use kube::{Api, Client, Config};
use tokio::time::{Instant, timeout_at};

use crate::item::Item;
use crate::reader::Reader;
use crate::slim::{Slim, SlimNamespace};
use crate::stored::Stored;
use tagpin_domain::kind::Kind;
use tagpin_domain::policy::Labels;
use tagpin_objects::kinds::Kinds;

/// For a connection to the API server, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that is silent for so long is dead: watches are asked to end after [`WATCH`].
const SILENCE: Duration = Duration::from_secs(75);
/// How long one watch request lasts, in seconds.
pub(crate) const WATCH: u32 = 60;
/// Of all reads: the answer is wanted by a review that waits.
const READ: Duration = Duration::from_secs(1);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither a service account nor a kubeconfig, or one that can not be read.
    #[error("find the API server: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// What was found makes no client.
    #[error("make a client of the API server: {0}")]
    Client(#[from] kube::Error),
}

/// A client for the cluster that the service account, or `KUBECONFIG`, names.
///
/// # Errors
/// When neither is there or usable.
pub async fn connect() -> Result<Client, ClientError> {
    Ok(Client::try_from(limited(Config::infer().await?))?)
}

/// Limits on connecting, reading and retrying: kube has none on reading, and 15 retries by default.
fn limited(mut config: Config) -> Config {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    // Otherwise the time that a connection spent idle in the pool counts against its next answer.
    config.reset_reader_on_write = true;
    config.default_retry = false;
    config
}

/// Reads from the API server by name.
#[derive(Clone)]
pub struct ApiReader {
    client: Client,
    kinds: Kinds,
}

impl ApiReader {
    /// Asks with this client.
    #[must_use]
    pub const fn new(client: Client, kinds: Kinds) -> Self {
        Self { client, kinds }
    }
}

#[async_trait]
impl Reader for ApiReader {
    async fn object(&self, kind: Kind, namespace: &str, name: &str, deadline: Instant) -> Option<Stored> {
        let row = self.kinds.row(kind)?;
        let api = Api::<Item<Slim>>::namespaced_with(self.client.clone(), namespace, &row);
        let found = timeout_at(deadline.min(Instant::now() + READ), api.get_opt(name)).await;
        Stored::new(&self.kinds, row, &found.ok()?.ok()??.read()?).ok()?
    }

    async fn namespace_labels(&self, name: &str, deadline: Instant) -> Option<Labels> {
        let api = Api::<Item<SlimNamespace>>::all(self.client.clone());
        let found = timeout_at(deadline.min(Instant::now() + READ), api.get_opt(name)).await;
        Some(found.ok()?.ok()??.read()?.metadata.labels.unwrap_or_default())
    }
}
