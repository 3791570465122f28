//! The client of the API server, with a limit on every call, and the reads that a review may wait for.

use std::time::Duration;

use async_trait::async_trait;
use kube::{Api, Client, Config};
use tokio::time::{Instant, timeout_at};

use crate::item::Item;
use crate::reader::Reader;
use crate::slim::{Slim, SlimNamespace};
use crate::stored::Stored;
use tagpin_domain::kind::Kind;
use tagpin_domain::workload::Labels;
use tagpin_objects::kinds::Kinds;

/// Time limit for connecting to the API server, including TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// Time without a byte after which a connection counts as dead. Watches end after [`WATCH`].
const SILENCE: Duration = Duration::from_secs(75);
/// Duration of one watch request in seconds.
pub(crate) const WATCH: u32 = 60;
/// Time limit for a read, because a review waits for it.
const READ: Duration = Duration::from_secs(1);

/// The reason why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is neither a service account nor a kubeconfig, or it cannot be read.
    #[error("find the API server")]
    Config(#[from] kube::config::InferConfigError),
    /// The configuration is invalid.
    #[error("build a client of the API server")]
    Client(#[from] kube::Error),
}

/// Returns a client for the cluster of the service account or of `KUBECONFIG`.
///
/// # Errors
/// Fails if there is no configuration, or if it is invalid.
pub async fn connect() -> Result<Client, ClientError> {
    Ok(Client::try_from(limited(Config::infer().await?))?)
}

/// Sets limits on connecting, reading and retrying. By default kube has no limit on reading, and retries 15 times.
fn limited(mut config: Config) -> Config {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    // Without this, idle time in the pool would count against the next answer.
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
    /// Returns a reader that uses this client.
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
