//! Reading one object by its name, when no watch has reported it.

use async_trait::async_trait;
use tokio::time::Instant;

use crate::cluster::object::Object;
use crate::domain::policy::Labels;
use crate::domain::slot::Kind;

/// Asks the API server for what a watch should have reported by now.
#[async_trait]
pub trait Reader: Send + Sync {
    /// The object of this kind and name, or nothing when it is not there or can not be read before the deadline.
    async fn object(&self, kind: Kind, namespace: &str, name: &str, deadline: Instant) -> Option<Object>;

    /// The labels of this namespace, or nothing when it is not there or can not be read before the deadline.
    async fn namespace_labels(&self, name: &str, deadline: Instant) -> Option<Labels>;
}
