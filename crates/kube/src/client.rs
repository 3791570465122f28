//! The client of the API server, with a limit on every call, and the reads that a review may wait for.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Namespace;
use kube::config::{InferConfigError, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::time::{Instant, timeout_at};

use crate::accounts::usable;
use crate::discovery::ServedKinds;
use crate::item::{Item, Whole};
use crate::reader::Reader;
use crate::slim::{Slim, SlimServiceAccount};
use crate::stored::Stored;
use tagpin_domain::kind::Kind;
use tagpin_domain::object_name::is_object_name;
use tagpin_domain::workload::{ForeignKind, Known, Labels, is_custom_group};
use tagpin_objects::kinds::Kinds;

/// Time limit for connecting to the API server, including TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// Time without a byte after which a connection counts as dead. Watches end after [`WATCH`].
const SILENCE: Duration = Duration::from_secs(75);
/// Duration of one watch request in seconds.
pub(crate) const WATCH: u32 = 60;
/// Time limit for a read, because a review waits for it.
const READ: Duration = Duration::from_secs(1);

/// The word of a group version whose kinds the API server could not read from the server that has them.
const STALE: &str = "Stale";

/// The reason why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is neither a service account nor a kubeconfig, or it cannot be read.
    #[error("find the API server")]
    Config(#[from] InferConfigError),
    /// The kubeconfig names a proxy.
    #[error("the kubeconfig leads to the API server through a proxy (proxy-url), which tagpin cannot use")]
    Proxy,
    /// The configuration is invalid.
    #[error("build a client of the API server")]
    Client(#[from] kube::Error),
}

/// Makes clients of one API server, each with connections of its own.
#[derive(Debug, Clone)]
pub struct Connector(Config);

impl Connector {
    /// Returns a connector for the cluster of the service account or of `KUBECONFIG`.
    ///
    /// # Errors
    /// Fails if there is no configuration, or if it names a proxy.
    pub async fn infer() -> Result<Self, ClientError> {
        let mut config = Config::infer().await?;
        // The library also takes HTTPS_PROXY, which is for registries, and whatever NO_PROXY says.
        if config.proxy_url.take().is_some() && Kubeconfig::read().is_ok_and(|file| names_a_proxy(&file)) {
            return Err(ClientError::Proxy);
        }
        Ok(Self(limited(config)))
    }

    /// Returns a client without open connections.
    ///
    /// # Errors
    /// Fails if the configuration is invalid.
    pub fn client(&self) -> Result<Client, ClientError> {
        Ok(Client::try_from(self.0.clone())?)
    }
}

/// Returns a client for the cluster of the service account or of `KUBECONFIG`.
///
/// # Errors
/// Fails if there is no configuration, if it is invalid, or if it names a proxy.
pub async fn connect() -> Result<Client, ClientError> {
    Connector::infer().await?.client()
}

/// Returns true if the cluster of the current context has a proxy of its own.
fn names_a_proxy(file: &Kubeconfig) -> bool {
    let context = file.contexts.iter().find(|context| Some(&context.name) == file.current_context.as_ref());
    let name = context.and_then(|context| context.context.as_ref()).map(|context| &context.cluster);
    let cluster = file.clusters.iter().find(|cluster| Some(&cluster.name) == name);
    let proxy = cluster.and_then(|cluster| cluster.cluster.as_ref()?.proxy_url.as_ref());
    proxy.is_some_and(|proxy| !proxy.is_empty())
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
        let row = self.kinds.row(kind).filter(|_| fit_into_a_path(&[namespace, name]))?;
        let api = Api::<Item<Slim>>::namespaced_with(self.client.clone(), namespace, &row);
        let found = timeout_at(deadline.min(Instant::now() + READ), api.get_opt(name)).await;
        Stored::new(&self.kinds, row, &found.ok()?.ok()??.read()?).ok()?
    }

    async fn namespace_labels(&self, name: &str, deadline: Instant) -> Option<Labels> {
        if !fit_into_a_path(&[name]) {
            return None;
        }
        // All labels count here, also those of a namespace that the store has no room for.
        let api = Api::<Item<Whole<Namespace>>>::all(self.client.clone());
        let found = timeout_at(deadline.min(Instant::now() + READ), api.get_opt(name)).await;
        Some(found.ok()?.ok()??.read()?.0.metadata.labels.unwrap_or_default())
    }

    async fn pull_secrets(
        &self,
        namespace: &str,
        service_account: &str,
        deadline: Instant,
    ) -> Known<Option<Vec<String>>> {
        if !fit_into_a_path(&[namespace, service_account]) {
            return Known::Yes(None);
        }
        let api = Api::<Item<SlimServiceAccount>>::namespaced(self.client.clone(), namespace);
        let found = timeout_at(deadline.min(Instant::now() + READ), api.get_opt(service_account)).await;
        let Ok(Ok(found)) = found else { return Known::Unknown };
        let Some(found) = found else { return Known::Yes(None) };
        let account = found.read();
        account.map_or(Known::Unknown, |account| Known::Yes(Some(usable(account.image_pull_secrets))))
    }

    async fn served_kinds(&self, deadline: Instant) -> Option<ServedKinds> {
        let listing = self.client.list_api_groups_aggregated();
        let listed = timeout_at(deadline.min(Instant::now() + READ), listing).await.ok()?.ok()?;
        let mut served = ServedKinds::default();
        for group in listed.items {
            let Some(name) = group.metadata.and_then(|metadata| metadata.name) else { continue };
            if !is_custom_group(&name) {
                continue;
            }
            for version in group.versions {
                if version.freshness.as_deref() == Some(STALE) {
                    served.unknown_groups.push(name.as_str().into());
                }
                let kinds = version.resources.into_iter().filter_map(|resource| resource.response_kind?.kind);
                let kinds = kinds.map(|kind| ForeignKind { group: name.as_str().into(), kind: kind.into() });
                served.kinds.extend(kinds);
            }
        }
        Some(served)
    }
}

/// Returns true if an object can have each of these names. They come from objects that anybody writes, and become part of
/// a path.
fn fit_into_a_path(names: &[&str]) -> bool {
    names.iter().all(|name| is_object_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_proxy_of_the_current_cluster_counts() {
        let file = |proxy: &str, current: &str| {
            Kubeconfig::from_yaml(&format!(
                "{{ current-context: {current}, contexts: [ {{ name: a, context: {{ cluster: a, user: u }} }}, {{ name: b, \
                 context: {{ cluster: b, user: u }} }} ], clusters: [ {{ name: a, cluster: {{ server: 'https://a', \
                 proxy-url: '{proxy}' }} }}, {{ name: b, cluster: {{ server: 'https://b' }} }} ] }}"
            ))
            .unwrap()
        };
        assert!(names_a_proxy(&file("http://127.0.0.1:3128", "a")));
        assert!(!names_a_proxy(&file("http://127.0.0.1:3128", "b")));
        assert!(!names_a_proxy(&file("http://127.0.0.1:3128", "none")));
        assert!(!names_a_proxy(&file("", "a")));
    }
}
