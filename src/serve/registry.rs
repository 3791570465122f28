//! The configuration of registries, which is read again when its files change, and the page `GET /registries`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::settings::Settings;
use tagpin_registry::{
    Cache, Client, ConfigError, Current, LastAsked, Limit, Registries, RegistryMetrics, Reloaded,
};

/// Interval between checks of the files. The kubelet takes longer to update a file in the pod.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// The registry client with its limits and its cache.
pub(crate) type Registry = Cache<Limit<Client>>;

/// Reads the configuration, and logs its warnings.
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

/// Reloads the configuration whenever its files change, for ever. A mistake is logged once.
pub(crate) async fn follow(current: Arc<Current>, metrics: RegistryMetrics) -> Infallible {
    let mut said = None;
    metrics.configured(true, current.get().unverified());
    loop {
        sleep(RELOAD_INTERVAL).await;
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
            error!(error, "the configuration of registries is invalid; the last valid one stays in force");
        }
        metrics.configured(wrong.is_none(), current.get().unverified());
        said = wrong;
    }
}

/// Returns the content of `GET /registries`: the last result of each registry, and the registries that are not asked
/// for a moment.
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
