//! The settings for all registries (`defaults`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::file::{self, ConfigError, Files, Written};
use super::text::{TypedDefaultTls, TypedDefaults};
use crate::credential::Credential;
use crate::profile::network::{IpNet, Network};
use crate::profile::proxy::{NoProxy, ProxyWay};
use crate::profile::tls::CaBundle;
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
    pub(super) fn read(file: &Path, files: &Files, typed: TypedDefaults) -> Result<Self, ConfigError> {
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
        let bytes = |written: &Written, key: &str| {
            let path = file::beside(file, &written.value);
            let read = files.read(&path);
            read.map_err(|cause| wrong(written, key, format!("read {}: {cause}", path.display())))
        };
        let useless = [
            ("noProxy", typed.no_proxy.as_deref().and_then(<[Written]>::first)),
            ("proxyCredentialsFile", typed.proxy_credentials_file.as_ref()),
        ];
        let useless = useless.into_iter().find_map(|(key, written)| Some((key, written?)));
        if let Some((key, written)) = useless.filter(|_| typed.proxy.is_none()) {
            return Err(wrong(written, key, "has no effect without proxy".to_owned()));
        }
        let credential = typed.proxy_credentials_file.map(|written| {
            let key = "proxyCredentialsFile";
            user_and_password(&bytes(&written, key)?)
                .ok_or_else(|| wrong(&written, key, "the file must hold one line: user:password".to_owned()))
        });
        let credential = credential.transpose()?;
        let proxy = typed.proxy.map(|written| {
            let way = ProxyWay::new(&written.value, credential);
            way.map(Arc::new).map_err(|error| wrong(&written, "proxy", error.to_string()))
        });
        let proxy = proxy.transpose()?;
        let mut no_proxy = NoProxy::default();
        for (index, written) in typed.no_proxy.iter().flatten().enumerate() {
            let key = format!("noProxy[{index}]");
            no_proxy.add(&written.value).map_err(|error| wrong(written, &key, error.to_string()))?;
        }
        let ca = typed.tls.map(|TypedDefaultTls { ca_file: written }| {
            let ca = CaBundle::parse(&bytes(&written, "tls.caFile")?);
            ca.map_err(|error| wrong(&written, "tls.caFile", error.to_string()))
        });
        let ca = ca.transpose()?;
        Ok(Self { tag_ttl: tag_ttl.transpose()?, network: Arc::new(Network { own, proxy, no_proxy, ca }) })
    }
}

/// Parses `user:password`, with or without a line end.
fn user_and_password(content: &[u8]) -> Option<Credential> {
    let line = std::str::from_utf8(content).ok()?;
    let line = line.strip_suffix('\n').unwrap_or(line);
    let (user, password) = line.strip_suffix('\r').unwrap_or(line).split_once(':')?;
    let valid = !user.is_empty() && !line.contains(['\n', '\0']);
    valid.then(|| Credential::basic(user.to_owned(), password.into()))
}

/// Parses a time such as `60s`, `1m 30s` or `PT1M`; 0s stands for none.
fn ttl(text: &str) -> Result<Duration, &'static str> {
    let problem = "write a time of at most one hour, such as 60s or 2m; 0s asks the registry each time";
    let time = text.parse::<jiff::SignedDuration>().map_err(|_| problem)?;
    let time = Duration::try_from(time).map_err(|_| problem)?;
    if time > LONGEST_TTL { Err(problem) } else { Ok(time) }
}
