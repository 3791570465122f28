//! The settings for all registries (`defaults`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::file::{self, ConfigError, Written};
use super::text::TypedDefaults;
use crate::profile::network::{IpNet, Network};
use crate::wire::guard::check_own;

/// Maximum value of `tagTTL`: the longest time after which a moved tag is seen.
const LONGEST_TTL: Duration = Duration::from_secs(60 * 60);
/// Maximum number of ranges in `privateNetworks`.
const NETWORKS: usize = 64;

/// The settings for all registries.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    pub(super) tag_ttl: Option<Duration>,
    pub(super) network: Arc<Network>,
}

impl Defaults {
    /// Reads the settings.
    ///
    /// # Errors
    /// Returns an error for an invalid value.
    pub(super) fn read(file: &Path, typed: TypedDefaults) -> Result<Self, ConfigError> {
        let wrong = |text: &Written, key: &str, problem: String| {
            file::mistake(file, Some(text.referenced), format!("defaults.{key}"), problem)
        };
        let tag_ttl = typed.tag_ttl.map(|written| {
            ttl(&written.value).map_err(|problem| wrong(&written, "tagTTL", problem.to_owned()))
        });
        let networks = typed.private_networks.unwrap_or_default();
        if let Some(one_too_many) = networks.get(NETWORKS) {
            return Err(wrong(one_too_many, "privateNetworks", format!("write at most {NETWORKS} ranges")));
        }
        let net = |(index, written): (usize, &Written)| {
            let key = format!("privateNetworks[{index}]");
            let net =
                IpNet::parse(&written.value).map_err(|error| wrong(written, &key, error.to_string()))?;
            check_own(&net).map_err(|problem| wrong(written, &key, problem.to_owned()))?;
            Ok(net)
        };
        let own: Vec<IpNet> = networks.iter().enumerate().map(net).collect::<Result<_, _>>()?;
        let own = (!own.is_empty()).then(|| own.into());
        Ok(Self { tag_ttl: tag_ttl.transpose()?, network: Arc::new(Network { own }) })
    }
}

/// Parses a time such as `60s`, `1m 30s` or `PT1M`; 0s stands for none.
fn ttl(text: &str) -> Result<Duration, &'static str> {
    let problem = "write a time of at most one hour, such as 60s or 2m; 0s asks the registry each time";
    let time = text.parse::<jiff::SignedDuration>().map_err(|_| problem)?;
    let time = Duration::try_from(time).map_err(|_| problem)?;
    if time > LONGEST_TTL { Err(problem) } else { Ok(time) }
}
