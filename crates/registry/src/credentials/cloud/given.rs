//! A credential that a cloud gave.

use tokio::time::Instant;

use crate::credential::Credential;

/// A credential, and the time for which it is valid.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) credential: Credential,
    /// The time after which a new one is requested.
    pub(super) renew: Instant,
    /// The time until which it works.
    pub(super) ends: Instant,
}
