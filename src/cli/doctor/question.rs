//! One question to the cluster: it has a time limit, and a failure says what was asked.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;

use crate::cli::doctor::findings::Answer;

/// Time limit for one question.
const LIMIT: Duration = Duration::from_secs(10);

/// Waits for the answer of the API server. A failure starts with `what`, which names the question: `list pods`.
pub(crate) async fn ask<T>(what: &str, question: impl Future<Output = kube::Result<T>>) -> Answer<T> {
    match timeout(LIMIT, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(format!("{what}: {}", status.message)),
        Ok(Err(cause)) => Err(format!("{what}: {cause}")),
        Err(_) => Err(format!("{what}: no answer within {} s", LIMIT.as_secs())),
    }
}
