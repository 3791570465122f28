//! Requests credentials from clouds, and remembers them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::access::{Access, reach};
use super::archive::{Archives, Place};
#[cfg(feature = "aws")]
use super::aws;
#[cfg(feature = "azure")]
use super::azure;
use super::error::CloudError;
use super::exchange::{Exchange, Surroundings};
#[cfg(feature = "gcp")]
use super::gcp;
use super::given::Given;
use crate::credential::{Archive, Candidate, CloudApi, CredentialId, Source};
use crate::observe::{Event, Observer, Unused};
use crate::profile::endpoint::{Endpoint, Profiles};
use crate::sharing::expiring::Expiring;
use crate::sharing::flight::Flights;
use crate::sharing::permits::Permits;
use crate::wire::transport::Transport;

/// The key of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    access: Access,
    /// The scope of the credential: a region, a cloud, or one registry.
    reach: String,
}

/// Requests credentials from clouds, and remembers them.
pub struct Clouds {
    exchange: Arc<Exchange>,
    given: Arc<Expiring<Key, Given>>,
    /// The failures of the last seconds.
    failed: Arc<Expiring<Key, CloudError>>,
    /// The credentials that were replaced in the last minute because a registry rejected them.
    renewed: Expiring<Key, ()>,
    flights: Flights<Key, Result<Given, CloudError>>,
    archives: Archives,
    /// The entries and regions that were reported in the last hour.
    unlisted: Expiring<(String, String), ()>,
    observer: Arc<dyn Observer>,
}

/// Maximum number of credentials that are remembered.
const GIVEN: usize = 256;
/// Time for which a failure is valid.
const FAILED: Duration = Duration::from_secs(10);
/// Minimum time between two replacements of a rejected credential. If a new one is rejected too, the credential is
/// not the cause.
const RENEWED: Duration = Duration::from_secs(60);
/// Minimum time between two reports of the same unlisted region.
const REPORTED: Duration = Duration::from_secs(60 * 60);
/// Maximum time of one request to a cloud, however many callers wait for it.
const BUDGET: Duration = Duration::from_secs(8);

impl Clouds {
    /// Creates an empty memory; no cloud is asked yet.
    #[must_use]
    pub fn new(
        transport: Arc<Transport>,
        surroundings: Arc<dyn Surroundings>,
        profiles: Arc<dyn Profiles>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            exchange: Arc::new(Exchange::new(transport, surroundings, profiles)),
            given: Arc::new(Expiring::new(GIVEN)),
            failed: Arc::new(Expiring::new(GIVEN)),
            renewed: Expiring::new(GIVEN),
            flights: Flights::new(Permits::new([4], 16)),
            archives: Archives::new(),
            unlisted: Expiring::new(GIVEN),
            observer,
        }
    }

    /// Returns the credential for a registry, for the entry with this `match`.
    ///
    /// # Errors
    /// Returns the reason why the cloud gives no credential in time; it is logged too. A credential that was given
    /// before is used as long as it is valid.
    pub async fn candidate(
        self: &Arc<Self>,
        access: &Access,
        registry: &Endpoint,
        entry: &str,
        deadline: Instant,
    ) -> Result<Candidate, CloudError> {
        let host = registry.root().host_str().unwrap_or_default();
        let reach = reach(access, host).inspect_err(|error| self.report(entry, host, error))?;
        let key = Key { access: access.clone(), reach };
        let now = Instant::now();
        let candidate = |given: Given| {
            let origin = Origin {
                clouds: Arc::clone(self),
                key: key.clone(),
                registry: registry.clone(),
                entry: entry.to_owned(),
            };
            Candidate {
                cloud: Some(Arc::new(origin)),
                ..Candidate::new(given.credential, Source::Configuration(entry.to_owned()))
            }
        };
        let known = self.given.get(&key, now);
        if let Some(given) = known.as_ref().filter(|given| given.renew > now) {
            return Ok(candidate(given.clone()));
        }
        let fresh = match self.failed.get(&key, now) {
            Some(error) => Err(error),
            None => timeout_at(deadline, self.ask(&key, registry))
                .await
                .unwrap_or_else(|_| Err(CloudError::late())),
        };
        // A credential that is still valid is better than none.
        fresh.or_else(|error| known.ok_or(error)).map(candidate)
    }

    /// Reports that an entry gives no credential for a region that it does not list: in the log once an hour.
    fn report(&self, entry: &str, host: &str, error: &CloudError) {
        let CloudError::NotListed { region } = error else { return };
        let (registry, reason, about) = (entry, Unused::Region, region.as_str());
        self.observer.observe(&Event::CredentialUnused { registry, host, reason, about });
        let (key, now) = ((entry.to_owned(), region.clone()), Instant::now());
        if self.unlisted.get(&key, now).is_none() {
            self.unlisted.put(key, (), now + REPORTED);
            warn!(entry, region, "no credential for this region, because aws.regions does not list it");
        }
    }

    async fn ask(&self, key: &Key, registry: &Endpoint) -> Result<Given, CloudError> {
        let known =
            || self.given.get(key, Instant::now()).filter(|given| given.renew > Instant::now()).map(Ok);
        let start = || {
            let (exchange, given, failed) =
                (Arc::clone(&self.exchange), Arc::clone(&self.given), Arc::clone(&self.failed));
            let (key, registry, observer) = (key.clone(), registry.clone(), Arc::clone(&self.observer));
            async move {
                let now = Instant::now();
                let asked =
                    timeout_at(now + BUDGET, credential(&exchange, &key, &registry, now + BUDGET)).await;
                let asked = asked.unwrap_or_else(|_| Err(CloudError::late()));
                let error = asked.as_ref().err().map(|error| error as _);
                observer.observe(&Event::CloudAsked { cloud: key.access.cloud(), error });
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
        self.flights
            .join([key.access.word()], key.clone(), None, known, start)
            .await
            .unwrap_or_else(|| Err(CloudError::late()))
    }
}

/// The origin of a credential, which gives the next one.
struct Origin {
    clouds: Arc<Clouds>,
    key: Key,
    registry: Endpoint,
    entry: String,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("key", &self.key).field("entry", &self.entry).finish_non_exhaustive()
    }
}

#[async_trait]
impl CloudApi for Origin {
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

    async fn archived(&self, repository: &str, tag: &str, deadline: Instant) -> Option<Archive> {
        let Self { clouds, key, registry, entry } = self;
        let place = Place {
            access: key.access.clone(),
            host: registry.root().host_str().unwrap_or_default().to_owned(),
            repository: repository.to_owned(),
            tag: tag.to_owned(),
        };
        clouds.archives.state(&clouds.exchange, &*clouds.observer, registry, entry, place, deadline).await
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
