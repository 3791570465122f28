//! Credentials that clouds give for their registries: ECR, Artifact Registry, ACR. Each cloud is a cargo feature; this
//! file says what they have in common and what a binary without one answers.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use crate::registry::cloud::exchange::Exchange;
use crate::registry::credential::{Candidate, Credential, CredentialId, Renew, Source};
use crate::registry::endpoint::Endpoint;
use crate::registry::expiring::Expiring;
use crate::registry::flight::Flights;
use crate::registry::slots::Slots;
use crate::registry::tally::Tally;
use crate::registry::transport::Transport;

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
mod exchange;
#[cfg(feature = "gcp")]
mod gcp;
mod host;

pub use host::EcrHost;
use host::{AcrHost, is_google};

/// Which cloud gives the credential of an entry, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Access {
    /// Amazon ECR.
    Aws {
        /// A role to take on, in another account for instance.
        role: Option<String>,
        /// The regions whose hosts are answered for: a name of an image must not make us ask everywhere.
        regions: Arc<[String]>,
    },
    /// Google Artifact Registry and gcr.io.
    Gcp {
        /// A service account's key instead of the metadata server.
        key: Option<Arc<ServiceKey>>,
    },
    /// Azure Container Registry.
    Azure,
}

/// The key file of a service account of Google.
#[cfg_attr(not(feature = "gcp"), allow(dead_code, reason = "nobody reads one then"))]
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    email: String,
    token_uri: String,
    /// PKCS #8, as DER.
    key: Secret,
}

/// Bytes that are never printed.
#[cfg_attr(not(feature = "gcp"), allow(dead_code, reason = "nobody reads one then"))]
#[derive(PartialEq, Eq, Hash)]
struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a cloud gave no credential. It never repeats an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// This binary was built without the cloud.
    #[error("this tagpin is built without the feature `{0}`")]
    NotBuiltIn(&'static str),
    /// The host is none of the cloud's registries, or of no region that is listed.
    #[error("{0}")]
    NotOurs(&'static str),
    /// Nothing says who we are.
    #[error("nothing says who tagpin is: {0}")]
    Nobody(&'static str),
    /// A service did not answer, or not as it should.
    #[error("{service} {problem}")]
    Service {
        /// Which one.
        service: &'static str,
        /// What came instead.
        problem: String,
    },
}

/// What the process is told about where it runs, and the files that this names.
pub trait Surroundings: Send + Sync {
    /// An environment variable, unless it is empty.
    fn variable(&self, name: &str) -> Option<String>;
    /// The text of a file, which may change while we run.
    fn file(&self, path: &str) -> Option<String>;
    /// The time of day.
    fn now(&self) -> SystemTime;
}

/// A credential and how long it counts.
#[derive(Debug, Clone)]
struct Given {
    credential: Credential,
    /// From then on a new one is asked for.
    renew: Instant,
    /// Until then it works.
    ends: Instant,
}

/// Who gives it, for which hosts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    access: Access,
    /// As far as the credential reaches: a region, a cloud, one registry.
    reach: String,
}

/// Asks clouds, and remembers what they gave.
pub struct Clouds {
    exchange: Arc<Exchange>,
    given: Arc<Expiring<Key, Given>>,
    /// Failures of a moment ago.
    failed: Arc<Expiring<Key, CloudError>>,
    /// Credentials that a registry took no more, of a moment ago.
    renewed: Expiring<Key, ()>,
    flights: Flights<Key, Result<Given, CloudError>>,
    tally: Arc<dyn Tally>,
}

/// Credentials in memory.
const GIVEN: usize = 256;
/// How long a failure counts.
const FAILED: Duration = Duration::from_secs(10);
/// How long nobody asks again for another credential: one that is new and not taken either is not what is wrong.
const RENEWED: Duration = Duration::from_secs(60);
/// What one asking may take, whoever waits for it.
const BUDGET: Duration = Duration::from_secs(8);

impl Clouds {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(
        transport: Arc<Transport>,
        surroundings: Arc<dyn Surroundings>,
        tally: Arc<dyn Tally>,
    ) -> Self {
        Self {
            exchange: Arc::new(Exchange::new(transport, surroundings)),
            given: Arc::new(Expiring::new(GIVEN)),
            failed: Arc::new(Expiring::new(GIVEN)),
            renewed: Expiring::new(GIVEN),
            flights: Flights::new(Slots::new([4], 16)),
            tally,
        }
    }

    /// The credential for a registry, of the entry with this `match`.
    ///
    /// # Errors
    /// When the cloud gives none in time, and why, which is logged too; once one came, it is used for as long as it works.
    pub async fn candidate(
        self: &Arc<Self>,
        access: &Access,
        registry: &Endpoint,
        entry: &str,
        deadline: Instant,
    ) -> Result<Candidate, CloudError> {
        let host = registry.root().host_str().unwrap_or_default();
        let reach = reach(access, host).ok_or(CloudError::NotOurs(
            "the host is no registry of the cloud, or of no region that is listed",
        ))?;
        let key = Key { access: access.clone(), reach };
        let now = Instant::now();
        let candidate = |given: Given| {
            let renew = Renewal {
                clouds: Arc::clone(self),
                key: key.clone(),
                registry: registry.clone(),
                entry: entry.to_owned(),
            };
            Candidate {
                renew: Some(Arc::new(renew)),
                ..Candidate::new(given.credential, Source::Configuration(entry.to_owned()))
            }
        };
        let known = self.given.get(&key, now);
        if let Some(given) = known.as_ref().filter(|given| given.renew > now) {
            return Ok(candidate(given.clone()));
        }
        let fresh = match self.failed.get(&key, now) {
            Some(error) => Err(error),
            None => timeout_at(deadline, self.ask(&key, registry)).await.unwrap_or_else(|_| Err(late())),
        };
        // One that still works is better than none.
        fresh.or_else(|error| known.ok_or(error)).map(candidate)
    }

    async fn ask(&self, key: &Key, registry: &Endpoint) -> Result<Given, CloudError> {
        let known =
            || self.given.get(key, Instant::now()).filter(|given| given.renew > Instant::now()).map(Ok);
        let start = || {
            let (exchange, given, failed) =
                (Arc::clone(&self.exchange), Arc::clone(&self.given), Arc::clone(&self.failed));
            let (key, registry, tally) = (key.clone(), registry.clone(), Arc::clone(&self.tally));
            async move {
                let now = Instant::now();
                let asked =
                    timeout_at(now + BUDGET, credential(&exchange, &key, &registry, now + BUDGET)).await;
                let asked = asked.unwrap_or_else(|_| Err(late()));
                tally.cloud_asked(key.access.word(), asked.as_ref().map(|_| ()));
                match &asked {
                    Ok(new) => {
                        debug!(cloud = key.access.word(), reach = key.reach, "a credential of the cloud");
                        given.put(key, new.clone(), new.ends);
                    }
                    Err(error) => {
                        warn!(cloud = key.access.word(), reach = key.reach, %error, "no credential of the cloud");
                        failed.put(key, error.clone(), now + FAILED);
                    }
                }
                asked
            }
        };
        self.flights.join([key.access.word()], key.clone(), known, start).await.unwrap_or_else(|| Err(late()))
    }
}

/// The deadline was there first.
fn late() -> CloudError {
    CloudError::Service { service: "the cloud", problem: "was too slow".to_owned() }
}

impl Access {
    /// The stable word for metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Aws { .. } => "aws",
            Self::Gcp { .. } => "gcp",
            Self::Azure => "azure",
        }
    }

    /// Whether this binary has the cloud built in.
    ///
    /// # Errors
    /// When it has not.
    pub const fn built_in(&self) -> Result<(), CloudError> {
        let built = match self {
            Self::Aws { .. } => cfg!(feature = "aws"),
            Self::Gcp { .. } => cfg!(feature = "gcp"),
            Self::Azure => cfg!(feature = "azure"),
        };
        if built { Ok(()) } else { Err(CloudError::NotBuiltIn(self.word())) }
    }

    /// Whether the cloud gives credentials for this host.
    #[must_use]
    pub fn answers_for(&self, host: &str) -> bool {
        reach(self, host).is_some()
    }
}

/// Whom a credential came from, to ask for the next one.
struct Renewal {
    clouds: Arc<Clouds>,
    key: Key,
    registry: Endpoint,
    entry: String,
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewal").field("key", &self.key).field("entry", &self.entry).finish_non_exhaustive()
    }
}

#[async_trait]
impl Renew for Renewal {
    async fn renewed(&self, rejected: CredentialId, deadline: Instant) -> Option<Candidate> {
        let Self { clouds, key, registry, entry } = self;
        let now = Instant::now();
        let is_rejected = |given: &Given| CredentialId::of(&given.credential) == rejected;
        if clouds.given.get(key, now).as_ref().is_some_and(is_rejected) {
            if clouds.renewed.get(key, now).is_some() {
                return None;
            }
            clouds.renewed.put(key.clone(), (), now + RENEWED);
            clouds.given.remove(key);
        }
        let fresh = clouds.candidate(&key.access, registry, entry, deadline).await;
        fresh.ok().filter(|fresh| fresh.id != rejected)
    }
}

/// How far a credential for this host reaches; none when the host is none of the cloud's, or of another region.
fn reach(access: &Access, host: &str) -> Option<String> {
    match access {
        Access::Aws { regions, .. } => {
            let ecr = EcrHost::parse(host)?;
            let listed = regions.is_empty() || regions.iter().any(|region| region == ecr.region());
            // One token is for every account's registry in the region.
            listed.then(|| ecr.api())
        }
        Access::Gcp { .. } => is_google(host).then(|| "google".to_owned()),
        Access::Azure => AcrHost::parse(host).map(|acr| acr.login().to_owned()),
    }
}

#[cfg_attr(
    not(any(feature = "aws", feature = "gcp", feature = "azure")),
    allow(unused_variables, clippy::unused_async, reason = "nobody is asked then")
)]
async fn credential(
    exchange: &Exchange,
    key: &Key,
    registry: &Endpoint,
    deadline: Instant,
) -> Result<Given, CloudError> {
    match &key.access {
        #[cfg(feature = "aws")]
        Access::Aws { role, .. } => aws::credential(exchange, registry, role.as_deref(), deadline).await,
        #[cfg(feature = "gcp")]
        Access::Gcp { key } => gcp::credential(exchange, key.as_deref(), deadline).await,
        #[cfg(feature = "azure")]
        Access::Azure => azure::credential(exchange, registry, deadline).await,
        #[cfg(not(feature = "aws"))]
        Access::Aws { .. } => Err(CloudError::NotBuiltIn("aws")),
        #[cfg(not(feature = "gcp"))]
        Access::Gcp { .. } => Err(CloudError::NotBuiltIn("gcp")),
        #[cfg(not(feature = "azure"))]
        Access::Azure => Err(CloudError::NotBuiltIn("azure")),
    }
}
