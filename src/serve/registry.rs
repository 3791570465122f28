//! The configuration of registries, which is read again when its files change, and the page `GET /registries`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::settings::Settings;
use tagpin_registry::{
    Cache, Client, ConfigError, Current, LastAsked, Limit, Registries, RegistryMetrics, Reloaded, RestingHost,
};

/// Interval between checks of the files. The kubelet takes longer to update a file in the pod.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of hosts that are named for one registry.
const HOSTS: usize = 8;

/// The registry client with its limits and its cache.
pub(crate) type Registry = Cache<Limit<Client>>;

/// Reads the configuration, and logs its warnings.
pub(crate) fn configuration(settings: &Settings) -> Result<Current, ConfigError> {
    let current = Current::load_inside(settings.registries.as_deref(), settings.cluster_addresses.clone())?;
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

/// Returns the content of `GET /registries`: the last result of each registry, and its hosts that are not asked for a
/// moment.
pub(crate) fn page(
    metrics: RegistryMetrics,
    client: Client,
) -> impl Fn() -> Vec<LastAsked> + Clone + Send + Sync {
    move || with_resting(metrics.last(), client.resting())
}

/// Adds the hosts that rest to the rows of their registries.
fn with_resting(mut rows: Vec<LastAsked>, mut resting: Vec<RestingHost>) -> Vec<LastAsked> {
    resting.sort_by(|one, other| one.origin.cmp(&other.origin));
    for RestingHost { registry, origin } in resting {
        let index = rows.iter().position(|row| *row.registry == *registry).unwrap_or_else(|| {
            rows.push(LastAsked { registry: registry.into(), ..LastAsked::default() });
            rows.len() - 1
        });
        let Some(row) = rows.get_mut(index) else { continue };
        row.resting += 1;
        if row.resting_hosts.len() < HOSTS && !row.resting_hosts.iter().any(|known| **known == *origin) {
            row.resting_hosts.push(origin.into());
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_rest_are_named_at_their_registry_and_no_more_than_eight() {
        let asked = |registry: &str| LastAsked { registry: registry.to_owned(), ..LastAsked::default() };
        let rests = |registry: &str, host: String| RestingHost {
            registry: registry.into(),
            origin: format!("https://{host}").into(),
        };
        let mut resting: Vec<RestingHost> =
            (0..10).rev().map(|number| rests("other", format!("{number}.test"))).collect();
        resting.push(rests("docker.io", "mirror.test".to_owned()));
        resting.push(rests("docker.io", "mirror.test".to_owned()));
        let rows = with_resting(vec![asked("docker.io")], resting);
        let eight: Vec<String> = (0..8).map(|number| format!("https://{number}.test")).collect();
        let said: Vec<_> = rows.iter().map(|row| (row.resting, row.resting_hosts.as_slice())).collect();
        assert_eq!(said, [(2, &["https://mirror.test".to_owned()][..]), (10, eight.as_slice())]);
    }
}
