//! The client of registries. It implements the ports [`tagpin_review::Resolve`] and [`tagpin_review::Suggest`]; a
//! look-up cannot fail, because every failure is a [`Fact`].

use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant;

use tagpin_domain::fact::Fact;
use tagpin_domain::image::ImageRef;

mod cache;
mod config;
mod credential;
mod credentials;
mod inspect;
mod limit;
mod metrics;
mod observe;
mod profile;
mod protocol;
mod sharing;
mod suggest;
mod wire;

pub use self::cache::{Around, Cache};
pub use self::config::current::{Current, Reloaded};
pub use self::config::file::{ConfigError, Elsewhere, Mistake};
pub use self::config::helper::{CredentialHelpers, HelperAnswer, HelperError, HelperName};
pub use self::config::registries::Registries;
pub use self::config::user_config::{HelperFailure, OwnCredentials, UserConfig};
pub use self::credential::{Archive, Candidate, CloudApi, Credential, CredentialId, Source};
pub use self::credentials::cloud::{Access, CloudError, Clouds, ServiceKey, Surroundings};
pub use self::credentials::docker_config::DockerConfig;
pub use self::credentials::keyring::Keyring;
pub use self::credentials::operator::{OperatorCredential, OperatorCredentials, SecretRef};
pub use self::credentials::provider::{Credentials, Held, Search};
pub use self::credentials::pull_secrets::{PullSecrets, Readable};
pub use self::inspect::{DEPTH, ForPlatform, NotInspected};
pub use self::limit::{Gate, Limit};
pub use self::metrics::{LastAsked, RegistryMetrics, UnusedCredential};
pub use self::observe::{
    AnsweredBy, Event, Failure, Method, Observer, Purpose, Scheme, Skipped, Step, Target, Unused,
};
pub use self::profile::endpoint::{
    Confirm, Endpoint, EndpointError, Header, Identity, Profiles, RegistryProfile, ResolveFrom, Rewrite,
};
pub use self::profile::network::{IpNet, IpNetError, Network};
pub use self::profile::not_found::NotFound;
pub use self::profile::proxy::{NoProxy, NoProxyError, ProxyError, ProxyWay};
pub use self::profile::tls::{CaBundle, ClientCertificate, PemError, Tls};
pub use self::protocol::challenge::{Challenge, Challenges};
pub use self::protocol::client::Client;
pub use self::protocol::manifest::read as read_manifest;
pub use self::protocol::tag_list::{TagList, follow as follow_link};
pub use self::protocol::tags::next_link;
pub use self::suggest::{BUDGET, Suggestions};
pub use self::wire::guard::{Names, SystemNames};
pub use self::wire::health::RestingHost;
pub use self::wire::transport::Transport;

/// Looks up tags with credentials that were already found. [`Client`] implements it, and [`Limit`] decorates it.
///
/// [`Cache`] finds the credentials, so that it can keep each answer under the credentials that got it.
pub trait Lookup: Send + Sync {
    /// Asks the registry which digest the tag of the image names, before the deadline. The candidates are tried in
    /// order, and are never empty.
    fn look_up(
        &self,
        image: &ImageRef,
        candidates: &[Candidate],
        deadline: Instant,
    ) -> impl Future<Output = Fact> + Send;
}

/// Puts limits and a cache around the client. An answer from the cache waits for no permit. Other callers that ask
/// the same registries should share the gate.
pub fn assemble<L: Lookup + 'static>(client: L, gate: Arc<Gate>, around: Around) -> Cache<Limit<L>> {
    let limit = Limit::new(client, gate, Arc::clone(&around.profiles));
    Cache::new(limit, around)
}
