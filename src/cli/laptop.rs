//! The rules for the registry that a person types on their own machine: it is asked wherever it is, as docker asks it.
//! The cluster's rules are for images that others write.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use url::Host;

use tagpin_domain::fact::{Class, Fact, Unavailable};
use tagpin_domain::remedy::{Entry, Holder, Setting, change};
use tagpin_registry::{Current, Endpoint, Network, Profiles, RegistryProfile, Transport};

/// The profiles of registries on the machine of a person. One that no entry names, and that the person typed, may have a
/// private address or a name of one word. What it leads to (a token service, a redirect) may not.
pub(crate) struct Laptop {
    registries: Arc<Current>,
    /// The domain of the image that was typed.
    typed: String,
    /// True to ask over plain http. Only a registry on this machine is asked so.
    plain: AtomicBool,
}

impl Laptop {
    /// Creates the rules for the registry with this domain.
    pub(crate) fn new(registries: Arc<Current>, typed: &str) -> Self {
        Self { registries, typed: typed.to_owned(), plain: AtomicBool::new(false) }
    }

    /// Returns true if the registry is to be asked again after this answer: it is on this machine, and does not speak
    /// TLS. From then on it is asked over plain http.
    pub(crate) fn asks_again(&self, fact: &Fact) -> bool {
        let without_tls = matches!(
            fact,
            Fact::Unavailable {
                cause: Unavailable::Tls | Unavailable::Connect | Unavailable::Unreadable,
                ..
            }
        );
        let profile = self.registries.profile(&self.typed);
        let local = profile.entry.is_none() && profile.upstream.as_ref().is_some_and(is_local);
        without_tls && local && !self.plain.swap(true, Ordering::Relaxed)
    }

    /// Returns what the cluster does, if it asks the registry differently. The fact is what the registry gave instead of an
    /// answer, if it gave none.
    pub(crate) async fn note(&self, fact: Option<&Fact>, transport: &Transport) -> Option<String> {
        let (profile, typed) = (self.registries.profile(&self.typed), &self.typed);
        let upstream = profile.upstream.as_ref().filter(|_| profile.entry.is_none())?;
        if fact.is_some_and(|fact| fact.class() == Class::Forbidden) {
            return None;
        }
        if is_local(upstream) {
            return Some(format!("the cluster does not ask {typed}: each machine means itself by that name"));
        }
        let cause = if profile.offline {
            "a host of one word is offline there"
        } else if transport.refuses(upstream, &self.registries.network()).await {
            "its address is private"
        } else {
            return None;
        };
        Some(format!("the cluster does not ask {typed}: {cause}; to let it ask, {}", allow(typed)))
    }

    fn endpoint(&self, cluster: &Endpoint) -> Endpoint {
        let mut endpoint = cluster.clone();
        if is_local(cluster) {
            if self.plain.load(Ordering::Relaxed) {
                let mut root = cluster.root().clone();
                // Only a URL without a host has no http variant.
                let _ = root.set_scheme("http");
                endpoint = Endpoint::new(root).unwrap_or(endpoint);
                endpoint.not_found = cluster.not_found;
            }
            // As for docker, the certificate of this machine is not verified.
            endpoint.tls.unverified = true;
        }
        endpoint.allow_private = true;
        endpoint
    }
}

impl Profiles for Laptop {
    fn profile(&self, domain: &str) -> Arc<RegistryProfile> {
        let profile = self.registries.profile(domain);
        if domain != self.typed || profile.entry.is_some() {
            return profile;
        }
        let upstream = profile.upstream.as_ref().map(|upstream| self.endpoint(upstream));
        Arc::new(RegistryProfile { offline: false, upstream, ..RegistryProfile::clone(&profile) })
    }

    fn network(&self) -> Arc<Network> {
        self.registries.network()
    }
}

/// Returns what to do so that the cluster asks a registry wherever it is.
fn allow(domain: &str) -> String {
    change(&[Entry::new(domain, None, Setting::AllowPrivate)], Holder::Values)
}

/// Returns true if the endpoint is on this machine.
fn is_local(endpoint: &Endpoint) -> bool {
    match endpoint.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).to_canonical().is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laptop(typed: &str) -> Laptop {
        Laptop::new(Arc::new(Current::load(None).unwrap()), typed)
    }

    #[test]
    fn what_a_person_types_is_asked_and_what_it_leads_to_is_not() {
        for typed in ["registry:5000", "localhost:5000", "10.0.0.7", "registry.corp", "ghcr.io"] {
            let laptop = laptop(typed);
            let asked = laptop.profile(typed);
            assert!(!asked.offline && asked.upstream.as_ref().unwrap().allow_private, "{typed}");
            for other in ["other:5000", "auth.corp", "10.0.0.8"] {
                let led_to = laptop.profile(other);
                assert!(!led_to.upstream.as_ref().unwrap().allow_private, "{typed} {other}");
                assert_eq!(led_to.offline, other == "other:5000", "{typed} {other}");
            }
        }
    }

    #[test]
    fn only_this_machine_is_asked_over_plain_http_and_only_after_tls_failed() {
        let no_tls = Fact::unavailable(Unavailable::Tls);
        for (typed, url) in [
            ("localhost:5000", "http://localhost:5000/v2"),
            ("127.0.0.2:5000", "http://127.0.0.2:5000/v2"),
            ("[::1]:5000", "http://[::1]:5000/v2"),
        ] {
            let laptop = laptop(typed);
            let endpoint = || laptop.profile(typed).upstream.clone().unwrap();
            assert!(!laptop.asks_again(&Fact::unavailable(Unavailable::Timeout)), "{typed}");
            assert!(!laptop.asks_again(&Fact::TagMissing), "{typed}");
            assert_eq!(endpoint().root().scheme(), "https");
            assert!(laptop.asks_again(&no_tls), "{typed}");
            assert_eq!(endpoint().root().as_str(), url);
            assert!(endpoint().allow_private && endpoint().tls.unverified);
            assert!(!laptop.asks_again(&no_tls), "{typed}: once is enough");
        }
        for typed in ["registry:5000", "10.0.0.7", "localhost.example.com", "registry.corp"] {
            let laptop = laptop(typed);
            assert!(!laptop.asks_again(&no_tls), "{typed}");
            assert!(!laptop.profile(typed).upstream.as_ref().unwrap().tls.unverified, "{typed}");
        }
    }
}
