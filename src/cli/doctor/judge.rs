//! Makes the rows of the report from the answers of the cluster. It asks nothing itself.

use crate::cli::doctor::findings::Findings;

pub(crate) use row::{Row, Status};

mod baseline;
mod configuration;
mod parts;
mod policies;
mod refused;
mod replicas;
mod row;
mod stored;
mod unpinned;
mod unused;
mod webhooks;

#[cfg(test)]
mod tests;

/// Returns all rows. Causes come before their consequences.
pub(crate) fn judge(found: &Findings) -> Vec<Row> {
    [
        parts::crds(found),
        parts::permissions(found),
        replicas::replicas(found),
        replicas::leader(found),
        parts::certificate(found),
        webhooks::filled(found),
        webhooks::release(found),
        webhooks::reached(found),
        webhooks::namespaces(found),
        policies::policies(found),
        refused::refused(found),
        baseline::baseline(found),
        stored::unreadable(found),
        configuration::configuration(found),
        replicas::registries(found),
        unpinned::unpinned(found),
        unpinned::undone(found),
        policies::pull_secrets(found),
    ]
    .concat()
}
