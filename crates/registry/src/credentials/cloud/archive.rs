//! Asks the API of Amazon ECR if an image is in its archive. The registry answers for such an image as for one that
//! does not exist.

#![cfg_attr(not(feature = "aws"), allow(unused_variables, reason = "nobody is asked then"))]

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::access::Access;
use super::error::CloudError;
use super::exchange::Exchange;
use crate::credential::Archive;
use crate::observe::{Event, Observer, Unused};
use crate::profile::endpoint::Endpoint;
use crate::sharing::expiring::Expiring;

/// Time for which an answer is valid.
const KNOWN: Duration = Duration::from_secs(60);
/// Time for which the API is not asked after it denied access.
const DENIED: Duration = Duration::from_secs(60 * 60);
/// Maximum number of answers that are remembered, and of refusals.
const ANSWERS: (usize, usize) = (1024, 256);

/// A tag in a repository, which the API is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) access: Access,
    pub(super) host: String,
    pub(super) repository: String,
    pub(super) tag: String,
}

/// The answers of the last minute.
pub(super) struct Archives {
    known: Expiring<Place, Option<Archive>>,
    /// The identities and registries for which the API denied access.
    denied: Expiring<(Access, String), ()>,
}

/// The right to ask for the state of an image.
const RIGHT: &str = "ecr:DescribeImages";

impl Archives {
    pub(super) fn new() -> Self {
        Self { known: Expiring::new(ANSWERS.0), denied: Expiring::new(ANSWERS.1) }
    }

    /// Returns the state of the image in the archive; none if it is not there, and if the API does not tell.
    pub(super) async fn state(
        &self,
        exchange: &Exchange,
        observer: &dyn Observer,
        registry: &Endpoint,
        entry: &str,
        place: Place,
        deadline: Instant,
    ) -> Option<Archive> {
        let now = Instant::now();
        if let Some(known) = self.known.get(&place, now) {
            return known;
        }
        let identity = (place.access.clone(), place.host.clone());
        if self.denied.get(&identity, now).is_some() {
            return None;
        }
        let asked = timeout_at(deadline, ask(exchange, registry, &place, deadline)).await;
        match asked.unwrap_or_else(|_| Err(CloudError::late())) {
            Ok(state) => {
                self.known.put(place, state, Instant::now() + KNOWN);
                state
            }
            Err(CloudError::Denied { .. }) => {
                observer.observe(&Event::CredentialUnused {
                    registry: entry,
                    host: &identity.1,
                    reason: Unused::Right,
                    about: RIGHT,
                });
                self.denied.put(identity, (), Instant::now() + DENIED);
                None
            }
            Err(_) => {
                self.known.put(place, None, Instant::now() + KNOWN);
                None
            }
        }
    }
}

async fn ask(
    exchange: &Exchange,
    registry: &Endpoint,
    place: &Place,
    deadline: Instant,
) -> Result<Option<Archive>, CloudError> {
    match &place.access {
        #[cfg(feature = "aws")]
        Access::Aws { role, .. } => {
            let role = role.as_deref();
            super::aws::archived(exchange, registry, role, &place.repository, &place.tag, deadline).await
        }
        // The other clouds have no archive.
        _ => Ok(None),
    }
}
