//! Calls of the API server with a time limit.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;

/// Time limit for one call, shorter than the lease.
const LIMIT: Duration = Duration::from_secs(5);

/// The reason why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Api(#[from] kube::Error),
}

impl CallError {
    /// Returns the status that the API server answered with; none if it did not answer.
    pub(crate) fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status),
            Self::Api(_) | Self::Timeout => None,
        }
    }

    /// Returns the code of that status: 409.
    pub(crate) fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }

    /// Returns true if the Event of this call will never be accepted: its namespace is gone or goes, or the API server
    /// calls the Event invalid.
    pub(crate) fn refuses_event(&self) -> bool {
        let Some(status) = self.status() else { return false };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        matches!(status.code, 404 | 422)
            || causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    }
}

/// Waits for one call with the usual time limit.
pub(crate) async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    within(LIMIT, call).await
}

/// Waits for one call with this time limit.
pub(crate) async fn within<T>(
    time: Duration,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    Ok(timeout(time, call).await.map_err(|_| CallError::Timeout)??)
}
