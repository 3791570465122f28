//! The configuration of registries, read again when its files change, and the page of how it went with each.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::settings::Settings;
use tagpin_registry::{
    Cache, Client, ConfigError, Current, LastAsked, Limit, Registries, RegistryMetrics, Reloaded,
};

/// The kubelet takes longer than this to bring a changed file into the pod.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What answers questions about tags.
pub(crate) type Registry = Cache<Limit<Client>>;

/// Reads the configuration, and says in the log what its author may not expect.
pub(crate) fn configuration(settings: &Settings) -> Result<Current, ConfigError> {
    let current = Current::load(settings.registries.as_deref())?;
    warn_of(&current.get());
    Ok(current)
}

fn warn_of(registries: &Registries) {
    for warning in registries.warnings() {
        warn!(warning, "the configuration of registries");
    }
}

/// Puts the configuration into force again whenever its files change, and says once what is wrong with one that can not.
pub(crate) async fn follow(current: Arc<Current>, metrics: RegistryMetrics) -> Infallible {
    let mut said = None;
    metrics.configured(true, current.get().unverified());
    loop {
        sleep(LOOK_AGAIN).await;
        let wrong = match current.reload() {
            Reloaded::Same => None,
            Reloaded::Changed(registries) => {
                info!("the configuration of registries changed");
                warn_of(&registries);
                None
            }
            Reloaded::Refused(error) => Some(error.to_string()),
        };
        if let Some(error) = wrong.as_ref().filter(|_| wrong != said) {
            error!(error, "the configuration of registries can not be used; the last one stays in force");
        }
        metrics.configured(wrong.is_none(), current.get().unverified());
        said = wrong;
    }
}

/// What `GET /registries` shows: how it went last with each registry, and which are left alone.
pub(crate) fn page(
    metrics: RegistryMetrics,
    registry: Arc<Registry>,
) -> impl Fn() -> Vec<LastAsked> + Clone + Send + Sync {
    move || {
        let mut rows = metrics.last();
        for label in registry.resting() {
            match rows.iter_mut().find(|row| *row.registry == *label) {
                Some(row) => row.resting += 1,
                None => {
                    rows.push(LastAsked { registry: label.to_string(), resting: 1, ..LastAsked::default() })
                }
            }
        }
        rows
    }
}
