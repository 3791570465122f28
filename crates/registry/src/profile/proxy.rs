//! The proxy that leads to registries, and the hosts that are asked without it.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use url::{Host, Url, form_urlencoded};

use crate::credential::{Credential, CredentialId};
use crate::profile::network::IpNet;

/// A proxy, with the credential that it wants.
#[derive(Debug, Clone)]
pub struct ProxyWay {
    url: Url,
    credential: Option<(Credential, CredentialId)>,
}

/// The reason why a text is not the URL of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write the URL of the proxy without a user and a path: http://proxy.example.com:3128")]
pub struct ProxyError;

/// The hosts that are asked without the proxy, as `NO_PROXY` writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoProxy {
    rules: Vec<Rule>,
}

/// The reason why a text is not a rule of hosts without a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a host (with its subdomains), .example.com (subdomains alone), an address, a range, or *")]
pub struct NoProxyError;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    All,
    Net(IpNet),
    Host {
        name: String,
        port: Option<u16>,
        /// True if the rule is for subdomains alone.
        below: bool,
    },
}

impl ProxyWay {
    /// Parses the URL of a proxy; the credential is the content of a file with `user:password`.
    ///
    /// # Errors
    /// Returns an error for any other URL.
    pub fn new(url: &str, credential: Option<Credential>) -> Result<Self, ProxyError> {
        let url = Url::parse(url).map_err(|_| ProxyError)?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        let scheme = matches!(url.scheme(), "http" | "https");
        if !scheme || !plain || !url.has_host() || url.path() != "/" || url.fragment().is_some() {
            return Err(ProxyError);
        }
        let credential = credential.map(|credential| {
            let id = CredentialId::of(&credential);
            (credential, id)
        });
        Ok(Self { url, credential })
    }

    /// Parses the URL of a proxy as `HTTPS_PROXY` has it: with a user and a password, or without a scheme.
    ///
    /// # Errors
    /// Returns an error for any other URL.
    pub fn with_user(text: &str) -> Result<Self, ProxyError> {
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url = Url::parse(&with_scheme).map_err(|_| ProxyError)?;
        let user = decoded(url.username());
        let password = decoded(url.password().unwrap_or_default());
        url.set_password(None).and_then(|()| url.set_username("")).map_err(|()| ProxyError)?;
        let credential = (!user.is_empty()).then(|| Credential::basic(user, password.into()));
        Self::new(url.as_str(), credential)
    }

    /// Returns the URL.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the credential that the proxy wants.
    pub(crate) fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref().map(|(credential, _)| credential)
    }

    fn key(&self) -> (&Url, Option<CredentialId>) {
        (&self.url, self.credential.as_ref().map(|(_, id)| *id))
    }
}

/// Compares a keyed hash of the credential.
impl PartialEq for ProxyWay {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ProxyWay {}

impl Hash for ProxyWay {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl NoProxy {
    /// Adds a rule. As for containerd, a host stands for its subdomains too.
    ///
    /// # Errors
    /// Returns an error for a text of another form.
    pub fn add(&mut self, text: &str) -> Result<(), NoProxyError> {
        self.rules.push(Rule::parse(text.trim())?);
        Ok(())
    }

    /// Returns true if the host of the URL is asked without the proxy. This machine always is.
    #[must_use]
    pub fn covers(&self, url: &Url) -> bool {
        let address: Option<IpAddr> = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain("localhost")) | None => return true,
            Some(Host::Domain(name)) if name.ends_with(".localhost") => return true,
            Some(Host::Domain(_)) => None,
        };
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        address.is_some_and(|address| address.to_canonical().is_loopback())
            || self.rules.iter().any(|rule| match rule {
                Rule::All => true,
                Rule::Net(net) => address.is_some_and(|address| net.contains(address)),
                Rule::Host { name, port, below } => {
                    let is_port = port.is_none_or(|port| url.port_or_known_default() == Some(port));
                    let rest = host.strip_suffix(name.as_str());
                    let under = rest.is_some_and(|rest| address.is_none() && rest.ends_with('.'));
                    is_port && (under || !below && rest == Some(""))
                }
            })
    }
}

/// Decodes the percent-encoding of a user or a password. Forms write a space as +, and separate fields by &.
fn decoded(text: &str) -> String {
    let field = text.replace('+', "%2B").replace('&', "%26");
    form_urlencoded::parse(field.as_bytes())
        .next()
        .map(|(name, value)| match value.is_empty() && !field.contains('=') {
            true => name.into_owned(),
            false => format!("{name}={value}"),
        })
        .unwrap_or_default()
}

impl Rule {
    fn parse(text: &str) -> Result<Self, NoProxyError> {
        if text == "*" {
            return Ok(Self::All);
        }
        if text.contains('/') {
            return IpNet::parse(text).map(Self::Net).map_err(|_| NoProxyError);
        }
        if let Ok(IpAddr::V6(address)) = text.parse() {
            return Ok(Self::Host { name: format!("[{address}]"), port: None, below: false });
        }
        let below = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        let url = Url::parse(&format!("http://{}", below.unwrap_or(text))).map_err(|_| NoProxyError)?;
        let host = url.host_str().unwrap_or_default();
        let name_alone = below.unwrap_or(text).rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        let typed = name_alone.map_or(below.unwrap_or(text), |(host, _)| host);
        let port = name_alone.map(|(_, port)| port.parse().map_err(|_| NoProxyError)).transpose()?;
        if !host.eq_ignore_ascii_case(typed) || host.contains('*') {
            return Err(NoProxyError);
        }
        Ok(Self::Host { name: host.to_owned(), port, below: below.is_some() })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn hosts_without_the_proxy_are_written_as_for_the_nodes() {
        for (rule, inside, outside) in [
            ("*", "https://any.example", ""),
            ("corp.example", "https://corp.example", "https://notcorp.example"),
            ("corp.example", "https://a.b.corp.example:5000", "https://corp.example.org"),
            (".corp.example", "https://a.corp.example", "https://corp.example"),
            ("*.corp.example", "https://a.corp.example", "https://corp.example"),
            ("corp.example:5000", "https://corp.example:5000", "https://corp.example"),
            ("corp.example:443", "https://corp.example", "https://corp.example:5000"),
            ("CORP.example", "https://corp.example", "https://corp.test"),
            ("10.0.0.7", "https://10.0.0.7:5000", "https://10.0.0.8"),
            ("0.0.7", "https://a.example", "https://10.0.0.7"),
            ("10.0.0.0/8", "https://10.9.9.9", "https://11.0.0.1"),
            ("10.0.0.0/8", "https://[::ffff:10.9.9.9]", "https://ten.example"),
            ("fd00::1", "https://[fd00::1]:5000", "https://[fd00::2]"),
            ("[fd00::1]:5000", "https://[fd00::1]:5000", "https://[fd00::1]"),
        ] {
            let mut none = NoProxy::default();
            let read = none.add(rule);
            if rule == "0.0.7" {
                assert_eq!(read, Err(NoProxyError), "an address in a form that a URL spells in another way");
                continue;
            }
            read.unwrap_or_else(|error| panic!("{rule}: {error}"));
            assert!(none.covers(&Url::parse(inside).unwrap()), "{rule} {inside}");
            if let Ok(outside) = Url::parse(outside) {
                assert!(!none.covers(&outside), "{rule} {outside}");
            }
        }
        for text in [
            "",
            "https://corp.example",
            "a b",
            "corp.example:x",
            "10.0.0.0/99",
            "a*.example",
            "u@corp.example",
        ] {
            assert_eq!(NoProxy::default().add(text), Err(NoProxyError), "{text}");
        }
    }

    #[test]
    fn this_machine_is_never_asked_through_a_proxy() {
        for url in [
            "http://localhost:5000",
            "http://a.localhost",
            "http://127.0.0.1",
            "http://[::1]",
            "http://127.1",
        ] {
            assert!(NoProxy::default().covers(&Url::parse(url).unwrap()), "{url}");
        }
        assert!(!NoProxy::default().covers(&Url::parse("http://10.0.0.1").unwrap()));
    }

    #[test]
    fn the_proxy_of_the_environment_may_have_a_user() {
        for (text, url, user) in [
            ("http://u:p%40%2B+%26=x@proxy:3128", "http://proxy:3128/", Some(("u", "p@++&=x"))),
            ("proxy.corp:3128", "http://proxy.corp:3128/", None),
            ("https://u@proxy", "https://proxy/", Some(("u", ""))),
        ] {
            let way = ProxyWay::with_user(text).unwrap();
            assert_eq!(way.url().as_str(), url);
            let said = way.credential().map(|credential| match credential {
                Credential::Basic { username, password } => (username.as_str(), password.expose_secret()),
                other => panic!("{other:?}"),
            });
            assert_eq!(said, user, "{text}");
        }
        assert_eq!(ProxyWay::with_user("socks5://proxy").map(drop), Err(ProxyError));
    }

    #[test]
    fn a_proxy_is_a_url_without_a_user_and_a_path() {
        assert!(ProxyWay::new("http://proxy.example.com:3128", None).is_ok());
        for url in [
            "proxy:3128",
            "socks5://proxy",
            "http://u:p@proxy",
            "http://proxy/x",
            "http://proxy?x",
            "http://",
        ] {
            assert_eq!(ProxyWay::new(url, None).map(drop), Err(ProxyError), "{url}");
        }
    }
}
