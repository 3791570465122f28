//! One call of the API server: bounded in time, and its failure as few cases as the writers tell apart.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;

/// Of one call; the lease outlives it.
const LIMIT: Duration = Duration::from_secs(5);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Api(#[from] kube::Error),
}

impl CallError {
    /// The status that the API server answered with, when it answered.
    pub(crate) fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status),
            Self::Api(_) | Self::Timeout => None,
        }
    }

    /// Its code: 409.
    pub(crate) fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }
}

/// Waits for one call, within the limit.
pub(crate) async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    within(LIMIT, call).await
}

/// Waits for one call, within this time.
pub(crate) async fn within<T>(
    time: Duration,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    Ok(timeout(time, call).await.map_err(|_| CallError::Timeout)??)
}
