//! A credential that a cloud gave.

use tokio::time::Instant;

use crate::credential::Credential;

/// A credential and how long it counts.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) credential: Credential,
    /// From then on a new one is asked for.
    pub(super) renew: Instant,
    /// Until then it works.
    pub(super) ends: Instant,
}
